"""The caption and the columns of a spec's table."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from micl_bench.records.published import Reference
from micl_bench.records.result import Record
from micl_bench.report.frame.entries import Entry
from micl_bench.report.frame.long import place_of
from micl_bench.report.tables.model import Column, Row, Table
from micl_bench.report.tables.pretraining_columns import is_numeric
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn, TableSpec

_BEST = (
    "Bold is the best of its protocol and network; ≈ marks numbers that a test does not distinguish "
    "from it."
)
_SEEDS = "± is the standard deviation over seeds, n - 1."
_INTERVALS = "Ranges are 95 % intervals: over images for one run, Student's t over seeds."
_P = "p is against the best, adjusted by Holm's method over the column."
_PUBLISHED = (
    "Rows with a dagger are published numbers, under the protocols of their notes; they are not "
    "compared with measured ones."
)


def caption_of(spec: TableSpec, protocols: Iterable[str], rows: Sequence[Row]) -> str:
    """Return the spec's words, sentences on protocols, and those on the signs that the rows have."""
    cells = [cell for row in rows for cell in row.cells]
    against = dict.fromkeys(cell.against for cell in cells if cell.delta)
    words = {
        _INTERVALS: any(cell.interval for cell in cells),
        _SEEDS: any(cell.deviation is not None for cell in cells),
        _BEST: any(cell.best for cell in cells),
        _P: any("p = " in line for cell in cells for line in cell.details),
        f"With a sign: {', or '.join(against)}.": bool(against),
        _PUBLISHED: any(row.kind == "published" for row in rows),
    }
    needed = (sentence for sentence, is_needed in words.items() if is_needed)
    return " ".join([spec.caption, *protocols, *needed])


def column_of(
    column: FactColumn | ScoreColumn, results: Sequence[Record], references: Iterable[Reference]
) -> Column:
    """Return a spec's column as tables show it, given the records and published numbers in it."""
    if isinstance(column, FactColumn):
        return Column(
            key=column.fact,
            group=column.group,
            header=column.header,
            numeric=is_numeric(column.fact),
        )
    published = (o.facts.better for o in references if (o.task, o.metric) in column.published)
    better = results[0].metrics[column.metric].better if results else next(published, "")
    share = "" if column.labels in (None, 1.0) else f" {column.labels:g}"
    metric = column.metric or column.published[0][1]
    return Column(
        key=f"{'+'.join(column.tasks)} {_own_names(results) or column.data} {metric}{share}",
        group=_shifted_set(results) or column.group,
        header=column.header,
        numeric=True,
        higher_is_better=better == "higher" if better else None,
    )


def where_of(column: ScoreColumn, entries: Iterable[Entry]) -> str:
    """Return the name of a column in sentences, without units: `ImageNet-A top-1`."""
    group = _shifted_set(entry.first for entry in entries) or column.group
    words = (group if "[" not in group else "", column.header)
    return " ".join(word.partition(" [")[0] for word in words if word)


def _shifted_set(results: Iterable[Record]) -> str:
    """Return the name of the shifted set that heads a column, where it is not the public one."""
    return _own_names(one for one in results if not one.about.public_set)


def _own_names(results: Iterable[Record]) -> str:
    """Return the names of the data sets of some numbers that are no public sets."""
    return " / ".join(sorted({r.data.name for r in results if place_of(r).world}))


def without_empty_columns(table: Table) -> Table:
    """Return the table without columns in which every cell is missing."""
    kept = [
        number
        for number in range(len(table.columns))
        if any(row.cells[number].kind != "missing" for row in table.rows)
    ]
    return dataclasses.replace(
        table,
        columns=tuple(table.columns[number] for number in kept),
        rows=tuple(
            dataclasses.replace(row, cells=tuple(row.cells[number] for number in kept))
            for row in table.rows
        ),
    )


def slug(words: str) -> str:
    """Return words as they may stand in a file name and an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:50] or "set"
