"""Records as the rows of a spec's table, in one world of data sets."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from micl_bench.records.declared import Better
from micl_bench.records.result import Record, Result
from micl_bench.report.compare.against_published import Verdict
from micl_bench.report.frame.assumed import assumed_words
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.lineage import Lineage
from micl_bench.report.frame.metrics import method_rank
from micl_bench.report.frame.public_or_own import place_of
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.measured_cell import Notes, measured_cell, remarks
from micl_bench.report.tables.model import Cell, Row
from micl_bench.report.tables.pretraining_columns import MISSING, measured_fact
from micl_bench.report.tables.published_notes import Beside
from micl_bench.report.tables.ranking import Standing, standings
from micl_bench.report.tables.row_grouping import Columns, Layout, Line, lay_out
from micl_bench.report.tables.row_names import name_rows
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn, TableSpec
from micl_bench.report.tables.verdicts import Comparison, compare, verdict

# SimCLR's lists of 1 % and 10 % are of these images.
_IMAGENET_TRAIN = 1_281_167
_OLDER = "an older recipe of the same protocol"

Wanted = Callable[[Result], bool]
Named = Callable[[Result], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """A table's measured rows, and what its caption must say."""

    rows: tuple[Row, ...]
    results: tuple[Result, ...]
    """Of each row any record."""
    archs: tuple[str, ...]
    protocols: tuple[str, ...]
    """Sentences on protocols that need no mark."""
    verdict: str
    stands_for: tuple[tuple[str, str], ...]
    sets: dict[int, str]
    """By column, the set that heads it instead of the public one."""
    data: dict[int, str]
    """By column, the images of its numbers, where they are no public set's."""
    better: dict[int, Better]
    """By column, which way is better."""
    notes: Notes


class MeasuredRows:
    """The records of a report by where they belong."""

    def __init__(self, selection: Selection, found: Iterable[Verdict]) -> None:
        """Take the records, and the verdicts on them against published numbers."""
        self._lineage = Lineage(selection.records)
        self._beside = Beside(found)
        self._records: dict[tuple[str, str, str], list[Record]] = {}
        for result in reversed(selection.current):
            place = place_of(result)
            key = (result.task, place.world, place.public_set)
            self._records.setdefault(key, []).append(result)

    @property
    def worlds(self) -> list[str]:
        """In the order of the report: that of the public sets, then the others by name."""
        return sorted({world for _, world, _ in self._records})

    def of_column(self, column: ScoreColumn, world: str) -> list[Record]:
        """The records of one column, newest first."""
        return [
            result
            for task in column.tasks
            for result in self._records.get((task, world, column.data), ())
            if column.metric in result.metrics and has_share(result, column.labels)
        ]

    def rows(
        self,
        spec: TableSpec,
        world: str,
        notes: Notes,
        *,
        wanted: Wanted = lambda result: True,
        baseline: Named | None = None,
        study: Named = lambda result: "",
    ) -> Measured | None:
        """The rows of a table, or None where it has no record.

        Args:
            wanted: which records belong into it.
            baseline: what to call the rows that differences are from, nothing for others; the spec's
                methods if None.
            study: only rows of the same are held against each other.
        """
        scores = {n: one for n, one in enumerate(spec.columns) if isinstance(one, ScoreColumn)}
        columns = {
            number: ((column.tasks, column.labels), found)
            for number, column in scores.items()
            if (found := [r for r in self.of_column(column, world) if wanted(r)])
        }
        if not columns:
            return None
        layout = lay_out(columns)
        lines = sorted(layout.lines, key=_order)
        any_of = [next(iter(line.columns.values()))[0] for line in lines]
        names = name_rows(
            (line.network, result) for line, result in zip(lines, any_of, strict=True)
        )
        rivals = (list(map(study, any_of)), _baselines(spec, any_of, baseline))
        cells, comparisons = self._cells(spec, lines, layout, rivals, notes)
        used = [result for _, found in columns.values() for result in found]
        return Measured(
            rows=tuple(
                Row(label=names[line.network], kind="measured", cells=row)
                for line, row in zip(lines, cells, strict=True)
            ),
            results=tuple(any_of),
            archs=tuple(dict.fromkeys(result.arch for result in any_of)),
            protocols=_protocols(columns, layout),
            verdict="" if spec.axes else verdict(comparisons),
            stands_for=_stand_ins(used),
            sets={n: _shifted_set(found[1]) for n, found in columns.items()},
            data={n: _own_names(found) for n, (_, found) in columns.items()},
            better={
                n: found[0].metrics[scores[n].metric].better for n, (_, found) in columns.items()
            },
            notes=notes,
        )

    def _cells(
        self,
        spec: TableSpec,
        lines: list[Line],
        layout: Layout,
        rivals: tuple[list[str], list[dict[int, str]]],
        notes: Notes,
    ) -> tuple[list[tuple[Cell, ...]], list[Comparison]]:
        """The cells of each line; `rivals` are the lines' studies, and the baselines."""
        found: list[list[Cell]] = [[] for _ in lines]
        results = [_results(line) for line in lines]
        comparisons: list[Comparison] = []
        for number, column in enumerate(spec.columns):
            if isinstance(column, FactColumn):
                for own, cells in zip(results, found, strict=True):
                    cells.append(measured_fact(column.fact, own, self._lineage))
                continue
            entries = {
                row: entry_of(column.metric, line.columns[number])
                for row, line in enumerate(lines)
                if number in line.columns
            }
            standing = standings(entries, *rivals)
            comparisons += compare(_where(column, entries), entries, standing)
            for row, (line, cells) in enumerate(zip(lines, found, strict=True)):
                cells.append(
                    self._cell(spec, number, line, layout, entries[row], standing[row], notes)
                    if row in entries
                    else MISSING
                )
        return [tuple(cells) for cells in found], comparisons

    def _cell(
        self,
        spec: TableSpec,
        number: int,
        line: Line,
        layout: Layout,
        entry: Entry,
        standing: Standing,
        notes: Notes,
    ) -> Cell:
        words = [layout.captions[entry.first.id]] if number in layout.mixed else []
        words += [_OLDER] if number in line.older else []
        words += remarks(entry)
        # An ablation is about differences between its own rows.
        details, more = ((), []) if spec.axes else self._beside.words(entry)
        words += assumed_words(entry.runs)
        return measured_cell(entry, standing, [*words, *more], notes, details=details)


