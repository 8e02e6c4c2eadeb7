"""Measured numbers beside published ones of the same protocol: a table, and small print elsewhere."""

from collections.abc import Iterable

from micl_bench.records.published import measures
from micl_bench.report.compare.against_published import Verdict
from micl_bench.report.frame.entries import Entry
from micl_bench.report.tables.model import Cell, Column, Row, Table


def published_table(found: Iterable[Verdict]) -> Table:
    """Return the table of measured numbers, each beside the published one of its protocol."""
    columns = {
        **dict.fromkeys(("verdict", "task", "metric"), False),
        **dict.fromkeys(("measured", "published"), True),
        "protocol": False,
    }
    return Table(
        name="against-published",
        title="Measured against published",
        caption="Where both exist for one method, network, task, metric and protocol. Consistent: the "
        "measured 95 % interval reaches what the printed number stands for; below, above: all of it "
        "lies there.",
        columns=tuple(
            Column(key=header, group="", header=header, numeric=numeric)
            for header, numeric in columns.items()
        ),
        rows=tuple(map(_row, found)),
        footnotes=(),
    )


def _row(found: Verdict) -> Row:
    reference, entry, (low, high) = found.reference, found.entry, found.interval
    measured = Cell(
        text=f"{entry.mean:.2f}",
        value=entry.mean,
        kind="measured",
        details=(f"{low:.2f} to {high:.2f}", *([found.over] if found.over else [])),
        records=tuple(run.id for run in entry.runs),
        interval=found.interval,
        runs=len(entry.values),
    )
    published = Cell(
        text=reference.shown,
        value=reference.value,
        kind="published",
        details=(reference.source,),
        records=(reference.id,),
    )
    cells = (
        _words(found.word, *([found.condition] if found.condition else [])),
        _words(f"{entry.first.about.title}, {measures(reference)[1]}"),
        _words(reference.facts.header),
        measured,
        published,
        _words(reference.protocol),
    )
    return Row(label=f"{reference.method}, {reference.arch}", kind="measured", cells=cells)


def _words(text: str, *details: str) -> Cell:
    return Cell(text=text, kind="words", details=details)


class Beside:
    """The verdicts on each number, for the small print and the footnote of its cell."""

    def __init__(self, found: Iterable[Verdict]) -> None:
        self._found: dict[tuple[str, str], list[Verdict]] = {}
        for verdict in found:
            for run in verdict.entry.runs:
                self._found.setdefault((run.id, verdict.entry.metric), []).append(verdict)

    def words(self, entry: Entry) -> tuple[tuple[str, ...], list[str]]:
        """Return the small print of a number, and the texts of its footnotes."""
        found = self._found.get((entry.first.id, entry.metric), [])
        lines = [
            f"{one.reference.shown} ({one.reference.source}) is of the same protocol"
            for one in found
        ]
        notes = [f"against published numbers: {'; '.join(lines)}"] if lines else []
        return tuple(dict.fromkeys(map(_brief, found))), notes


def _brief(verdict: Verdict) -> str:
    word = "consistent with" if verdict.word == "consistent" else verdict.word
    condition = f", {verdict.condition}" if verdict.condition else ""
    return f"{word} published {verdict.reference.shown}{condition}"
