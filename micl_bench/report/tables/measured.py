"""The table of a spec: the numbers in each column, row and cell."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from micl_bench.records.names import arch_label
from micl_bench.records.published import Reference
from micl_bench.records.result import Record
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.identity import Identity
from micl_bench.report.frame.lineage import Lineage
from micl_bench.report.frame.long import PUBLIC, grouped
from micl_bench.report.frame.naming import assumed_words, data_words, method_rank
from micl_bench.report.frame.protocols import captions
from micl_bench.report.tables.headings import caption_of, column_of, where_of, without_empty_columns
from micl_bench.report.tables.measured_cell import Notes, measured_cell, remarks
from micl_bench.report.tables.model import Cell, Row, Table
from micl_bench.report.tables.pretraining_columns import MISSING, measured_fact
from micl_bench.report.tables.published_rows import published_rows
from micl_bench.report.tables.published_table import Beside
from micl_bench.report.tables.ranking import contests_of, standings
from micl_bench.report.tables.row_names import name_rows
from micl_bench.report.tables.specs._spec import FactColumn, ScoreColumn, TableSpec
from micl_bench.report.tables.verdicts import Comparison, compare, verdict

_OLDER = "an older recipe of the same protocol"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The surroundings of a report's scores: trainings, verdicts and published numbers."""

    lineage: Lineage
    beside: Beside
    references: list[Reference]


class Line(NamedTuple):
    """One row: a network's numbers by column, each column under one protocol."""

    network: Identity
    records: list[Record]
    entries: dict[int, Entry]
    notes: dict[int, list[str]]
    """Footnotes on a column's protocol; empty where the table has one protocol for it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """Rules by which rows are compared and sorted; an ablation has its own."""

    study: Callable[[Record], str] = lambda record: ""
    """Returns the study of a row; only rows of one study are compared with each other."""
    baselines: Sequence[Callable[[Record], str]]
    """Each returns the name of a row that is a baseline, empty for others; the first choice is first."""
    order: Callable[[Record], tuple[Any, ...]] = lambda record: (method_rank(record.method),)
    """Returns the sort key of a row; rows with equal keys are sorted by their networks."""


def scores_of(frame: pd.DataFrame, spec: TableSpec, world: str) -> pd.DataFrame:
    """Return the rows of the frame that a spec's columns show of one world, each with its `column`.

    Columns of one `kind` share their protocols: an accuracy on A and one on R of the same protocol
    stand in one row, while the protocols of k-NN and of a linear probe have nothing in common.
    """
    frame = frame[frame["world"] == world]
    parts = [frame.iloc[:0].assign(column=0, kind="")]
    for number, column in enumerate(spec.columns):
        if isinstance(column, ScoreColumn):
            is_shown = (
                (frame["public_set"] == column.data)
                & (frame["metric"] == column.metric)
                & frame["task"].isin(column.tasks)
            )
            if column.labels is not None:
                is_shown &= frame["label_share"] == column.labels
            kind = f"{column.tasks} {column.labels}"
            parts.append(frame[is_shown].assign(column=number, kind=kind))
    return pd.concat(parts, ignore_index=True)


def measured_table(
    name: str,
    title: str,
    spec: TableSpec,
    scores: pd.DataFrame,
    measured: Measured,
    rules: Rules | None = None,
) -> tuple[Table, list[Line]]:
    """Return the table of the rows that `scores_of` found, and the `Line` of each measured row.

    Args:
        rules: those of an ablation, which has no published numbers and no verdict.
    """
    rules = rules or Rules(baselines=[_named(method) for method in spec.baselines])
    scores, protocols = _captioned(scores)
    lines = sorted(_lines(scores), key=lambda one: (*rules.order(one.records[0]), one.network))
    notes = Notes()
    cells, comparisons = _cells(spec, lines, measured, rules, notes)
    names = name_rows((line.network, line.records[0]) for line in lines)
    rows = [
        Row(label=names[line.network], kind="measured", cells=tuple(own))
        for line, own in zip(lines, cells, strict=True)
    ]
    if not spec.axes and scores["world"].iloc[0] == PUBLIC:
        archs = {arch_label(line.records[0].arch) for line in lines}
        rows += published_rows(spec.columns, measured.references, notes, archs=archs)
    by_column: dict[int, list[Record]] = grouped(scores, "column")
    stand_ins = {(one.data.name, one.data.stands_for) for one in scores["result"]}
    table = Table(
        name=name,
        title=title,
        caption=caption_of(spec, protocols, rows),
        columns=tuple(
            column_of(column, by_column.get(number, []), measured.references)
            for number, column in enumerate(spec.columns)
        ),
        rows=tuple(rows),
        footnotes=notes.footnotes,
        verdict="" if spec.axes else verdict(comparisons),
        stands_for=tuple(sorted(pair for pair in stand_ins if pair[1])),
    )
    return without_empty_columns(table), lines


def _named(method: str) -> Callable[[Record], str]:
    return lambda record: method if record.method == method else ""


def _captioned(scores: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the scores, each with words on its protocol (`caption`) and whether columns of its kind
    have several protocols (`mixed`); and sentences on the protocols that need no mark."""
    scores["caption"] = ""
    for _, own in scores.groupby("kind", sort=False):
        scores.loc[own.index, "caption"] = own["id"].map(captions(own["result"].tolist()))
    several = scores.groupby("column")["data_set"].transform("nunique") > 1
    several = several.groupby([scores["kind"], scores["id"]]).transform("any")
    images = "; on " + scores["data_set"].map(data_words).astype(str)
    scores["caption"] = scores["caption"].where(~several, scores["caption"] + images)
    number = scores.groupby("column")["caption"].transform("nunique")
    scores["mixed"] = number.groupby(scores["kind"]).transform("max") > 1
    words = scores.loc[~scores["mixed"] & (scores["caption"] != ""), "caption"].unique()
    return scores, [f"{one[0].upper()}{one[1:].rstrip('.')}." for one in words]


