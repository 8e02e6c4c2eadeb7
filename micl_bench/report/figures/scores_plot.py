"""Bars of the scores: one group for each task, data set and protocol."""

import dataclasses
import math
import textwrap
from collections import Counter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from micl_bench.records.names import arch_label
from micl_bench.records.result import DataSet, Record
from micl_bench.report.figures.palette import (
    HATCHES,
    INK,
    PAGE_INCHES,
    SMALL,
    method_colours,
)
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.identity import Identity, network_of
from micl_bench.report.frame.naming import data_label, data_order, method_rank
from micl_bench.report.frame.protocols import captions
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.measured_cell import mark_of

_MOST_SERIES, _MOST_GROUPS = 8, 24
_UPRIGHT_INCHES, _LYING_INCHES = 0.3, 0.12
"""Widths of a bar from which its score has room above it, written upright or on its side."""
_LETTERS, _FEWEST_LETTERS, _LONGEST_SLANTED = 92, 8, 60
"""Letters that fit below the axis; those that a group must have for upright names; of slanted ones."""


@dataclasses.dataclass(frozen=True)
class _Group:
    """Numbers that stand side by side."""

    place: tuple[int, str]
    """Of the task, which is its second part."""
    label: str
    """The task's."""
    data: DataSet
    metric: str
    title: str
    """The metric's."""
    mark: str
    """Of the protocol, where the task has several on these images."""


_Scores = dict[_Group, dict[str, Entry]]
"""By group, then by series: a method, with its architecture where there are several."""


def found_scores(selection: Selection) -> Found:
    """The bars of all tasks, or why there are none."""
    scored = [
        result
        for task in selection.tasks
        for result in selection.of_task(task)
        if result.about.downstream and drawable_metrics(result)
    ]
    if not scored:
        return Found(left_out=["The bars of scores are left out: no record has a score to draw."])
    scores, marks = _scores(scored)
    shown = _shown(scores)
    words = [
        "Whiskers are 95 % intervals: over the test images, or, of a mean over seeds, Student's t over "
        "the seeds. Bars of one group share a protocol; where a method has several networks under one "
        "protocol, its newest is drawn."
    ]
    series = {name for found in scores.values() for name in found}
    drawn = {name for found in shown.values() for name in found}
    if len(drawn) < len(series) or len(shown) < len(scores):
        words.append(
            f"Drawn are {len(drawn)} of {len(series)} methods, those with most scores, in "
            f"{len(shown)} of {len(scores)} groups; the tables have all."
        )
    drawing = Drawing(
        name="scores",
        title="Scores by task",
        caption=" ".join(words),
        draw=lambda: _bars(shown),
        table=_protocol_table(shown, marks),
    )
    return Found(drawings=[drawing])


def score_bars(results: list[Record]) -> Figure:
    """Headline scores, one group of bars for each task and data set; `results` come newest first.

    Whiskers are 95 % intervals, where the metric has one.
    """
    return _bars(_shown(_scores(results)[0]))


