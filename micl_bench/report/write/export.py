"""Tables and records as files: Markdown, LaTeX and CSV."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from micl_bench.records.result import Result
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.model import Cell, Column, Row, Table
from micl_bench.report.write.latex import to_document, to_latex
from micl_bench.report.write.markdown import to_markdown

DOCUMENT = "tables.tex"
_FORMULA = frozenset("=@+-\t\r")
_MEASUREMENTS = (
    *("task", "data", "stands_for", "split", "images", "data_digest", "train", "train_images"),
    *("train_digest", "method", "arch", "branch", "weights", "seed", "protocol", "fingerprint"),
    *("metric", "title", "value", "unit", "better", "low_95", "high_95", "record", "assumed"),
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
            ("measurements", measurements_csv(selection)),
            ("provenance", provenance_csv(selection)),
        ):
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")


def to_csv(table: Table) -> str:
    """Return a line per cell, in full precision; missing cells are left out."""
    return _csv(
        [
            _cell(table, row, column, cell)
            for row in table.rows
            for column, cell in zip(table.columns, row.cells, strict=True)
            if cell.kind != "missing"
        ]
    )


def measurements_csv(selection: Selection) -> str:
    """Return a line per shown record and metric, including those that are in no table."""
    frame = selection.frame.sort_values("place", kind="stable")
    frame = frame.drop(columns="record").rename(
        columns={"low": "low_95", "high": "high_95", "id": "record"}
    )
    return _csv(frame[list(_MEASUREMENTS)])


def provenance_csv(selection: Selection) -> str:
    """Return a line per record, including superseded ones."""
    return _csv([_provenance(result, selection) for result in selection.records])


def _csv(rows: pd.DataFrame | Sequence[dict[str, object]]) -> str:
    return pd.DataFrame(rows, dtype=object).map(_harmless).to_csv(index=False, lineterminator="\n")


def _harmless(value: object) -> object:
    """Return the value; a text that a spreadsheet would run as a formula begins with a quote."""
    if not isinstance(value, str) or value[:1] not in _FORMULA:
        return value
    return value if re.fullmatch(r"[+-][0-9.,]+", value) else f"'{value}"


def _cell(table: Table, row: Row, column: Column, cell: Cell) -> dict[str, object]:
    low, high = cell.interval or (None, None)
    return {
        "table": table.name,
        "row": row.label,
        "kind": cell.kind,
        "source": row.source,
        "group": column.group,
        "column": column.header,
        "key": column.key,
        "text": cell.text,
        "value": cell.value,
        "deviation": cell.deviation,
        "low_95": low,
        "high_95": high,
        "runs": str(cell.runs or ""),
        "best": int(cell.best),
        "tied": int(cell.tied),
        "difference": cell.delta,
        "against": cell.against,
        "marks": cell.mark,
        "details": "; ".join(cell.details),
        "records": " ".join(cell.records),
    }


def _provenance(result: Result, selection: Selection) -> dict[str, object]:
    newer = selection.replaced_by.get(result.id)
    weights = result.checkpoint
    return {
        "record": result.id,
        "task": result.task,
        "data": result.data.name,
        "data_digest": result.data.digest,
        "method": selection.method_of(result),
        "checkpoint_source": weights.source,
        "checkpoint_digest": weights.digest,
        "checkpoint_branch": weights.branch,
        "train_digest": result.train.digest if result.train else "",
        "recipe_digest": result.recipe_digest,
        "fingerprint": result.fingerprint,
        "seed": result.seed,
        "command": result.command,
        "code_version": result.code_version,
        "start": result.start,
        "seconds": result.seconds,
        "device_hours": result.device_hours,
        "superseded_by": newer.id if newer else "",
        "assumed": "; ".join(weights.guesses),
    }
