"""From a spec's columns to a table's."""

import dataclasses

from micl_bench.records.declared import Better
from micl_bench.report.tables.model import Column, Table
from micl_bench.report.tables.pretraining_columns import is_numeric
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn


def column_of(
    column: FactColumn | ScoreColumn, group: str = "", *, data: str = "", better: Better = ""
) -> Column:
    """As tables show it.

    Args:
        group: what stands above it instead of the spec's words.
        data: the name of the images, where they are not the spec's public set.
        better: which way is better, of the numbers in it.
    """
    if isinstance(column, FactColumn):
        return Column(
            key=column.fact,
            group=column.group,
            header=column.header,
            numeric=is_numeric(column.fact),
        )
    tasks = "+".join(column.tasks)
    share = "" if column.labels in (None, 1.0) else f" {column.labels:g}"
    return Column(
        key=f"{tasks} {data or column.data} {column.metric}{share}",
        group=group or column.group,
        header=column.header,
        numeric=True,
        higher_is_better=better == "higher" if better else None,
    )


def without_empty_columns(table: Table) -> Table:
    """The table without columns in which no row has anything."""
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
