"""The picture of accuracy against pre-training cost, a panel for each task and kind of hardware."""

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from micl_bench.records.published import Reference
from micl_bench.report.figures.cost_points import Axis, Panel, Point, cost_panels, pareto_front
from micl_bench.report.figures.palette import (
    FAINT,
    INK,
    MARKERS,
    PAGE_INCHES,
    SMALL,
    method_colours,
)
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.naming import method_rank
from micl_bench.report.frame.selection import Selection

TABLE_HEADER = ["panel", "point", "cost", "score", "where from"]
_MOST_PANELS, _COLUMNS, _PANEL_INCHES = 4, 2, 2.5
_MOST_POINTS = 14
"""Of one kind in a panel; above it only the front and its neighbours are drawn."""
_MOST_NAMES = 8
"""Networks that a legend names."""
_WIDE_RANGE = 8.0
"""Costs further apart are drawn on a logarithmic axis."""
_LETTERS_PER_INCH = 17
_FREE_POINTS = 8.0
"""Between the middles of a number and of anything else, in points."""
_OFFSETS = [
    (radius * math.cos(math.radians(turn)), radius * math.sin(math.radians(turn)))
    for radius in (8, 14, 20)
    for turn in (0, 180, 45, 135, 315, 225, 90, 270)
]


def found_cost(selection: Selection, references: Sequence[Reference], axis: Axis) -> Found:
    """The picture of the panels in which at least two pre-trainings or published points meet."""
    every = cost_panels(selection, references, axis)
    drawn = [panel for panel in every if len(panel.measured) + len(panel.published) > 1]
    if not drawn:
        why = (
            "no two numbers of one protocol come from pre-trainings whose "
            f"{'epochs' if axis == 'epochs' else 'device-hours on one kind of hardware'} are known"
        )
        return Found(left_out=[f"Accuracy against {axis} of pre-training is left out: {why}."])
    return Found(drawings=[cost_drawing(drawn, axis)])


def cost_drawing(every: list[Panel], axis: Axis) -> Drawing:
    """One drawing of the first panels."""
    drawn = every[:_MOST_PANELS]
    return Drawing(
        name=f"cost-{axis}",
        title=f"Accuracy against {axis} of pre-training",
        caption=_caption(drawn, len(every), axis),
        draw=lambda: cost_scatter(drawn),
        table=[TABLE_HEADER, *_table_rows(drawn)],
    )


def cost_scatter(panels: list[Panel]) -> Figure:
    """Measured points filled, with their intervals; published ones hollow, with numbers."""
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = PAGE_INCHES if columns > 1 else 0.6 * PAGE_INCHES
    key = _key_lines(panels, int(_LETTERS_PER_INCH * width))
    figure = Figure(
        figsize=(width, _PANEL_INCHES * rows + 0.4 + 0.13 * len(key)), layout="constrained"
    )
    looks = _looks(panels)
    numbers = _numbers(panels)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, looks, numbers)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    longest = max(map(len, handles))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper left",
        ncols=max(1, int(_LETTERS_PER_INCH * width / (9 + longest))),
    )
    figure.supxlabel("\n".join(key), fontsize=SMALL, color=INK, x=0.01, ha="left")
    return figure


class _Look(NamedTuple):
    """How a measured network is drawn, and what the legend calls it."""

    colour: str
    marker: str
    label: str


def _looks(panels: list[Panel]) -> dict[str, _Look]:
    """Colours are those of the methods; many networks are told apart by method alone."""
    method_of = {p.label: p.method for panel in panels for p in shown_points(panel.measured)}
    colours = method_colours(set(method_of.values()))
    each = len(method_of) <= _MOST_NAMES
    names = sorted(set(method_of) if each else set(method_of.values()), key=method_rank)
    marker_of = {name: MARKERS[turn % len(MARKERS)] for turn, name in enumerate(names)}
    return {
        label: _Look(
            colours[method], marker_of[label if each else method], label if each else method
        )
        for label, method in method_of.items()
    }


def shown_points(points: list[Point]) -> list[Point]:
    """The front, and then those with the highest scores, as many as can be read."""
    if len(points) <= _MOST_POINTS:
        return points
    front = set(pareto_front([(p.cost, p.value) for p in points]))
    ranked = sorted(range(len(points)), key=lambda i: (i not in front, -points[i].value))
    return [points[i] for i in sorted(ranked[:_MOST_POINTS])]


def _numbers(panels: list[Panel]) -> dict[str, int]:
    """A number for each published network, over all panels."""
    names = {p.label for panel in panels for p in shown_points(panel.published)}
    return {name: turn for turn, name in enumerate(sorted(names, key=str.lower), start=1)}


def _key_lines(panels: list[Panel], letters: int) -> list[str]:
    """Which published network has which number: a picture must not need another page."""
    words = [
        f"{number}\u00a0{name.replace(' ', chr(160))}" for name, number in _numbers(panels).items()
    ]
    return textwrap.wrap("Published: " + "; ".join(words), letters) if words else []


