"""One comparison table for each task: methods as rows, data sets and their metrics as columns.

Rows of different protocols are never merged: where records of one data set differ in protocol or
fingerprint, each protocol has its own row, and a footnote that names the settings that differ.
"""

import dataclasses
import math
from collections import Counter
from typing import Any

from micl_bench.record import DataSet, Result
from micl_bench.report.identity import Identity, identity_of, labels
from micl_bench.report.metrics import (
    classes_of,
    direction,
    format_interval,
    format_value,
    interval,
    method_rank,
    metric_header,
)
from micl_bench.report.protocols import Protocol, captions, protocol_of

_Column = tuple[DataSet, Protocol, str]
_CHOSEN_ON_THESE = "best of grid on the evaluated images"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One number, what surrounds it, and the record that it comes from."""

    text: str
    details: list[str]
    """Lines of small print: the interval, what a drop is measured from, the other reading."""
    best: bool
    record: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One network (under one protocol, with one seed) over all columns."""

    label: str
    footnote: str
    """The mark of the row's protocol where protocols differ, otherwise empty."""
    results: dict[DataSet, Result]
    cells: list[Cell | None]
    """In the order of the columns; None where nothing was measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """The columns of one data set."""

    data: DataSet
    label: str
    metrics: list[str]

    @property
    def headers(self) -> list[str]:
        """Column headers with units."""
        return [metric_header(metric) for metric in self.metrics]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A task's table, ready to be printed in any form."""

    groups: list[Group]
    rows: list[Row]
    footnotes: dict[str, str]
    """Mark to protocol; empty where each data set has a single protocol."""
    protocols: list[str]
    """In the records' own words."""
    marks: dict[str, str]
    """Of the protocol of each record, by its id; empty where there is a single one."""

    def mark(self, result: Result) -> str:
        """The mark of a record's protocol, empty where there is a single one."""
        return self.marks.get(result.id, "")


RowKey = tuple[Identity, str, int]
"""Identity, the mark of the protocol, and the turn among records that share both."""


def build_table(results: list[Result]) -> Table:
    """Lay out the records of one task, newest first."""
    datas = sorted({result.data for result in results}, key=data_order)
    groups = [_group(data, datas, results) for data in datas]
    protocols = sorted({result.protocol for result in results})
    caption_of = captions(results)
    mixed = any(
        len({caption_of[result.id] for result in results if result.data == data}) > 1
        for data in datas
    )
    footnotes = {caption: mark_of(i) for i, caption in enumerate(sorted(set(caption_of.values())))}
    marks = {identity: footnotes[caption] for identity, caption in caption_of.items() if mixed}
    lines = _lines(results, marks)
    best, names = _best_values(results), labels(key[0] for key in lines)
    rows = [
        Row(
            label=names[key[0]] + (f", older recipe {key[2]}" if key[2] else ""),
            footnote=key[1],
            results=line,
            cells=[
                _cell(line.get(group.data), metric, best)
                for group in groups
                for metric in group.metrics
            ],
        )
        for key, line in lines.items()
    ]
    return Table(
        groups=groups,
        rows=rows,
        footnotes={mark: caption for caption, mark in footnotes.items() if mixed},
        protocols=protocols,
        marks=marks,
    )


def _lines(results: list[Result], marks: dict[str, str]) -> dict[RowKey, dict[DataSet, Result]]:
    """Records by row: those of one identity and protocol, by its mark.

    Recipes may name their data set, so they cannot tell rows apart; where one network has several
    recipes on one data set, the newest of each data set share the first row, and so on.
    """
    seen: Counter[tuple[Any, ...]] = Counter()
    lines: dict[RowKey, dict[DataSet, Result]] = {}
    for result in results:
        key = (identity_of(result), marks.get(result.id, ""))
        place = (result.data, *key)
        lines.setdefault((*key, seen[place]), {})[result.data] = result
        seen[place] += 1
    return dict(sorted(lines.items(), key=_row_order))


def _row_order(item: tuple[RowKey, Any]) -> tuple[Any, ...]:
    identity, mark, turn = item[0]
    return (method_rank(identity.method), *identity[:3], mark, turn, identity)


def _group(data: DataSet, datas: list[DataSet], results: list[Result]) -> Group:
    present = dict.fromkeys(
        metric for result in results if result.data == data for metric in result.metrics
    )
    shown = [name for name in present if _in_small_print_of(name) not in present]
    return Group(data=data, label=data_label(data, datas), metrics=shown)


def data_label(data: DataSet, datas: list[DataSet]) -> str:
    """The name, with split and digest where the same name stands for different images."""
    namesakes = [other for other in datas if other.name == data.name]
    if len(namesakes) == 1:
        return data.name
    return f"{data.name} ({data.split}, {data.images} images, {data.digest[:7]})"


def _cell(result: Result | None, metric: str, best: dict[_Column, float]) -> Cell | None:
    if result is None or metric not in result.metrics:
        return None
    value = result.metrics[metric]
    return Cell(
        text=format_value(metric, value),
        details=_details(result, metric),
        best=value == best.get((result.data, protocol_of(result), metric)),
        record=result.id,
    )


def _in_small_print_of(metric: str) -> str:
    """The metric below which another is shown instead of in a column of its own, or none.

    The clean accuracy below the drop that is taken from it; below both the reading in which all
    classes compete.
    """
    if metric == "clean_top1" or (classes_of(metric) and metric.startswith("clean_")):
        return "drop"
    return "top1" if classes_of(metric) else ""


def _details(result: Result, metric: str) -> list[str]:
    bounds = interval(result, metric)
    lines = [format_interval(metric, bounds)] if bounds else []
    if direction(metric) and (heads := heads_tried(result)):
        lines.append(f"best of {heads} heads")
    for name in (name for name in result.metrics if _in_small_print_of(name) == metric):
        text = ("from " if metric == "drop" else "") + format_value(name, result.metrics[name])
        if classes := classes_of(name):
            lines.append(f"of all {classes:,}: {text}")
        else:
            bounds = interval(result, name)
            lines += [text, *([f"({format_interval(name, bounds)})"] if bounds else [])]
    return lines


def heads_tried(result: Result) -> int:
    """How many heads the best was chosen from by the very images it is measured on, or 0."""
    if not str(result.settings.get("selection", "")).startswith(_CHOSEN_ON_THESE):
        return 0
    grid = result.details.get("grid")
    return len(grid) if isinstance(grid, list) else 0


def _best_values(results: list[Result]) -> dict[_Column, float]:
    """The best of each column and protocol in which at least two rows compete."""
    values: dict[_Column, list[float]] = {}
    for result in results:
        for metric, value in result.metrics.items():
            if direction(metric) and math.isfinite(value):
                column = (result.data, protocol_of(result), metric)
                values.setdefault(column, []).append(value)
    return {
        column: max(found) if direction(column[2]) > 0 else min(found)
        for column, found in values.items()
        if len(found) > 1
    }


def data_order(data: DataSet) -> tuple[str, str, int, str]:
    """Sorts data sets as tables show them."""
    return (data.name, data.split, data.images, data.digest)


def mark_of(index: int) -> str:
    """The letters a, b, ..., z, then numbers."""
    return chr(ord("a") + index) if index < 26 else str(index + 1)
