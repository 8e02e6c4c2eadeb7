"""Tables and records as files: Markdown, LaTeX and CSV."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from micl_bench.records.result import Result
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.report.write.latex import to_document, to_latex
from micl_bench.report.write.markdown import to_markdown

DOCUMENT = "tables.tex"
_FORMULA = frozenset("=@+-\t\r")
_CELL_COLUMNS = (
    *("table", "row", "kind", "source", "group", "column", "key", "text", "value", "deviation"),
    *("low_95", "high_95", "runs", "best", "tied", "difference", "against"),
    *("marks", "details", "records"),
)
_MEASUREMENT_COLUMNS = (
    *("task", "data", "stands_for", "split", "images", "data_digest", "train", "train_images"),
    *("train_digest", "method", "arch", "branch", "weights", "seed", "protocol", "fingerprint"),
    *("metric", "value", "low_95", "high_95", "record", "assumed"),
)
_PROVENANCE_COLUMNS = (
    *("record", "task", "data", "data_digest", "method", "checkpoint_source", "checkpoint_digest"),
    *("checkpoint_branch", "train_digest", "recipe_digest", "fingerprint", "seed", "command"),
    *("code_version", "start", "seconds", "device_hours", "superseded_by", "assumed"),
)


def write_tables(folder: Path, tables: Sequence[Table], selection: Selection | None = None) -> None:
    """Write each table as Markdown, LaTeX and CSV, and a document of all that LaTeX compiles.

    Args:
        selection: the records, for `measurements.csv` with every metric of those that are shown,
            and `provenance.csv` with every record; None for neither.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        for suffix, render in (("md", to_markdown), ("tex", to_latex), ("csv", to_csv)):
            (folder / f"{table.name}.{suffix}").write_text(render(table), encoding="utf-8")
    if tables:
        document = to_document(table.name for table in tables)
        (folder / DOCUMENT).write_text(document, encoding="utf-8")
    if selection is not None:
        for name, text in (
            ("measurements.csv", measurements_csv(selection)),
            ("provenance.csv", provenance_csv(selection)),
        ):
            (folder / name).write_text(text, encoding="utf-8")


def to_csv(table: Table) -> str:
    """One line a cell, in full precision; cells without anything are left out."""
    return _csv(
        _CELL_COLUMNS,
        (
            _cell_row(table, row, column, cell)
            for row in table.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
            if cell.kind != "missing"
        ),
    )


def measurements_csv(selection: Selection) -> str:
    """One line a metric of each shown record, those that no table has too."""
    return _csv(
        _MEASUREMENT_COLUMNS,
        (
            _measurement(result, metric)
            for task in selection.tasks
            for result in selection.of_task(task)
            for metric in result.metrics
        ),
    )


def provenance_csv(selection: Selection) -> str:
    """One line a record, superseded ones too."""
    return _csv(_PROVENANCE_COLUMNS, (_provenance(r, selection) for _, r in selection.records))


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [
            _harmless(value) if type(value) is str and value[:1] in _FORMULA else value
            for value in row
        ]
        for row in rows
    )
    return text.getvalue()


def _harmless(value: str) -> str:
    """Text that a spreadsheet would run as a formula, marked as text."""
    return value if re.fullmatch(r"[+-][0-9.,]+", value) else f"'{value}"


def _cell_row(table: Table, row: Row, column: Column, cell: Cell) -> Sequence[object]:
    low, high = cell.interval or (None, None)
    return (
        *(table.name, row.label, cell.kind, row.source, column.group, column.header, column.key),
        *(cell.text, cell.value, cell.deviation, low, high, cell.runs or None),
        *(
            int(cell.best),
            int(cell.tied),
            cell.delta,
            cell.against,
            cell.mark,
            "; ".join(cell.details),
        ),
        " ".join(cell.records),
    )


def _measurement(result: Result, metric: str) -> Sequence[object]:
    data, train = result.data, result.train
    number = result.metrics[metric]
    return (
        *(result.task, data.name, data.stands_for, data.split, data.images, data.digest),
        *((train.name, train.images, train.digest) if train else (None, None, None)),
        *(result.method, result.arch, result.checkpoint.branch, result.checkpoint.digest),
        *(result.seed, result.protocol, result.fingerprint, metric),
        None if number.undefined else number.value,
        *(number.low, number.high, result.id, "; ".join(result.checkpoint.guesses)),
    )


def _provenance(result: Result, selection: Selection) -> Sequence[object]:
    newer = selection.replaced_by.get(result.id)
    weights = result.checkpoint
    return (
        *(result.id, result.task, result.data.name, result.data.digest),
        selection.method_of(result),
        *(weights.source, weights.digest, weights.branch),
        *(result.train.digest if result.train else "", result.recipe_digest, result.fingerprint),
        *(result.seed, result.command, result.code_version, result.start, result.seconds),
        *(result.device_hours, newer.id if newer else "", "; ".join(weights.guesses)),
    )
