"""The picture of effective robustness: clean against shifted accuracy, a panel a set."""

import dataclasses
import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from micl_bench.records.declared import Number
from micl_bench.report.figures.palette import (
    FAINT,
    INK,
    MARKERS,
    PAGE_INCHES,
    SMALL,
    method_colours,
)
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.figures.robustness_points import (
    TABLE_HEADER,
    Panel,
    Point,
    caption,
    panels,
    protocol_lines,
    table_rows,
)
from micl_bench.report.frame.naming import method_rank
from micl_bench.report.frame.selection import Selection

_STEPS = (10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)
_EXTREME_TICKS = (0.01, 0.1, 0.5, 1, 2, 5, 95, 98, 99, 99.5, 99.9, 99.99)
_FEWEST_TICKS, _MOST_TICKS = 4, 10
_LEAST_SPAN = 0.6
"""Logits that an axis shows at least: about 50 to 65 %."""
_NEAR = 0.02
"""Logits within which two points lie on each other."""
_LETTERS_PER_INCH, _LETTERS_OF_A_HANDLE = 17, 9
_COLUMNS = 3
_PANEL_INCHES = 2.6
_MOST_PANELS, _MOST_POINTS = 9, 16


def found_robustness(selection: Selection) -> Found:
    """Effective robustness on the first sets, as many as can be read, with the distances in a table."""
    every = panels(selection.of_task("robustness"))
    if not every:
        return Found()
    whole = every[:_MOST_PANELS]
    # The lines stay those through all points.
    words, drawn = [caption(whole)], _thinned(whole)
    number, shown = (len({p.method for panel in of for p in panel.points}) for of in (whole, drawn))
    if shown < number:
        words.append(
            f"Drawn are {shown} of {number} checkpoints: of each method the best, ours first."
        )
    if len(whole) < len(every):
        words.append(f"Drawn are {len(whole)} of {len(every)} sets and protocols.")
    drawing = Drawing(
        name="effective-robustness",
        title="Effective robustness",
        caption=" ".join(words),
        draw=lambda: robustness_scatter(drawn),
        table=[TABLE_HEADER, *table_rows(drawn)],
    )
    return Found(drawings=[drawing])


def _thinned(whole: list[Panel]) -> list[Panel]:
    """As many checkpoints as can be read: the best of each method, ours first, then the second best."""
    best: dict[str, dict[str, float]] = {}
    for panel in whole:
        for point in panel.points:
            own = best.setdefault(point.family, {})
            own[point.method] = max(own.get(point.method, 0.0), point.shifted.value)
    turns = [
        (turn, method_rank(family)[0], -own[method], method)
        for family, own in best.items()
        for turn, method in enumerate(sorted(own, key=lambda m, own=own: (-own[m], m)))  # type: ignore[misc]
    ]
    kept = {method for *_, method in sorted(turns)[:_MOST_POINTS]}
    found = [
        dataclasses.replace(
            panel, points=[p for p in panel.points if p.method in kept][:_MOST_POINTS]
        )
        for panel in whole
    ]
    return [panel for panel in found if panel.points]


def robustness_scatter(panels: list[Panel]) -> Figure:
    """Points with their intervals, y = x, and the fitted line where there is one."""
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = max(PAGE_INCHES * columns / _COLUMNS, 3.4)
    below = [
        part
        for line in protocol_lines(panels)
        for part in textwrap.wrap(line, int(_LETTERS_PER_INCH * width), subsequent_indent="    ")
    ]
    figure = Figure(
        figsize=(width, _PANEL_INCHES * rows + 0.45 + 0.13 * len(below)),
        layout="constrained",
    )
    styles = _styles(panels)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, styles)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    room = int(_LETTERS_PER_INCH * width / (_LETTERS_OF_A_HANDLE + 1.4 * max(map(len, handles))))
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=max(1, room)
    )
    figure.supxlabel("\n".join(below), fontsize=SMALL, color=INK, x=0.01, ha="left")
    return figure


