"""The tables that readers of papers expect, from records and from the published ledger.

Each file in `specs/` says what its table holds. Records of public sets stand beside published
numbers; what only stands in for them, and anybody's own sets, have tables of their own.
"""

import dataclasses
from collections.abc import Iterable

from micl_bench.records.declared import Better
from micl_bench.records.names import arch_label
from micl_bench.records.published import Reference
from micl_bench.report.compare.against_published import verdicts
from micl_bench.report.frame.public_or_own import PUBLIC, place_of
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.ablations import ablation_tables
from micl_bench.report.tables.captions import caption_of, slug
from micl_bench.report.tables.columns import column_of, without_empty_columns
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.report.tables.measured_rows import Measured, MeasuredRows
from micl_bench.report.tables.model import Row, Table
from micl_bench.report.tables.published_rows import published_rows
from micl_bench.report.tables.published_table import published_table
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn, TableSpec
from micl_bench.runtime import plugins

_SPECS = "report.tables.specs"
_ALONE = (
    "Numbers as published, under the protocols of the notes; those of different protocols are not "
    "comparable. n/a: not known."
)


def all_specs() -> dict[str, TableSpec]:
    """Every table's spec by its name, in the order of the report."""
    found = {name: plugins.find(_SPECS, name).SPEC for name in plugins.names(_SPECS)}
    ranked = sorted(found.items(), key=lambda item: item[1].rank)
    return {name.replace("_", "-"): spec for name, spec in ranked}


def build_tables(selection: Selection, references: list[Reference]) -> list[Table]:
    """All tables that have a row: measured against published, then of each spec those with records,
    and that of published numbers.

    The same records and references give the same tables.
    """
    found = verdicts(selection.current, references)
    measured = MeasuredRows(selection, found)
    tables = [published_table(found)]
    for name, spec in (all_specs() | _other_specs(selection)).items():
        if spec.axes:
            tables += ablation_tables(name, spec, measured)
            continue
        for world in measured.worlds:
            if rows := measured.rows(spec, world, Notes()):
                tables.append(_measured_table(name, spec, world, rows, references))
        tables.append(_published_table(name, spec, references))
    return _distinct(table for table in tables if table.rows)


def _other_specs(selection: Selection) -> dict[str, TableSpec]:
    """A table for each downstream task with records that no spec has a column for: all their metrics."""
    specs = all_specs()
    scores = [c for spec in specs.values() for c in spec.columns if isinstance(c, ScoreColumn)]
    named = {(task, column.data) for column in scores for task in column.tasks}
    found = {}
    for task in selection.tasks:
        results = [
            one
            for one in selection.of_task(task)
            if one.about.downstream and (task, place_of(one).public_set) not in named
        ]
        if not results:
            continue
        about = results[0].about
        numbers = {
            (place_of(one).public_set, name): number
            for one in reversed(results)
            for name, number in one.metrics.items()
        }
        columns = (
            ScoreColumn(tasks=(task,), metric=name, header=number.header, data=data, labels=None)
            for (data, name), number in numbers.items()
        )
        # Of a task with a table, these are on sets that the table does not know.
        name = f"{slug(task)}-other" if slug(task) in specs else slug(task)
        found[name] = TableSpec(
            title=about.title,
            caption="All metrics of this task.",
            rank=about.place,
            columns=(FactColumn(fact="arch", header="network"), *columns),
        )
    return found


def published_tables(references: list[Reference]) -> list[Table]:
    """The tables of published numbers alone."""
    specs = all_specs().items()
    tables = [_published_table(name, spec, references) for name, spec in specs if not spec.axes]
    return [table for table in tables if table.rows]


def _published_table(name: str, spec: TableSpec, references: list[Reference]) -> Table:
    """It has no row where nothing was published."""
    notes = Notes()
    rows = tuple(published_rows(spec.columns, references, notes))
    told = any(cell.kind == "published" for row in rows for cell in row.cells)
    return without_empty_columns(
        Table(
            name=f"{name}-published",
            title=f"{spec.public_title or spec.title}: published numbers",
            caption=f"{spec.caption} {_ALONE}",
            columns=tuple(
                column_of(column, better=_better(column, references)) for column in spec.columns
            ),
            rows=rows if told else (),
            footnotes=notes.footnotes,
        )
    )


def _measured_table(
    name: str, spec: TableSpec, world: str, found: Measured, references: list[Reference]
) -> Table:
    rows: tuple[Row, ...] = found.rows
    if world == PUBLIC:
        archs = frozenset(arch_label(arch) for arch in found.archs)
        rows += tuple(published_rows(spec.columns, references, found.notes, archs=archs))
    return without_empty_columns(
        Table(
            name=f"{name}-{slug(world)}" if world else name,
            title=_title(spec, world, found),
            caption=caption_of(spec, found, rows),
            columns=tuple(
                column_of(
                    column,
                    found.sets.get(number, ""),
                    data=found.data.get(number, ""),
                    better=found.better.get(number, _better(column, references)),
                )
                for number, column in enumerate(spec.columns)
            ),
            rows=rows,
            footnotes=found.notes.footnotes,
            verdict=found.verdict,
            stands_for=found.stands_for,
        )
    )


def _better(column: FactColumn | ScoreColumn, references: list[Reference]) -> Better:
    """Which way is better, of the published numbers of a column."""
    published = column.published if isinstance(column, ScoreColumn) else ()
    return next((one.facts.better for one in references if (one.task, one.metric) in published), "")


def _title(spec: TableSpec, world: str, found: Measured) -> str:
    if world == PUBLIC:
        return spec.public_title or spec.title
    return f"{spec.title}: {world}{', a stand-in' if found.stands_for else ''}"


def _distinct(tables: Iterable[Table]) -> list[Table]:
    """Tables with names of their own, where sets of other names have one slug."""
    found: dict[str, Table] = {}
    for table in tables:
        name, turn = table.name, 1
        while name in found:
            turn += 1
            name = f"{table.name}-{turn}"
        found[name] = dataclasses.replace(table, name=name)
    return list(found.values())
