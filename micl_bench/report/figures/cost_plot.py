"""The picture of accuracy against pre-training cost, a panel for each task and kind of hardware."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from micl_bench.records.published import Reference
from micl_bench.report.figures.cost_points import Axis, Panel, Point, cost_panels, pareto_front
from micl_bench.report.figures.palette import FAINT, INK, MARKERS, method_colours
from micl_bench.report.figures.panels import (
    add_legend,
    drawn_of,
    name_panel,
    panel_grid,
    whiskers,
    write_at,
)
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.naming import method_rank
from micl_bench.report.frame.selection import Selection

TABLE_HEADER = ["panel", "point", "cost", "score", "where from"]
_MOST_PANELS = 4
_MOST_POINTS = 14
"""Points of one kind in a panel; of more, the front and those with the highest scores are drawn."""
_MOST_NAMES = 8
"""Networks that a legend names."""
_WIDE_RANGE = 8.0
"""Costs further apart are drawn on a logarithmic axis."""
_FREE_POINTS = 7.9
"""Between the middles of a number and of anything else, in points."""
_TURNS = np.radians([0, 180, 45, 135, 315, 225, 90, 270])
_OFFSETS = np.concatenate(
    [radius * np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1) for radius in (8, 14, 20)]
)


def found_costs(selection: Selection, references: Sequence[Reference]) -> Found:
    """Return accuracy against device-hours; against epochs without any, or if published points meet."""
    hours = found_cost(selection, references, "device-hours")
    epochs = found_cost(selection, references, "epochs")
    if hours.drawings and not any("Hollow" in drawing.caption for drawing in epochs.drawings):
        return hours
    left_out = [] if epochs.drawings else hours.left_out
    return Found(drawings=[*hours.drawings, *epochs.drawings], left_out=left_out)


def found_cost(selection: Selection, references: Sequence[Reference], axis: Axis) -> Found:
    """Return the picture of the panels in which at least two points meet, or why there is none."""
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
    """Return one drawing of the first panels."""
    drawn = every[:_MOST_PANELS]
    return Drawing(
        name=f"cost-{axis}",
        title=f"Accuracy against {axis} of pre-training",
        caption=_caption(drawn, len(every), axis),
        draw=functools.partial(cost_scatter, drawn),
        table=[TABLE_HEADER, *_table_rows(drawn)],
    )


def shown_points(points: list[Point]) -> list[Point]:
    """Return the front, and then those with the highest scores, as many as can be read."""
    if len(points) <= _MOST_POINTS:
        return points
    front = set(pareto_front([(p.cost, p.value) for p in points]))
    ranked = sorted(range(len(points)), key=lambda i: (i not in front, -points[i].value))
    return [points[i] for i in sorted(ranked[:_MOST_POINTS])]


def cost_scatter(panels: list[Panel]) -> Figure:
    """Draw measured points filled, with their intervals, and published ones hollow, with numbers."""
    names = {p.label for panel in panels for p in shown_points(panel.published)}
    # A picture must not need another page to say which published network has which number.
    numbers = {name: turn for turn, name in enumerate(sorted(names, key=str.lower), start=1)}
    key = "; ".join(f"{turn} {name}".replace(" ", "\u00a0") for name, turn in numbers.items())
    figure, grid = panel_grid(
        len(panels), abreast=2, notes=[f"Published: {key}"] if numbers else []
    )
    looks = _looks(panels)
    for axes, panel in zip(grid, panels, strict=True):
        _draw(axes, panel, looks, numbers)
    add_legend(figure)
    return figure


def _looks(panels: list[Panel]) -> dict[str, dict[str, Any]]:
    """Return the look of each measured network; many networks are drawn and named by method alone."""
    method_of = {p.label: p.method for panel in panels for p in shown_points(panel.measured)}
    colours = method_colours(set(method_of.values()))
    name_of = method_of
    if len(method_of) <= _MOST_NAMES:
        name_of = {label: label for label in method_of}
    names = sorted(set(name_of.values()), key=method_rank)
    return {
        label: {
            "color": colours[method],
            "fmt": MARKERS[names.index(name_of[label]) % len(MARKERS)],
            "label": name_of[label],
        }
        for label, method in method_of.items()
    }


def _draw(
    axes: Axes, panel: Panel, looks: dict[str, dict[str, Any]], numbers: dict[str, int]
) -> None:
    published, measured = shown_points(panel.published), shown_points(panel.measured)
    costs = [point.cost for point in (*published, *measured)]
    # Before anything is placed: what stands near what depends on it.
    is_wide = min(costs) > 0 and max(costs) > _WIDE_RANGE * min(costs)
    if is_wide:
        axes.set_xscale("log")
    for point in published:
        axes.plot(
            point.cost,
            point.value,
            "o",
            markerfacecolor="none",
            markeredgecolor="#555555",
            markersize=5,
            label="published, by number",
        )
    for point in measured:
        axes.errorbar(
            point.cost,
            point.value,
            whiskers([point.value], [point.interval]),
            elinewidth=1.0,
            capsize=2.5,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.6,
            **looks[point.label],
        )
    _draw_front(axes, published, color=FAINT, linestyle=":", label="front of published")
    _draw_front(axes, measured, color=INK, linestyle="--", label="front of measured")
    hours = f"device-hours of pre-training, {panel.hardware}"
    name_panel(
        axes,
        title=panel.title if panel.measured else f"{panel.title}, {panel.protocol}",
        xlabel="epochs of pre-training" if panel.axis == "epochs" else hours,
        ylabel=panel.header,
    )
    axes.margins(x=0.1, y=0.12)
    if is_wide:
        subs = (1, 2, 5) if max(costs) < 100 * min(costs) else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    _write_numbers(axes, published, numbers)


def _draw_front(axes: Axes, points: list[Point], **look: Any) -> None:
    front = [points[i] for i in pareto_front([(p.cost, p.value) for p in points])]
    if len(front) > 1:
        costs, values = [point.cost for point in front], [point.value for point in front]
        axes.plot(costs, values, drawstyle="steps-post", linewidth=1.0, zorder=1, **look)


def _write_numbers(axes: Axes, points: list[Point], numbers: dict[str, int]) -> None:
    """Write each number beside its point, in the first place that is free, or the freest."""
    taken = [
        axes.transData.transform((point.cost, point.value)) * 72 / axes.figure.dpi
        for point in points
    ]
    for point, place in zip(points, list(taken), strict=True):
        room = np.linalg.norm((place + _OFFSETS)[:, None] - taken, axis=-1).min(axis=1)
        best = _OFFSETS[np.minimum(room, _FREE_POINTS).argmax()]
        taken.append(place + best)
        number, at = str(numbers[point.label]), (point.cost, point.value)
        write_at(axes, number, at, tuple(best), ha="center", va="center")


def _caption(drawn: list[Panel], number: int, axis: Axis) -> str:
    words = []
    if any(panel.measured for panel in drawn):
        words.append(
            "Filled: measured here, with 95 % intervals (over the test images, or Student's t over "
            "seeds); a cost is the mean over the pre-trainings."
        )
        if axis == "device-hours":
            words.append("Device-hours are of the pre-training run, its checks and saves included.")
    if sources := sorted({p.source for panel in drawn for p in shown_points(panel.published)}):
        words.append(
            "Hollow: published, pre-trained on ImageNet-1K without labels, each under the protocol of "
            "its source; of several values of one network and cost the ledger's first. "
            f"Sources: {'; '.join(sources)}."
        )
    words.append(
        "Stepped lines: Pareto fronts, the points that no other of their kind beats in both cost and "
        "score."
    )
    if protocols := list(dict.fromkeys(p.protocol for p in drawn if p.measured)):
        words.append(f"Measured under: {' | '.join(protocols)}.")
    if axis == "device-hours" and len({panel.hardware for panel in drawn}) > 1:
        words.append("Hours of different hardware do not compare: each kind has panels of its own.")
    if any(len(points) > _MOST_POINTS for p in drawn for points in (p.measured, p.published)):
        words.append(
            f"Of a panel's points at most {_MOST_POINTS} are drawn: the front, the highest."
        )
    return " ".join(words + drawn_of(len(drawn), number, "panels"))


def _table_rows(panels: list[Panel]) -> list[list[str]]:
    rows = []
    for panel in panels:
        name = ", ".join(filter(None, (panel.title, panel.hardware)))
        for point in (*shown_points(panel.measured), *shown_points(panel.published)):
            ends = point.interval
            score = f"{point.value:.1f}" + (f" ({ends[0]:.1f}–{ends[1]:.1f})" if ends else "")
            where = point.source or ", ".join(filter(None, ("measured", point.seeds)))
            rows.append([name, point.label, f"{point.cost:,.4g}", score, where])
    return rows
