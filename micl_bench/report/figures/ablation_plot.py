"""Ablation curves: scores of pre-trainings that differ in one setting, along that setting."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from micl_bench.records.weights import Stage
from micl_bench.report.figures.comparable import Group, comparable
from micl_bench.report.figures.palette import LINES, MARKERS, class_colours
from micl_bench.report.figures.panels import (
    add_legend,
    drawn_of,
    name_panel,
    panel_grid,
    whiskers,
)
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.long import grouped
from micl_bench.report.frame.protocols import NOT_SET, differing, flat_settings
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.ablations import (
    key_of,
    order_of,
    studies_along,
    trainings_of,
    value_along,
)
from micl_bench.report.tables.measured_cell import mark_of
from micl_bench.report.tables.specs._spec import Axis, ScoreColumn
from micl_bench.report.tables.specs.ablations import SPEC

_MOST_CURVES, _MOST_PANELS = 6, 6
_MOST_AXES = 4
"""Number of axes in a report."""
_WIDE_RANGE = 8.0
_MOST_WORDS = 3
_METHOD, _DATA = "the method", "the images"


class Curve(NamedTuple):
    """The scores, under one protocol, of pre-trainings that differ along the axis alone."""

    label: str
    """The settings in which the curves of a picture differ; empty for a single curve."""
    points: list[tuple[Any, Entry]]
    """Pairs of setting and score, in the order of the axis."""


class Panel(NamedTuple):
    """Curves of one task, data set, metric and protocol."""

    group: Group
    curves: list[Curve]


AXES = {axis.header.replace(" ", "-"): axis for axis in SPEC.axes}
"""The axes by their name in `show ablation --axis`."""
_DRAWN = pd.DataFrame(
    [(task, c.metric) for c in SPEC.columns if isinstance(c, ScoreColumn) for task in c.tasks],
    columns=["task", "metric"],
)
"""The scores that the tables of ablations have."""


def found_ablations(selection: Selection) -> Found:
    """Return a picture for each axis along which settings were varied, those with most points first."""
    panels = ablation_panels(selection)
    sizes = {
        name: sum(len(curve.points) for panel in own for curve in panel.curves)
        for name, own in panels.items()
    }
    ranked = sorted(panels, key=lambda name: -sizes[name])
    kept, more = ranked[:_MOST_AXES], ranked[_MOST_AXES:]
    found = Found(drawings=[ablation_drawing(n, own) for n, own in panels.items() if n in kept])
    if more:
        found.left_out.append(
            f"Ablations of {', '.join(more)} are left out; `micl-bench show ablation` draws them."
        )
    return found


def ablation_panels(selection: Selection) -> dict[str, list[Panel]]:
    """Return the panels of each axis along which settings were varied; points are means over seeds."""
    frame = comparable(selection).merge(_DRAWN)
    training = frame["result"].map(key_of)
    trainings = trainings_of(frame["result"])
    panels: dict[str, list[Panel]] = {}
    for name, axis in AXES.items():
        studies = studies_along(axis, trainings)
        labels = _labels(axis, {study.rest: trainings[study.members[0]] for study in studies})
        study_of = {key: study.rest for study in studies for key in study.members}
        varied = frame.assign(training=training, study=training.map(study_of)).dropna(
            subset="study"
        )
        for group, rows in varied.groupby("group", sort=False):
            curves = [
                Curve(labels[study], points)
                for study, own in rows.groupby("study")
                if len(points := _points(axis, trainings, own)) > 1
            ]
            if curves:
                panels.setdefault(name, []).append(Panel(group, curves))
    return {
        name: sorted(own, key=lambda p: (p.group.place, p.group.data.name, p.group.protocol))
        for name, own in panels.items()
    }


def _points(
    axis: Axis, trainings: dict[str, Stage], scores: pd.DataFrame
) -> list[tuple[Any, Entry]]:
    """Return the points of one curve; of several networks of one training the newest counts."""
    found = []
    for training, own in scores.groupby("training", sort=False):
        newest = next(iter(grouped(own, "network").values()))
        entry = entry_of(own["metric"].iloc[0], newest)
        if math.isfinite(entry.mean):
            found.append((value_along(axis, trainings[training]), entry))
    return sorted(found, key=lambda point: order_of(point[0]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _labels(axis: Axis, stages: dict[str, Stage]) -> dict[str, str]:
    """Return a few words for each study on the settings in which it differs from the others."""
    flat = {
        rest: {k: v for k, v in flat_settings(stage.settings).items() if k != axis.path}
        | {_METHOD: stage.method, _DATA: f"{stage.data} {stage.data_digest[:7]}"}
        for rest, stage in stages.items()
    }
    differ = differing(flat.values(), absent="")
    found = {}
    for rest, settings in flat.items():
        words = [
            settings[key]
            if key in (_METHOD, _DATA)
            else f"{key.rpartition('.')[2].replace('_', ' ')} {settings.get(key, NOT_SET)}"
            for key in differ[:_MOST_WORDS]
        ]
        more = [f"recipe {rest[:7]}"] if len(differ) > _MOST_WORDS else []
        found[rest] = ", ".join(words + more)
    return found


def ablation_drawing(name: str, every: list[Panel]) -> Drawing:
    """Return one drawing of an axis' first panels."""
    axis, drawn = AXES[name], every[:_MOST_PANELS]
    return Drawing(
        name=f"ablation-{name}",
        title=f"Ablation: {axis.header}",
        caption=_caption(axis, drawn, len(every)),
        draw=functools.partial(ablation_curves, axis, drawn),
    )