def _own_names(results: Iterable[Result]) -> str:
    return " / ".join(sorted({r.data.name for r in results if place_of(r).world}))


def _shifted_set(results: Iterable[Result]) -> str:
    """The set that heads a column of shifted sets, where it is not the public one."""
    return _own_names(one for one in results if not one.about.public_set)


def _where(column: ScoreColumn, entries: Mapping[int, Entry]) -> str:
    """`ImageNet-A top-1`: without units, and without a group that only has one."""
    group = _shifted_set(entry.first for entry in entries.values()) or column.group
    words = (group if "[" not in group else "", column.header)
    return " ".join(word.partition(" [")[0] for word in words if word)


def _order(line: Line) -> tuple[object, ...]:
    return (method_rank(line.network.method), line.network)


def _results(line: Line) -> list[Result]:
    unique = {result.id: result for runs in line.columns.values() for result in runs}
    return list(unique.values())


def has_share(result: Result, share: float | None) -> bool:
    """Whether a record is of that share of the training labels."""
    if share is None:
        return True
    labels = result.settings.get("labels")
    if not isinstance(labels, dict):
        return share == 1
    drawn, listed = labels.get("drawn by seed, share of each class"), labels.get("images")
    if isinstance(listed, int):
        return math.isclose(listed / _IMAGENET_TRAIN, share, rel_tol=0.001)
    return isinstance(drawn, float) and drawn == share


def _baselines(
    spec: TableSpec, any_of: Sequence[Result], baseline: Named | None
) -> list[dict[int, str]]:
    """Rows that differences are from, the first choice first, and what to call each."""
    if baseline is not None:
        named = {row: baseline(result) for row, result in enumerate(any_of)}
        return [{row: name for row, name in named.items() if name}]
    return [
        {row: method for row, result in enumerate(any_of) if result.method == method}
        for method in spec.baselines
    ]


def _protocols(columns: Columns, layout: Layout) -> tuple[str, ...]:
    told = {
        layout.captions[result.id]: None
        for number, (_, results) in columns.items()
        if number not in layout.mixed
        for result in results
    }
    return tuple(f"{words[0].upper()}{words[1:].rstrip('.')}." for words in told if words)


def _stand_ins(results: Iterable[Result]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({(r.data.name, r.data.stands_for) for r in results if r.data.stands_for}))
