"""One comparison table for each task: methods as rows, data sets and their metrics as columns.

Rows of different protocols are never merged: where the protocols of one data set differ, each has
its own row and footnote.
"""

import dataclasses
import math
from collections import Counter

from micl_bench.record import DataSet, Result
from micl_bench.report.metrics import (
    format_value,
    higher_is_better,
    interval,
    method_rank,
    metric_header,
)

# The clean accuracy is shown beside the drop that is taken from it, not in a column of its own.
_SHOWN_ELSEWHERE = {"clean_top1": "drop"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One number, what surrounds it, and the record that it comes from."""

    text: str
    detail: str
    """Small print: the interval, or what a drop is measured from."""
    best: bool
    record: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One method (under one protocol, with one seed) over all columns."""

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


RowKey = tuple[str, str, int, str, int]


def build_table(results: list[Result]) -> Table:
    """Lay out the records of one task, newest first."""
    datas = sorted({result.data for result in results}, key=_data_order)
    groups = [_group(data, datas, results) for data in datas]
    protocols = sorted({result.protocol for result in results})
    mixed = any(
        len({result.protocol for result in results if result.data == data}) > 1 for data in datas
    )
    marks = {protocol: _mark(index) for index, protocol in enumerate(protocols)} if mixed else {}
    lines = _lines(results, mixed=mixed)
    best = _best_values(results)
    rows = [
        Row(
            label=_label(key, list(lines)),
            footnote=marks.get(next(iter(line.values())).protocol, ""),
            results=line,
            cells=[
                _cell(line.get(group.data), metric, best)
                for group in groups
                for metric in group.metrics
            ],
        )
        for key, line in lines.items()
    ]
    footnotes = {mark: protocol for protocol, mark in marks.items()}
    return Table(groups=groups, rows=rows, footnotes=footnotes, protocols=protocols)


def _lines(results: list[Result], *, mixed: bool) -> dict[RowKey, dict[DataSet, Result]]:
    """Records by row: those of one method, architecture, seed and, where it differs, protocol.

    Recipes may name their data set, so they cannot tell rows apart; where a method has several
    recipes on one data set, the newest of each data set share the first row, and so on.
    """
    seen: Counter[tuple[DataSet, str, str, int, str]] = Counter()
    lines: dict[RowKey, dict[DataSet, Result]] = {}
    for result in results:
        protocol = result.protocol if mixed else ""
        key = (result.method, result.arch, result.seed, protocol)
        place = (result.data, *key)
        lines.setdefault((*key, seen[place]), {})[result.data] = result
        seen[place] += 1
    return dict(sorted(lines.items(), key=lambda item: (method_rank(item[0][0]), item[0])))


def _label(key: RowKey, keys: list[RowKey]) -> str:
    """The method, and what tells its rows apart where it has several."""
    method, arch, seed, _, turn = key
    rows = [other for other in keys if other[0] == method]
    words = [method]
    if len({other[1] for other in keys}) > 1:
        words.append(arch)
    if len({other[2] for other in rows}) > 1:
        words.append(f"seed {seed}")
    if turn:
        words.append(f"older recipe {turn}")
    return ", ".join(words)


def _group(data: DataSet, datas: list[DataSet], results: list[Result]) -> Group:
    present = dict.fromkeys(
        metric for result in results if result.data == data for metric in result.metrics
    )
    shown = [name for name in present if _SHOWN_ELSEWHERE.get(name) not in present]
    return Group(data=data, label=_data_label(data, datas), metrics=shown)


def _data_label(data: DataSet, datas: list[DataSet]) -> str:
    """The name, with split and digest where the same name stands for different images."""
    namesakes = [other for other in datas if other.name == data.name]
    if len(namesakes) == 1:
        return data.name
    return f"{data.name} ({data.split}, {data.images} images, {data.digest[:7]})"


def _cell(
    result: Result | None, metric: str, best: dict[tuple[DataSet, str], float]
) -> Cell | None:
    if result is None or metric not in result.metrics:
        return None
    value = result.metrics[metric]
    return Cell(
        text=format_value(metric, value),
        detail=_detail(result, metric),
        best=value == best.get((result.data, metric)),
        record=result.id,
    )


def _detail(result: Result, metric: str) -> str:
    if bounds := interval(result, metric):
        return f"{bounds[0]:.1f}–{bounds[1]:.1f}"
    if metric == "drop" and "clean_top1" in result.metrics:
        return f"from {result.metrics['clean_top1']:.1f}"
    return ""


def _best_values(results: list[Result]) -> dict[tuple[DataSet, str], float]:
    """The best of each column in which at least two rows compete."""
    values: dict[tuple[DataSet, str], list[float]] = {}
    for result in results:
        for metric, value in result.metrics.items():
            if higher_is_better(metric) and math.isfinite(value):
                values.setdefault((result.data, metric), []).append(value)
    return {column: max(found) for column, found in values.items() if len(found) > 1}


def _data_order(data: DataSet) -> tuple[str, str, int, str]:
    return (data.name, data.split, data.images, data.digest)


def _mark(index: int) -> str:
    """The letters a, b, ..., z, then numbers."""
    return chr(ord("a") + index) if index < 26 else str(index + 1)