def _lines(scores: pd.DataFrame) -> Iterator[Line]:
    """Yield the rows. Of one column, network and caption, the newest run of each seed is in the first
    `stack`, older runs of these seeds are in the next; a row is a stack of one caption."""
    cell = ["column", "network", "caption"]
    run = [*cell, "data_set", "protocol_read"]
    scores["at"] = range(len(scores))
    scores["began"] = scores.groupby(run, sort=False)["at"].transform("first")
    by_seeds = scores.groupby([*run, "seeds"], sort=False)["at"]
    scores["turn"], scores["seeds_began"] = by_seeds.cumcount(), by_seeds.transform("first")
    scores = scores.sort_values(["began", "turn", "seeds_began"], kind="stable")
    scores["stack"] = _rank(scores, cell, "began", "turn")
    scores["words"] = scores["caption"].astype("category").cat.codes
    scores["row"] = _rank(scores, ["kind", "network"], "stack", "words")
    for (network, _), own in scores.sort_values("row", kind="stable").groupby(
        ["network", "row"], sort=False
    ):
        entries, notes = {}, {}
        for number, runs in own.groupby("column", sort=False):
            newest = runs.iloc[0]
            entries[number] = entry_of(newest["metric"], runs["result"])
            notes[number] = [newest["caption"]] if newest["mixed"] else []
            notes[number] += [_OLDER] if (runs["stack"] > 0).any() else []
        unique = own.drop_duplicates("id")["result"].tolist()
        yield Line(network=network, records=unique, entries=entries, notes=notes)


def _rank(frame: pd.DataFrame, groups: list[str], first: str, then: str) -> pd.Series:
    """Return the rank of each row in its group, by the first column and then by the other, from 0."""
    values = frame[first] * len(frame) + frame[then]
    return frame.assign(value=values).groupby(groups, sort=False)["value"].rank("dense") - 1


def _cells(
    spec: TableSpec, lines: list[Line], measured: Measured, rules: Rules, notes: Notes
) -> tuple[list[list[Cell]], list[Comparison]]:
    """Return the cells of each line, and the comparisons of our method in each column."""
    cells: list[list[Cell]] = [[] for _ in lines]
    comparisons: list[Comparison] = []
    any_of = [line.records[0] for line in lines]
    baselines = [
        {row: name for row, record in enumerate(any_of) if (name := baseline(record))}
        for baseline in rules.baselines
    ]
    for number, column in enumerate(spec.columns):
        if isinstance(column, FactColumn):
            for line, own in zip(lines, cells, strict=True):
                own.append(measured_fact(column.fact, line.records, measured.lineage))
            continue
        entries = {
            row: line.entries[number] for row, line in enumerate(lines) if number in line.entries
        }
        contests = contests_of(entries, list(map(rules.study, any_of)))
        standing = standings(contests, baselines)
        comparisons += compare(where_of(column, entries.values()), contests, standing)
        for row, (line, own) in enumerate(zip(lines, cells, strict=True)):
            if (entry := entries.get(row)) is None:
                own.append(MISSING)
                continue
            details, about = ((), []) if spec.axes else measured.beside.words(entry)
            words = [*line.notes[number], *remarks(entry), *assumed_words(entry.runs), *about]
            own.append(measured_cell(entry, standing[row], words, notes, details=details))
    return cells, comparisons