def _styles(panels: list[Panel]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each method: shapes tell them apart where colours do not."""
    family_of = {p.method: p.family for panel in panels for p in panel.points}
    colours = method_colours(set(family_of.values()))
    return {
        method: (colours[family_of[method]], MARKERS[i % len(MARKERS)])
        for i, method in enumerate(sorted(family_of, key=method_rank))
    }


def _draw(axes: Axes, panel: Panel, styles: dict[str, tuple[str, str]]) -> None:
    x_range, y_range = _ranges(panel)
    ends = np.array(x_range)
    axes.plot(ends, ends, color=FAINT, linewidth=1, label="y = x")
    if panel.line:
        axes.plot(
            ends,
            panel.line.slope * ends + panel.line.intercept,
            color=INK,
            linestyle="--",
            linewidth=1,
            label="fitted line",
        )
    _draw_whiskers(axes, panel, styles)
    for turn, point in enumerate(panel.points):
        beneath = sum(_is_near(panel, point, later) for later in panel.points[turn + 1 :])
        _draw_point(axes, panel, point, *styles[point.method], beneath=beneath)
    axes.set(xlim=x_range, ylim=y_range, xlabel="clean top-1 [%]", ylabel="shifted top-1 [%]")
    axes.set_title("\n".join(textwrap.wrap(panel.title, 32)))
    for axis, limits in ((axes.xaxis, x_range), (axes.yaxis, y_range)):
        shown = _ticks(*limits)
        axis.set_ticks([_of(tick) for tick in shown], [f"{tick:g}" for tick in shown])


def _is_near(panel: Panel, one: Point, other: Point) -> bool:
    """Whether one marker would hide the other."""
    apart = [
        panel.logit(a.value) - panel.logit(b.value)
        for a, b in ((one.clean, other.clean), (one.shifted, other.shifted))
    ]
    return max(map(abs, apart)) < _NEAR


def _draw_point(
    axes: Axes, panel: Panel, point: Point, colour: str, marker: str, *, beneath: int
) -> None:
    """A filled marker, or one larger and hollow round each that is drawn over it."""
    axes.plot(
        panel.logit(point.clean.value),
        panel.logit(point.shifted.value),
        linestyle="none",
        marker=marker,
        color=colour,
        markersize=6.5 + 5.5 * beneath,
        markerfacecolor="none" if beneath else colour,
        markeredgecolor=colour if beneath else "white",
        markeredgewidth=1.6 if beneath else 0.7,
        label=point.method,
    )


def _draw_whiskers(axes: Axes, panel: Panel, styles: dict[str, tuple[str, str]]) -> None:
    """The intervals of all points at once, which takes a third of the time of one after another."""
    axes.errorbar(
        [panel.logit(point.clean.value) for point in panel.points],
        [panel.logit(point.shifted.value) for point in panel.points],
        xerr=np.transpose([_whiskers(panel, p.clean) for p in panel.points]),
        yerr=np.transpose([_whiskers(panel, p.shifted) for p in panel.points]),
        fmt="none",
        ecolor=[styles[point.method][0] for point in panel.points],  # type: ignore[arg-type]
        elinewidth=1.1,
    )


def _whiskers(panel: Panel, number: Number) -> tuple[float, float]:
    """Their lengths, none where there is no interval."""
    low, high = (panel.logit(end) for end in number.interval or (number.value,) * 2)
    middle = panel.logit(number.value)
    return max(0.0, middle - low), max(0.0, high - middle)


def _ranges(panel: Panel) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of x: what holds all points. Of y: the same, and all of y = x above the lowest point."""
    xs = _reach(panel, [p.clean for p in panel.points])
    ys = _reach(panel, [p.shifted for p in panel.points])
    x_range = _padded(*xs)
    return x_range, _padded(min(ys[0], xs[0]), max(ys[1], xs[1]))


def _reach(panel: Panel, numbers: list[Number]) -> tuple[float, float]:
    ends = [panel.logit(end) for one in numbers for end in (one.value, *(one.interval or ()))]
    return min(ends), max(ends)


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = max(0.08 * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """Round percentages within the limits: the coarsest that are enough, thinned to what has room."""
    least = (high - low) / _MOST_TICKS
    shown: list[float] = []
    for step in _STEPS:
        multiples = {round(step * number, 3) for number in range(1, math.ceil(100 / step))}
        shown = []
        for tick in sorted(multiples | set(_EXTREME_TICKS)):
            apart = not shown or _of(tick) - _of(shown[-1]) >= least
            if low <= _of(tick) <= high and apart:
                shown.append(tick)
        if len(shown) >= _FEWEST_TICKS:
            break
    return shown


def _of(tick: float) -> float:
    return math.log(tick / (100 - tick))
