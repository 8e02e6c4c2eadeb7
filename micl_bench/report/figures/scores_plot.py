"""Bars of the scores: one group for each task, data set and protocol."""

import functools
import math
import re
from collections import Counter

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from micl_bench.records.names import arch_label
from micl_bench.report.figures.comparable import Group, comparable
from micl_bench.report.figures.palette import HATCHES, PAGE_INCHES, SMALL, method_colours
from micl_bench.report.figures.panels import add_legend, marks, shortened, whiskers, write_at
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.long import grouped
from micl_bench.report.frame.naming import data_label, data_order, method_rank
from micl_bench.report.frame.selection import Selection

_MOST_SERIES, _MOST_GROUPS = 8, 24
_UPRIGHT_INCHES, _LYING_INCHES = 0.3, 0.12
"""Widths of a bar from which its score has room above it, written upright or on its side."""
_AXIS_POINTS, _GAP_POINTS = 465, 6
"""Width of the axis, and the least width between two names below it."""
_MARGIN = 0.1
"""Width beside the outer groups, in widths of a group."""
_LONGEST_NAME = 40
"""Letters of a data set's name on a slanted line."""
_HEIGHT_INCHES, _SLANTED_INCHES_PER_LETTER = 3.4, 0.045


_Scores = dict[Group, dict[str, Entry]]
"""Scores by group and series, which is a method, with its architecture where there are several."""


def found_scores(selection: Selection) -> Found:
    """Return the bars of all tasks, or why there are none."""
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
    """Return the newest number of each series in each group: a mean over records that differ in seeds.

    Percentages of which more is no worse have a bar, where they are quoted.
    """
    frame = comparable(selection)
    is_percentage = (frame["unit"] == "%") & (frame["better"] != "lower")
    frame = frame[frame["speaks"] & frame["downstream"] & is_percentage]
    metrics = list(frame["metric"].unique())
    series = frame["method"]
    if frame["arch"].nunique() > 1:
        series = series + ", " + frame["arch"].map(arch_label)
    found: _Scores = {}
    for (group, name), own in frame.groupby(["group", series], sort=False):
        newest = next(iter(grouped(own, "network").values()))
        entry = entry_of(group.metric, newest)
        # A mean of which one value is undefined is undefined.
        if math.isfinite(entry.mean):
            found.setdefault(group, {})[name] = entry
    ranked = sorted(
        found, key=lambda g: (g.place, data_order(g.data), metrics.index(g.metric), g.protocol)
    )
    return {group: found[group] for group in ranked}


def _shown(scores: _Scores) -> _Scores:
    """Keep as many series and groups as can be read: ours, and those that are in most groups."""
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
    """Return the mark of each group's protocol among those of its task."""
    found = {
        place: marks(group.protocol for group in groups if group.place == place)
        for place in {group.place for group in groups}
    }
    return {group: found[group.place][group.protocol] for group in groups}


def _bars(scores: _Scores) -> Figure:
    names = sorted({name for found in scores.values() for name in found}, key=_series_rank)
    family = {name: e.first.method for found in scores.values() for name, e in found.items()}
    colours = method_colours(set(family.values()))
    figure = Figure(figsize=(PAGE_INCHES, _HEIGHT_INCHES), layout="constrained")
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
    figure.set_figheight(_HEIGHT_INCHES + _name_groups(axes, scores))
    axes.set_ylabel("score [%]")
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5 - _MARGIN, len(scores) - 0.5 + _MARGIN)
    axes.set_ylim(0, min(116, max(axes.get_ylim()[1] * 1.12, 10)))
    add_legend(figure)
    return figure


def _name_groups(axes: Axes, groups: _Scores) -> float:
    """Write the name of each group below it, within its width; on slanted lines where one has no room.

    Returns the inches by which slanted lines need the picture to grow.
    """
    datas = list(dict.fromkeys(group.data for group in groups))
    names = []
    for group, mark in _marks(groups).items():
        label = shortened(data_label(group.data, datas), _LONGEST_NAME)
        words = [label, group.label, group.header.removesuffix(" [%]")]
        names.append(words + ([f"[{mark}]"] if mark else []))
    room = _AXIS_POINTS / (len(groups) + 2 * _MARGIN) - _GAP_POINTS
    lines = [[line for word in words for line in _lines(word, room)] for words in names]
    is_upright = all(_points_of(line) <= room for own in lines for line in own)
    texts = ["\n".join(own) for own in lines] if is_upright else list(map(", ".join, names))
    axes.set_xticks(range(len(groups)), texts, fontsize=SMALL)
    if is_upright:
        return 0.0
    for text in axes.get_xticklabels():
        text.set(rotation=50, ha="right", rotation_mode="anchor")
    return _SLANTED_INCHES_PER_LETTER * max(map(len, texts))


def _lines(words: str, room: float) -> list[str]:
    """Break words at spaces, and after hyphens and underscores; a longer part stays whole."""
    lines = [""]
    for part in re.split(r"(?<= )|(?<=\w\w-)|(?<=_)", words):
        if lines[-1] and _points_of(lines[-1] + part) > room:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _points_of(line: str) -> float:
    """Return the width of a line below the axis, in points."""
    return float(TextPath((0, 0), line.rstrip() or "-", size=SMALL).get_extents().width)