def _bars(scores: _Scores) -> Figure:
    names = sorted({name for found in scores.values() for name in found}, key=_series_rank)
    family = {name: e.first.method for found in scores.values() for name, e in found.items()}
    colours = method_colours(set(family.values()))
    figure = Figure(figsize=(PAGE_INCHES, 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(names)
    for turn, name in enumerate(names):
        places = [i for i, found in enumerate(scores.values()) if name in found]
        cells = [found[name] for found in scores.values() if name in found]
        left = [_left(list(scores.values()), place, name, width) for place in places]
        axes.bar(
            left,
            [cell.mean for cell in cells],
            width * 0.94,
            label=name,
            color=colours[family[name]],
            hatch=HATCHES[turn % len(HATCHES)],
            edgecolor="#ffffffb0",
            linewidth=0,
        )
        tops = _draw_whiskers(axes, left, cells)
        inches = width * 0.9 * PAGE_INCHES / len(scores)
        if inches >= _LYING_INCHES:
            _write_values(axes, left, cells, tops, upright=inches >= _UPRIGHT_INCHES)
    _name_groups(axes, list(scores))
    axes.set_ylabel("score [%]")
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(scores) - 0.4)
    axes.set_ylim(0, min(116, max(axes.get_ylim()[1] * 1.12, 10)))
    figure.legend(loc="outside upper left", ncols=4)
    return figure


def drawable_metrics(result: Record) -> list[str]:
    """The headline metrics that have a bar: defined percentages, of which more is no worse."""
    return [metric for metric in _bar_metrics(result) if not result.metrics[metric].undefined]


def _bar_metrics(result: Record) -> list[str]:
    numbers = {name: result.metrics[name] for name in result.quoted}
    return [name for name, one in numbers.items() if one.unit == "%" and one.direction >= 0]


def _scores(results: list[Record]) -> tuple[_Scores, dict[tuple[str, str], str]]:
    """The newest number of each series in each group; and each protocol by its task and mark.

    A number is the mean over records that differ in seeds alone. A task's protocols are marked where
    it has several.
    """
    several_archs = len({result.arch for result in results}) > 1
    marks: dict[tuple[str, str], str] = {}
    runs: dict[_Group, dict[str, dict[Identity, list[Record]]]] = {}
    for place in sorted({result.place for result in results}):
        task, own = place[1], [result for result in results if result.place == place]
        caption_of = captions(own)
        protocols = list(dict.fromkeys(sorted(caption_of.values())))
        for result in own:
            words = caption_of[result.id]
            mark = mark_of(protocols.index(words)) if len(protocols) > 1 else ""
            marks[task, mark] = words
            arch = f", {arch_label(result.arch)}" if several_archs else ""
            for metric in _bar_metrics(result):
                title = result.metrics[metric].title
                group = _Group(place, result.about.label, result.data, metric, title, mark)
                networks = runs.setdefault(group, {}).setdefault(result.method + arch, {})
                networks.setdefault(network_of(result), []).append(result)
    metrics = list(dict.fromkeys(group.metric for group in runs))
    ordered = sorted(runs, key=lambda group: _group_order(group, metrics))
    # The first network is that of the newest record.
    entries = {
        group: {
            name: _entry(group.metric, next(iter(networks.values())))
            for name, networks in runs[group].items()
        }
        for group in ordered
    }
    # A mean of which one value is undefined is undefined.
    defined = {
        group: {name: entry for name, entry in found.items() if math.isfinite(entry.mean)}
        for group, found in entries.items()
    }
    return {group: found for group, found in defined.items() if found}, marks


def _entry(metric: str, results: list[Record]) -> Entry:
    return entry_of(metric, results)


def _shown(scores: _Scores) -> _Scores:
    """As many series and groups as can be read: ours, and those that are in most groups."""
    counts = Counter(name for found in scores.values() for name in found)
    ranked = sorted(counts, key=lambda name: (_series_rank(name)[0], -counts[name], name))
    kept = set(ranked[:_MOST_SERIES])
    groups = [group for group, found in scores.items() if kept & found.keys()]
    # Those with most to compare, in their order.
    most = sorted(groups, key=lambda group: -len(kept & scores[group].keys()))[:_MOST_GROUPS]
    return {
        group: {name: entry for name, entry in scores[group].items() if name in kept}
        for group in groups
        if group in most
    }


def _protocol_table(scores: _Scores, marks: dict[tuple[str, str], str]) -> list[list[str]]:
    marked = list(dict.fromkeys((group.place[1], group.mark) for group in scores if group.mark))
    rows = [[f"{task} [{mark}]", marks[task, mark]] for task, mark in marked]
    return [["bars", "protocol"], *rows] if rows else []


def _series_rank(name: str) -> tuple[bool, str]:
    method, comma, arch = name.partition(", ")
    return (method_rank(method)[0], method_rank(method)[1] + comma + arch)


def _group_order(group: _Group, metrics: list[str]) -> tuple[Any, ...]:
    # Marks run from a to z, then in numbers.
    return (
        group.place,
        data_order(group.data),
        metrics.index(group.metric),
        group.mark.isdigit(),
        group.mark,
    )


def _left(scores: list[dict[str, Entry]], place: int, name: str, width: float) -> float:
    """The middle of a series' bar: the bars that a group has are centred on its place."""
    present = sorted(scores[place], key=_series_rank)
    return place + (present.index(name) - (len(present) - 1) / 2) * width


def _name_groups(axes: Axes, groups: list[_Group]) -> None:
    """Below each group, within its width; along slanted lines where there is little of it."""
    datas = list(dict.fromkeys(group.data for group in groups))
    letters = int(_LETTERS / len(groups))
    texts = []
    for group in groups:
        words = [
            data_label(group.data, datas),
            group.label,
            group.title,
            f"[{group.mark}]" if group.mark else "",
        ]
        if letters < _FEWEST_LETTERS:
            line = ", ".join(word for word in words if word)
            texts.append(textwrap.shorten(line, _LONGEST_SLANTED, placeholder="..."))
        else:
            wrapped = [line for word in words for line in textwrap.wrap(word, letters)]
            texts.append("\n".join(wrapped))
    axes.set_xticks(range(len(groups)), texts, fontsize=SMALL)
    if letters < _FEWEST_LETTERS:
        for text in axes.get_xticklabels():
            text.set(rotation=50, ha="right", rotation_mode="anchor")


def _draw_whiskers(axes: Axes, left: list[float], cells: list[Entry]) -> list[float]:
    """Draw one series' intervals; returns the height up to which each bar reaches with its whisker."""
    values = np.array([cell.mean for cell in cells])
    low, high = np.array([cell.interval or (cell.mean, cell.mean) for cell in cells]).T
    measured = [cell.interval is not None for cell in cells]
    axes.errorbar(
        np.array(left)[measured],
        values[measured],
        yerr=np.maximum([values - low, high - values], 0)[:, measured],
        fmt="none",
        ecolor="#333333",
        elinewidth=0.9,
        capsize=2,
    )
    return [float(top) for top in high]


def _write_values(
    axes: Axes, left: list[float], cells: list[Entry], tops: list[float], *, upright: bool
) -> None:
    for place, cell, top in zip(left, cells, tops, strict=True):
        axes.annotate(
            f"{cell.mean:.1f}",
            (place, top),
            xytext=(0, 2 if upright else 4),
            textcoords="offset points",
            ha="center",
            rotation=0 if upright else 90,
            fontsize=SMALL,
            color=INK,
        )
