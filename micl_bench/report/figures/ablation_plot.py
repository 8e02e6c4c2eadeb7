"""Ablation curves: scores of pre-trainings that differ in one setting, along that setting."""

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from micl_bench.records.result import DataSet, Record, Stage
from micl_bench.report.figures.palette import INK, LINES, MARKERS, PAGE_INCHES, class_colours
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.identity import Identity, network_of
from micl_bench.report.frame.lineage import pretraining_stage
from micl_bench.report.frame.protocols import captions, flat_settings
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.ablations import (
    studies_along,
    training_key,
    trainings_of,
    value_along,
)
from micl_bench.report.tables.measured_cell import mark_of
from micl_bench.report.tables.specs._spec import Axis, ScoreColumn
from micl_bench.report.tables.specs.ablations import SPEC

_MOST_CURVES, _MOST_PANELS, _COLUMNS, _PANEL_INCHES = 6, 6, 3, 2.3
_MOST_AXES = 4
"""In a report."""
_WIDE_RANGE = 8.0
_MOST_WORDS = 3
_METHOD, _DATA = "the method", "the images"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """Pre-trainings that differ along the axis alone, measured under one protocol."""

    label: str
    """The settings in which the curves of a picture differ; empty for a single curve."""
    points: list[tuple[Any, Entry]]
    """Setting and score, in the order of the axis."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves of one task, data set, metric and protocol."""

    place: tuple[int, str]
    """Of the task, which is its second part."""
    label: str
    """The task's."""
    data: DataSet
    header: str
    """The metric's, with its unit."""
    protocol: str
    curves: list[Curve]


def axes_by_name() -> dict[str, Axis]:
    """What `show ablation --axis` takes."""
    return {axis.header.replace(" ", "-"): axis for axis in SPEC.axes}


def found_ablations(selection: Selection) -> Found:
    """A picture for each axis along which something was varied, those with most points first."""
    found = Found()
    scored = _scored(selection)
    panels = {name: _panels(scored, axis) for name, axis in axes_by_name().items()}
    sizes = {
        name: sum(len(c.points) for p in own for c in p.curves) for name, own in panels.items()
    }
    ranked = sorted((name for name in panels if sizes[name]), key=lambda name: -sizes[name])
    for name in (name for name in panels if name in ranked[:_MOST_AXES]):
        found.drawings.append(ablation_drawing(name, panels[name]))
    if more := ranked[_MOST_AXES:]:
        found.left_out.append(
            f"Ablations of {', '.join(more)} are left out; `micl-bench show ablation` draws them."
        )
    return found


def ablation_panels(selection: Selection, axis: Axis) -> list[Panel]:
    """The panels of one axis: of each record the newest of its protocol, means over seeds."""
    return _panels(_scored(selection), axis)


@dataclasses.dataclass(frozen=True)
class _Scored:
    """What the panels of all axes are made of."""

    runs: dict[str, list[tuple[str, str, Record]]]
    """By task, newest first: the training's key, what to call the protocol, and the run."""
    trainings: dict[str, Stage]


def _scored(selection: Selection) -> _Scored:
    runs: dict[str, list[tuple[str, str, Record]]] = {}
    every: list[Record] = []
    for task, metric in _metrics().items():
        results = [result for result in selection.of_task(task) if metric in result.metrics]
        every += results
        caption_of = captions(results)
        runs[task] = [
            (training_key(stage), caption_of[result.id], result)
            for result in results
            if (stage := pretraining_stage(result))
        ]
    return _Scored(runs, trainings_of(every))


def _panels(scored: _Scored, axis: Axis) -> list[Panel]:
    trainings = scored.trainings
    studies = studies_along(axis, trainings)
    study_of = {key: study.rest for study in studies for key in study.members}
    labels = _labels(axis, {study.rest: trainings[study.members[0]] for study in studies})
    panels = []
    for task, runs in scored.runs.items():
        groups: dict[tuple[DataSet, str], dict[str, dict[str, list[Record]]]] = {}
        for key, words, run in runs:
            if (rest := study_of.get(key)) is not None:
                curves = groups.setdefault((run.data, words), {})
                curves.setdefault(rest, {}).setdefault(key, []).append(run)
        for (data, words), curves in groups.items():
            drawn = [
                Curve(label=labels[rest], points=points)
                for rest, members in sorted(curves.items())
                if len(points := _points(axis, _metrics()[task], members, trainings)) > 1
            ]
            if drawn:
                _, entry = drawn[0].points[0]
                panels.append(
                    Panel(
                        place=entry.first.place,
                        label=entry.first.about.label,
                        data=data,
                        header=entry.number.header,
                        protocol=words,
                        curves=drawn,
                    )
                )
    return sorted(panels, key=lambda p: (p.place, p.data.name, p.protocol))


def ablation_drawing(name: str, every: list[Panel]) -> Drawing:
    """One drawing of an axis' first panels."""
    axis, drawn = axes_by_name()[name], every[:_MOST_PANELS]
    return Drawing(
        name=f"ablation-{name}",
        title=f"Ablation: {axis.header}",
        caption=_caption(axis, drawn, len(every)),
        draw=lambda: ablation_curves(axis, drawn),
    )


def ablation_curves(axis: Axis, panels: Sequence[Panel]) -> Figure:
    """A panel for each task and protocol; numbers are joined by lines, words are not."""
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = PAGE_INCHES * {1: 0.5, 2: 0.8}.get(columns, 1.0)
    figure = Figure(figsize=(width, _PANEL_INCHES * rows + 0.3), layout="constrained")
    names = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel, title in zip(grid, panels, _titles(panels), strict=False):
        axes.set_title("\n".join(textwrap.wrap(title, 30)))
        _draw(axes, axis, panel, names)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        if label
    }
    if len(handles) > 1:
        figure.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=2)
    return figure