def ablation_curves(axis: Axis, panels: Sequence[Panel]) -> Figure:
    """Draw a panel for each task and protocol; numbers are joined by lines, words are not."""
    figure, grid = panel_grid(len(panels), abreast=3)
    names = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    looks = {
        name: {
            "color": colour,
            "fmt": MARKERS[i % len(MARKERS)],
            "linestyle": LINES[i % len(LINES)],
        }
        for i, (name, colour) in enumerate(zip(names, class_colours(len(names)) / 255, strict=True))
    }
    for axes, panel, title in zip(grid, panels, _titles(panels), strict=True):
        _draw(axes, panel, looks)
        name_panel(axes, title=title, xlabel=axis.header, ylabel=panel.group.header)
    if len(names) > 1:
        add_legend(figure)
    return figure


def _titles(panels: Sequence[Panel]) -> list[str]:
    """Return the task and data set of each panel, with a mark where several panels share them."""
    plain = [panel.group.title for panel in panels]
    return [
        f"{title} [{mark_of(plain[:turn].count(title))}]" if plain.count(title) > 1 else title
        for turn, title in enumerate(plain)
    ]


def _draw(axes: Axes, panel: Panel, looks: Mapping[str, dict[str, Any]]) -> None:
    curves = panel.curves[:_MOST_CURVES]
    values = sorted({value for curve in curves for value, _ in curve.points}, key=order_of)
    numeric = all(map(_is_number, values))
    for curve in curves:
        means = [entry.mean for _, entry in curve.points]
        axes.errorbar(
            [value if numeric else values.index(value) for value, _ in curve.points],
            means,
            whiskers(means, [entry.interval for _, entry in curve.points]),
            linewidth=1.2,
            elinewidth=0.9,
            capsize=2.5,
            markersize=5,
            label=curve.label,
            **(looks[curve.label] if numeric else looks[curve.label] | {"linestyle": "none"}),
        )
    axes.margins(x=0.12, y=0.15)
    if numeric and min(values) > 0 and max(values) > _WIDE_RANGE * min(values):
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    # A tick at each value that was measured.
    if numeric:
        words = [f"{value:.4g}" for value in values]
        axes.set_xticks(values, words)
    else:
        words = [NOT_SET if value is None else str(value) for value in values]
        axes.set_xticks(range(len(values)), words)
        axes.set_xlim(-0.5, len(values) - 0.5)
    if sum(map(len, words)) > 24:
        axes.tick_params(axis="x", rotation=40)


def _caption(axis: Axis, panels: list[Panel], number: int) -> str:
    entries = [entry for p in panels for c in p.curves for _, entry in c.points]
    words = [
        f"Pre-trainings of one curve differ in {axis.header} alone; everything else, the evaluation's "
        "protocol included, is equal."
    ]
    if seeds := sorted({entry.seeds for entry in entries if entry.seeds}):
        words.append(f"Means over {' or '.join(seeds)}, whiskers Student's t at 95 %.")
    if any(not entry.seeds for entry in entries):
        words.append(
            "Points of a single run have the 95 % interval over the test images, which says nothing of "
            "another seed."
        )
    titled = zip(_titles(panels), panels, strict=True)
    words.append("; ".join(f"{title}: {panel.group.protocol}" for title, panel in titled) + ".")
    most = max(len(p.curves) for p in panels)
    words += drawn_of(min(most, _MOST_CURVES), most, "curves")
    words += drawn_of(len(panels), number, "panels")
    return " ".join(words)
