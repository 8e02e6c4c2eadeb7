"""Bars of the scores: one group for each task, data set and protocol."""

import functools
import math
import textwrap
from collections import Counter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from micl_bench.records.names import arch_label
from micl_bench.records.result import Record
from micl_bench.report.figures.comparable import Group, comparable
from micl_bench.report.figures.palette import HATCHES, PAGE_INCHES, SMALL, method_colours
from micl_bench.report.figures.panels import add_legend, marks, whiskers, write_at
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.naming import data_label, data_order, method_rank
from micl_bench.report.frame.selection import Selection

_MOST_SERIES, _MOST_GROUPS = 8, 24
_UPRIGHT_INCHES, _LYING_INCHES = 0.3, 0.12
"""Widths of a bar from which its score has room above it, written upright or on its side."""
_LETTERS, _FEWEST_LETTERS, _LONGEST_SLANTED = 92, 8, 60
"""Letters that fit below the axis; those that a group must have for upright names; of slanted ones."""


_Scores = dict[Group, dict[str, Entry]]
"""By group, then by series: a method, with its architecture where there are several."""


def found_scores(selection: Selection) -> Found:
    """The bars of all tasks, or why there are none."""
    scores = _scores(selection)
    if not scores:
        return Found(left_out=["The bars of scores are left out: no record has a score to draw."])
    shown = _shown(scores)
    series, drawn = ({name for found in of.values() for name in found} for of in (scores, shown))
    caption = (
        "Whiskers are 95 % intervals: over the test images, or, of a mean over seeds, Student's t over "
        "the seeds. Bars of one group share a protocol; where a method has several networks under one "
        "protocol, its newest is drawn."
    )
    if len(drawn) < len(series) or len(shown) < len(scores):
        caption += (
            f" Drawn are {len(drawn)} of {len(series)} methods, those with most scores, in "
            f"{len(shown)} of {len(scores)} groups; the tables have all."
        )
    rows = {(group.place[1], mark): group.protocol for group, mark in _marks(shown).items() if mark}
    table = [[f"{task} [{mark}]", protocol] for (task, mark), protocol in rows.items()]
    drawing = Drawing(
        name="scores",
        title="Scores by task",
        caption=caption,
        draw=functools.partial(_bars, shown),
        table=[["bars", "protocol"], *table] if table else [],
    )
    return Found(drawings=[drawing])


def _scores(selection: Selection) -> _Scores:
    """The newest number of each series in each group: a mean over records that differ in seeds."""
    groups = comparable(selection, _bar_metrics)
    several_archs = len({network.arch for own in groups.values() for network in own}) > 1
    metrics = list(dict.fromkeys(group.metric for group in groups))
    found: _Scores = {}
    for group in sorted(
        groups, key=lambda g: (g.place, data_order(g.data), metrics.index(g.metric), g.protocol)
    ):
        entries: dict[str, Entry] = {}
        for network, runs in groups[group].items():
            arch = f", {arch_label(network.arch)}" if several_archs else ""
            entries.setdefault(network.method + arch, entry_of(group.metric, runs))
        # A mean of which one value is undefined is undefined.
        if defined := {name: one for name, one in entries.items() if math.isfinite(one.mean)}:
            found[group] = defined
    return found


def _bar_metrics(result: Record) -> list[str]:
    """The headline metrics that have a bar: percentages, of which more is no worse."""
    quoted = result.quoted if result.about.downstream else ()
    numbers = {name: result.metrics[name] for name in quoted}
    return [name for name, one in numbers.items() if one.unit == "%" and one.direction >= 0]


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


def _series_rank(name: str) -> tuple[bool, str]:
    method, comma, arch = name.partition(", ")
    other, lower = method_rank(method)
    return (other, lower + comma + arch)


def _marks(groups: _Scores) -> dict[Group, str]:
    """The mark of each group's protocol among those of its task."""
    found = {
        place: marks(group.protocol for group in groups if group.place == place)
        for place in {group.place for group in groups}
    }
    return {group: found[group.place][group.protocol] for group in groups}


def _bars(scores: _Scores) -> Figure:
    names = sorted({name for found in scores.values() for name in found}, key=_series_rank)
    family = {name: e.first.method for found in scores.values() for name, e in found.items()}
    colours = method_colours(set(family.values()))
    figure = Figure(figsize=(PAGE_INCHES, 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(names)
    inches = width * 0.9 * PAGE_INCHES / len(scores)
    bars: dict[str, list[tuple[float, Entry]]] = {name: [] for name in names}
    for place, found in enumerate(scores.values()):
        # The bars that a group has are centred on its place.
        present = [name for name in names if name in found]
        for turn, name in enumerate(present):
            bars[name].append((place + (turn - (len(present) - 1) / 2) * width, found[name]))
    for turn, (name, own) in enumerate(bars.items()):
        middles, means = [middle for middle, _ in own], [entry.mean for _, entry in own]
        lengths = whiskers(means, [entry.interval for _, entry in own])
        axes.bar(
            middles,
            means,
            width * 0.94,
            label=name,
            color=colours[family[name]],
            hatch=HATCHES[turn % len(HATCHES)],
            edgecolor="#ffffffb0",
            linewidth=0,
        )
        axes.errorbar(
            middles, means, lengths, fmt="none", ecolor="#333333", elinewidth=0.9, capsize=2
        )
        if inches >= _LYING_INCHES:
            look = {"rotation": 0 if inches >= _UPRIGHT_INCHES else 90, "ha": "center"}
            for middle, mean, length in zip(middles, means, lengths[1], strict=True):
                top = mean + np.nan_to_num(length)
                write_at(axes, f"{mean:.1f}", (middle, top), (0, 4), **look)
    _name_groups(axes, scores)
    axes.set_ylabel("score [%]")
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(scores) - 0.4)
    axes.set_ylim(0, min(116, max(axes.get_ylim()[1] * 1.12, 10)))
    add_legend(figure)
    return figure


def _name_groups(axes: Axes, groups: _Scores) -> None:
    """Below each group, within its width; along slanted lines where there is little of it."""
    datas = list(dict.fromkeys(group.data for group in groups))
    letters = _LETTERS // len(groups)
    texts = []
    for group, mark in _marks(groups).items():
        words = [data_label(group.data, datas), group.label, group.header.removesuffix(" [%]")]
        words += [f"[{mark}]"] if mark else []
        if letters < _FEWEST_LETTERS:
            line = ", ".join(words)
            texts.append(textwrap.shorten(line, _LONGEST_SLANTED, placeholder="..."))
        else:
            wrapped = (line for word in words for line in textwrap.wrap(word, letters))
            texts.append("\n".join(wrapped))
    axes.set_xticks(range(len(groups)), texts, fontsize=SMALL)
    if letters < _FEWEST_LETTERS:
        for text in axes.get_xticklabels():
            text.set(rotation=50, ha="right", rotation_mode="anchor")
