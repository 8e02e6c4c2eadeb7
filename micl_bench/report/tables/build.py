"""The tables that readers of papers expect, from records and from the published ledger.

Each file in `specs/` declares a table. Records of public sets stand beside published numbers; stand-ins
for them, and anybody's own sets, have tables of their own.
"""

import dataclasses
from collections.abc import Iterable

import pandas as pd

from micl_bench.records.published import Reference
from micl_bench.report.compare.against_published import verdicts
from micl_bench.report.frame.lineage import Lineage
from micl_bench.report.frame.long import PUBLIC
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.ablations import ablation_tables
from micl_bench.report.tables.headings import column_of, slug, without_empty_columns
from micl_bench.report.tables.measured import Measured, measured_table, scores_of
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.report.tables.model import Table
from micl_bench.report.tables.published_rows import published_rows
from micl_bench.report.tables.published_table import Beside, published_table
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn, TableSpec
from micl_bench.runtime import plugins

_SPECS = "report.tables.specs"
_ALONE = (
    "Numbers as published, under the protocols of the notes; those of different protocols are not "
    "comparable. n/a: not known."
)


def all_specs() -> dict[str, TableSpec]:
    """Return the spec of every table by its name, in the order of the report."""
    found = {name: plugins.find(_SPECS, name).SPEC for name in plugins.names(_SPECS)}
    ranked = sorted(found.items(), key=lambda item: item[1].rank)
    return {name.replace("_", "-"): spec for name, spec in ranked}


def build_tables(selection: Selection, references: list[Reference]) -> list[Table]:
    """Return all tables that have a row: measured against published, then for each spec the tables with
    records and the one of published numbers.

    The same records and references give the same tables.
    """
    found = verdicts(selection.frame, references)
    measured = Measured(
        lineage=Lineage(selection.records), beside=Beside(found), references=references
    )
    tables = [published_table(found)]
    for name, spec in (all_specs() | _other_specs(selection.frame)).items():
        for world in sorted(set(selection.frame["world"])):
            scores = scores_of(selection.frame, spec, world)
            if spec.axes:
                tables += ablation_tables(name, spec, world, scores, measured)
            elif len(scores):
                whole = f"{name}-{slug(world)}" if world else name
                title = _title(spec, world, scores)
                tables.append(measured_table(whole, title, spec, scores, measured)[0])
        tables += published_tables(references, {name: spec})
    return _distinct(table for table in tables if table.rows)


def published_tables(
    references: list[Reference], specs: dict[str, TableSpec] | None = None
) -> list[Table]:
    """Return the tables of published numbers alone, of all specs or of some, that have a number."""
    tables = []
    for name, spec in (specs or all_specs()).items():
        notes = Notes()
        rows = [] if spec.axes else published_rows(spec.columns, references, notes)
        if any(cell.kind == "published" for row in rows for cell in row.cells):
            table = Table(
                name=f"{name}-published",
                title=f"{spec.public_title or spec.title}: published numbers",
                caption=f"{spec.caption} {_ALONE}",
                columns=tuple(column_of(column, [], references) for column in spec.columns),
                rows=tuple(rows),
                footnotes=notes.footnotes,
            )
            tables.append(without_empty_columns(table))
    return tables


def _other_specs(frame: pd.DataFrame) -> dict[str, TableSpec]:
    """Return a spec with all metrics for each downstream task with records that no other spec shows."""
    specs = all_specs()
    scores = [c for spec in specs.values() for c in spec.columns if isinstance(c, ScoreColumn)]
    named = {(task, column.data) for column in scores for task in column.tasks}
    places = zip(frame["task"], frame["public_set"], strict=True)
    is_named = pd.Series([place in named for place in places], index=frame.index, dtype=bool)
    found = {}
    for (_, task), own in frame[frame["downstream"] & ~is_named].groupby("place"):
        columns = [
            ScoreColumn(
                tasks=(task,),
                metric=row.metric,
                header=row.result.metrics[row.metric].header,
                data=row.public_set,
                labels=None,
            )
            for row in own.drop_duplicates(["public_set", "metric"]).itertuples()
        ]
        # Of a task with a table, these are on sets that the table does not know.
        name = f"{slug(task)}-other" if slug(task) in specs else slug(task)
        about = own["result"].iloc[0].about
        found[name] = TableSpec(
            title=about.title,
            caption="All metrics of this task.",
            rank=about.place,
            columns=(FactColumn(fact="arch", header="network"), *columns),
        )
    return found


def _title(spec: TableSpec, world: str, scores: pd.DataFrame) -> str:
    if world == PUBLIC:
        return spec.public_title or spec.title
    return f"{spec.title}: {world}{', a stand-in' if (scores['stands_for'] != '').any() else ''}"


def _distinct(tables: Iterable[Table]) -> list[Table]:
    """Give a number to tables of one name: data sets of different names may have one slug."""
    found: dict[str, Table] = {}
    for table in tables:
        name, turn = table.name, 1
        while name in found:
            turn += 1
            name = f"{table.name}-{turn}"
        found[name] = dataclasses.replace(table, name=name)
    return list(found.values())