def _titles(panels: Sequence[Panel]) -> list[str]:
    """Task and data set of each, and a mark where several panels share them."""
    plain = [f"{p.label}, {p.data.name}" for p in panels]
    return [
        f"{title} [{mark_of(plain[:turn].count(title))}]" if plain.count(title) > 1 else title
        for turn, title in enumerate(plain)
    ]


def _metrics() -> dict[str, str]:
    """The tasks whose scores the tables of ablations have, with the metric that they have of each."""
    columns = [column for column in SPEC.columns if isinstance(column, ScoreColumn)]
    return {task: column.metric for column in columns for task in column.tasks}


def _points(
    axis: Axis, metric: str, members: dict[str, list[Record]], trainings: dict[str, Stage]
) -> list[tuple[Any, Entry]]:
    points = []
    for key, runs in members.items():
        networks: dict[Identity, list[Record]] = {}
        for run in runs:
            networks.setdefault(network_of(run), []).append(run)
        entry = entry_of(metric, next(iter(networks.values())))
        if math.isfinite(entry.mean):
            points.append((value_along(axis, trainings[key]), entry))
    return sorted(points, key=lambda point: _order(point[0]))


def _order(value: Any) -> tuple[bool, float, str]:
    return (not _is_number(value), float(value) if _is_number(value) else 0.0, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _labels(axis: Axis, stages: dict[str, Stage]) -> dict[str, str]:
    """What tells the studies apart, in few words."""
    flat = {
        rest: {k: v for k, v in flat_settings(stage.settings).items() if k != axis.path}
        | {_METHOD: stage.method, _DATA: f"{stage.data} {stage.data_digest[:7]}"}
        for rest, stage in stages.items()
    }
    keys = dict.fromkeys(key for settings in flat.values() for key in settings)
    differ = [key for key in keys if len({s.get(key, "") for s in flat.values()}) > 1]
    found = {}
    for rest, settings in flat.items():
        words = [
            settings[key]
            if key in (_METHOD, _DATA)
            else f"{key.rpartition('.')[2].replace('_', ' ')} {settings.get(key, 'not set')}"
            for key in differ[:_MOST_WORDS]
        ]
        more = [f"recipe {rest[:7]}"] if len(differ) > _MOST_WORDS else []
        found[rest] = ", ".join(words + more)
    return found


def _draw(axes: Axes, axis: Axis, panel: Panel, names: list[str]) -> None:
    curves = panel.curves[:_MOST_CURVES]
    values = sorted({value for c in curves for value, _ in c.points}, key=_order)
    numeric = all(map(_is_number, values))
    colours = class_colours(len(names)) / 255
    for curve in curves:
        turn = names.index(curve.label)
        places = [value if numeric else values.index(value) for value, _ in curve.points]
        means = [entry.mean for _, entry in curve.points]
        ends = [entry.interval or (entry.mean, entry.mean) for _, entry in curve.points]
        axes.errorbar(
            places,
            means,
            yerr=[
                [max(0.0, mean - low) for mean, (low, _) in zip(means, ends, strict=True)],
                [max(0.0, high - mean) for mean, (_, high) in zip(means, ends, strict=True)],
            ],
            fmt=MARKERS[turn % len(MARKERS)],
            linestyle=LINES[turn % len(LINES)] if numeric else "none",
            color=colours[turn],
            linewidth=1.2,
            elinewidth=0.9,
            capsize=2.5,
            markersize=5,
            label=curve.label,
        )
    axes.set(xlabel=axis.header, ylabel=panel.header)
    axes.margins(x=0.12, y=0.15)
    _tick(axes, values, numeric=numeric)


def _tick(axes: Axes, values: list[Any], *, numeric: bool) -> None:
    """A tick at each value that was measured."""
    if numeric and min(values) > 0 and max(values) > _WIDE_RANGE * min(values):
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    if numeric:
        axes.set_xticks(values, [f"{value:.4g}" for value in values])
    else:
        words = ["not set" if value is None else str(value) for value in values]
        axes.set_xticks(range(len(values)), words)
        axes.set_xlim(-0.5, len(values) - 0.5)
    if sum(len(label.get_text()) for label in axes.get_xticklabels()) > 24:
        axes.tick_params(axis="x", rotation=40)
    axes.xaxis.label.set_color(INK)


def _caption(axis: Axis, panels: list[Panel], number: int) -> str:
    entries = [entry for p in panels for c in p.curves for _, entry in c.points]
    seeds = sorted({entry.seeds for entry in entries if entry.seeds})
    words = [
        f"Pre-trainings of one curve differ in {axis.header} alone; everything else, the evaluation's "
        "protocol included, is equal."
    ]
    if seeds:
        words.append(f"Means over {' or '.join(seeds)}, whiskers Student's t at 95 %.")
    if any(not entry.seeds for entry in entries):
        words.append(
            "Points of a single run have the 95 % interval over the test images, which says nothing of "
            "another seed."
        )
    protocols = [f"{title}: {p.protocol}" for title, p in zip(_titles(panels), panels, strict=True)]
    words.append(f"{'; '.join(protocols)}.")
    most = max(len(p.curves) for p in panels)
    if most > _MOST_CURVES:
        words.append(f"Drawn are {_MOST_CURVES} of {most} curves.")
    if number > len(panels):
        words.append(f"Drawn are {len(panels)} of {number} panels.")
    return " ".join(words)
