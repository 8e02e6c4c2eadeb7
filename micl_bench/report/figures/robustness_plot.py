"""The picture of effective robustness: clean against shifted accuracy, a panel per set."""

import dataclasses
import functools
from collections import Counter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from micl_bench.report.figures.palette import FAINT, INK, MARKERS, method_colours
from micl_bench.report.figures.panels import (
    add_legend,
    drawn_of,
    name_panel,
    panel_grid,
    whiskers,
)
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.figures.robustness_points import (
    TABLE_HEADER,
    Panel,
    caption,
    logit,
    panels,
    percentage,
    protocol_lines,
    table_rows,
)
from micl_bench.report.frame.naming import OURS, method_rank
from micl_bench.report.frame.selection import Selection

_STEPS = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)
_EXTREME_TICKS = (0.01, 0.1, 0.5, 1, 2, 5, 95, 98, 99, 99.5, 99.9, 99.99)
_FEWEST_TICKS, _MOST_TICKS = 4, 10
_BEYOND = 0.3
"""Logits by which y = x is longer than the points reach: a panel shows at least about 50 to 65 %."""
_NEAR = 0.02
"""Logits within which two points lie on each other."""
_MOST_PANELS, _MOST_POINTS = 9, 16


def found_robustness(selection: Selection) -> Found:
    """Return effective robustness on as many sets as can be read, with a table of distances."""
    every = panels(selection.of_task("robustness"))
    if not every:
        return Found()
    whole = every[:_MOST_PANELS]
    # The lines stay those through all points.
    drawn = _thinned(whole)
    number, shown = (len({p.method for panel in of for p in panel.points}) for of in (whole, drawn))
    best = "checkpoints: of each method the best, ours first"
    words = [caption(whole), *drawn_of(shown, number, best)]
    words += drawn_of(len(whole), len(every), "sets and protocols")
    drawing = Drawing(
        name="effective-robustness",
        title="Effective robustness",
        caption=" ".join(words),
        draw=functools.partial(robustness_scatter, drawn),
        table=[TABLE_HEADER, *table_rows(drawn)],
    )
    return Found(drawings=[drawing])


def _thinned(whole: list[Panel]) -> list[Panel]:
    """Keep as many checkpoints as can be read: the best of each method, ours first, then second best."""
    best: dict[tuple[str, str], float] = {}
    for point in (point for panel in whole for point in panel.points):
        key = (point.family, point.method)
        best[key] = max(best.get(key, 0.0), point.shifted.value)
    turns, order = Counter[str](), []
    for (family, method), score in sorted(best.items(), key=lambda item: (-item[1], item[0])):
        order.append((turns[family], family != OURS, -score, method))
        turns[family] += 1
    kept = {method for *_, method in sorted(order)[:_MOST_POINTS]}
    found = [
        dataclasses.replace(panel, points=[p for p in panel.points if p.method in kept])
        for panel in whole
    ]
    return [panel for panel in found if panel.points]


def robustness_scatter(panels: list[Panel]) -> Figure:
    """Draw points with their intervals, y = x, and the fitted line where there is one."""
    family_of = {p.method: p.family for panel in panels for p in panel.points}
    colours = method_colours(set(family_of.values()))
    # Shapes tell methods apart where colours do not.
    looks = {
        method: {"color": colours[family_of[method]], "marker": MARKERS[turn % len(MARKERS)]}
        for turn, method in enumerate(sorted(family_of, key=method_rank))
    }
    figure, grid = panel_grid(len(panels), abreast=3, notes=protocol_lines(panels))
    for axes, panel in zip(grid, panels, strict=True):
        _draw(axes, panel, looks)
    add_legend(figure)
    return figure


def _draw(axes: Axes, panel: Panel, looks: dict[str, dict[str, Any]]) -> None:
    axes.set_xscale("function", functions=(logit, percentage))
    axes.set_yscale("function", functions=(logit, percentage))
    x, y = (
        np.array([panel.drawn(number.value) for number in numbers])
        for numbers in zip(*((p.clean, p.shifted) for p in panel.points), strict=True)
    )
    ends = percentage(np.array([logit(x.min()) - _BEYOND, logit(x.max()) + _BEYOND]))
    axes.plot(ends, ends, color=FAINT, linewidth=1, label="y = x")
    if panel.line:
        expected = [panel.line.at(end) for end in ends]
        axes.plot(ends, expected, color=INK, linestyle="--", linewidth=1, label="fitted line")
    # All at once, which takes a third of the time of one after another.
    axes.errorbar(
        x,
        y,
        xerr=_whiskers(panel, x, "clean"),
        yerr=_whiskers(panel, y, "shifted"),
        fmt="none",
        ecolor=[looks[point.method]["color"] for point in panel.points],  # type: ignore[arg-type]
        elinewidth=1.1,
    )
    places = logit(np.stack([x, y], axis=1))
    near = np.abs(places[:, None] - places).max(axis=-1) < _NEAR
    # A filled marker, or one larger and hollow round each that is drawn over it.
    for turn, (point, beneath) in enumerate(
        zip(panel.points, np.triu(near, 1).sum(axis=1), strict=True)
    ):
        look = looks[point.method]
        edge = {"markerfacecolor": "none", "markeredgewidth": 1.6}
        filled = {"markeredgecolor": "white", "markeredgewidth": 0.7}
        axes.plot(
            x[turn],
            y[turn],
            linestyle="none",
            markersize=6.5 + 5.5 * beneath,
            label=point.method,
            **(look | (edge if beneath else filled)),
        )
    axes.margins(x=0.02, y=0.08)
    name_panel(axes, title=panel.title, xlabel="clean top-1 [%]", ylabel="shifted top-1 [%]")
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        shown = _ticks(*limits)
        axis.set_ticks(shown, [f"{tick:g}" for tick in shown])


def _whiskers(panel: Panel, values: Any, name: str) -> Any:
    intervals = [getattr(point, name).interval for point in panel.points]
    drawn = [ends and (panel.drawn(ends[0]), panel.drawn(ends[1])) for ends in intervals]
    return whiskers(values, drawn)


def _ticks(low: float, high: float) -> list[float]:
    """Return round percentages within the limits: the coarsest that are enough, as many as have room."""
    least = (logit(high) - logit(low)) / _MOST_TICKS
    for step in _STEPS:
        shown: list[float] = []
        for tick in sorted({*np.arange(step, 100, step).round(1), *_EXTREME_TICKS}):
            apart = not shown or logit(tick) - logit(shown[-1]) >= least
            if low <= tick <= high and apart:
                shown.append(tick)
        if len(shown) >= _FEWEST_TICKS:
            break
    return shown