def _draw(
    axes: Axes,
    panel: Panel,
    looks: dict[str, _Look],
    numbers: dict[str, int],
) -> None:
    published, measured = shown_points(panel.published), shown_points(panel.measured)
    costs = [point.cost for point in (*published, *measured)]
    # Before anything is placed: what stands near what depends on it.
    if min(costs) > 0 and max(costs) > _WIDE_RANGE * min(costs):
        axes.set_xscale("log")
    for point in published:
        axes.plot(
            [point.cost],
            [point.value],
            "o",
            markerfacecolor="none",
            markeredgecolor="#555555",
            markersize=5,
            linestyle="none",
            label="published, by number",
        )
    for point in measured:
        look = looks[point.label]
        low, high = point.interval or (point.value, point.value)
        axes.errorbar(
            [point.cost],
            [point.value],
            yerr=[[max(0.0, point.value - low)], [max(0.0, high - point.value)]],
            fmt=look.marker,
            color=look.colour,
            ecolor=look.colour,
            elinewidth=1.0,
            capsize=2.5,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=look.label,
        )
    _draw_front(axes, published, FAINT, ":", "front of published")
    _draw_front(axes, measured, INK, "--", "front of measured")
    title = f"{panel.label}, {panel.data}"
    alone = f", {panel.protocol}" if not panel.measured else ""
    axes.set_title("\n".join(textwrap.wrap(title + alone, 44)))
    hours = "\n".join(textwrap.wrap(f"device-hours of pre-training, {panel.hardware}", 48))
    axes.set_xlabel("epochs of pre-training" if panel.axis == "epochs" else hours)
    axes.set_ylabel(panel.header)
    axes.margins(x=0.1, y=0.12)
    _tick(axes)
    _write_numbers(axes, published, numbers)


def _draw_front(axes: Axes, points: list[Point], colour: str, line: str, label: str) -> None:
    front = [points[i] for i in pareto_front([(p.cost, p.value) for p in points])]
    if len(front) < 2:
        return
    axes.plot(
        [point.cost for point in front],
        [point.value for point in front],
        color=colour,
        linestyle=line,
        linewidth=1.0,
        drawstyle="steps-post",
        zorder=1,
        label=label,
    )


def _tick(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    if axes.get_xscale() != "log":
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    low, high = np.log10(axes.get_xlim())
    steps = (1, 2, 5) if high - low < 2 else (1,)
    ticks = [
        step * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in steps
        if low <= math.log10(step * 10.0**power) <= high
    ]
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _write_numbers(axes: Axes, points: list[Point], numbers: dict[str, int]) -> None:
    """Each number beside its point, in the first place that is free, or the freest."""
    scale = axes.figure.dpi / 72
    places = [axes.transData.transform((p.cost, p.value)) / scale for p in points]
    taken = [(float(x), float(y)) for x, y in places]
    for point, (x, y) in zip(points, places, strict=True):
        own = (float(x), float(y))
        room = {
            (dx, dy): min(
                (math.hypot(x + dx - a, y + dy - b) for a, b in taken if (a, b) != own),
                default=math.inf,
            )
            for dx, dy in _OFFSETS
        }
        free = [offset for offset, distance in room.items() if distance >= _FREE_POINTS]
        best = free[0] if free else max(room, key=room.__getitem__)
        taken.append((x + best[0], y + best[1]))
        axes.annotate(
            str(numbers[point.label]),
            (point.cost, point.value),
            xytext=best,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SMALL,
            color=INK,
        )


def _caption(drawn: list[Panel], number: int, axis: Axis) -> str:
    words = []
    if any(panel.measured for panel in drawn):
        words.append(
            "Filled: measured here, with 95 % intervals (over the test images, or Student's t over "
            "seeds); a cost is the mean over the pre-trainings."
        )
        if axis == "device-hours":
            words.append("Device-hours are of the pre-training run, its checks and saves included.")
    if any(panel.published for panel in drawn):
        sources = sorted({p.source for panel in drawn for p in shown_points(panel.published)})
        words.append(
            "Hollow: published, pre-trained on ImageNet-1K without labels, each under the protocol of "
            "its source; of several values of one network and cost the ledger's first. "
            f"Sources: {'; '.join(sources)}."
        )
    words.append(
        "Stepped lines: Pareto fronts, the points that no other of their kind beats in both cost and "
        "score."
    )
    protocols = list(dict.fromkeys(p.protocol for p in drawn if p.measured))
    words += [f"Measured under: {' | '.join(protocols)}."] if protocols else []
    if axis == "device-hours" and len({panel.hardware for panel in drawn}) > 1:
        words.append("Hours of different hardware do not compare: each kind has panels of its own.")
    kinds = [points for panel in drawn for points in (panel.measured, panel.published)]
    if any(len(points) > _MOST_POINTS for points in kinds):
        words.append(
            f"Of a panel's points at most {_MOST_POINTS} are drawn: the front, the highest."
        )
    if number > len(drawn):
        words.append(f"Drawn are {len(drawn)} of {number} panels.")
    return " ".join(words)


def _table_rows(panels: list[Panel]) -> list[list[str]]:
    rows = []
    for panel in panels:
        name = f"{panel.label}, {panel.data}" + (f", {panel.hardware}" if panel.hardware else "")
        for point in itertools.chain(shown_points(panel.measured), shown_points(panel.published)):
            ends = point.interval
            interval = f" ({ends[0]:.1f}–{ends[1]:.1f})" if ends else ""
            where = point.source or ", ".join(["measured", *([point.seeds] if point.seeds else [])])
            rows.append(
                [name, point.label, f"{point.cost:,.4g}", f"{point.value:.1f}{interval}", where]
            )
    return rows
