"""Curves of a pre-training run and bars of the scores."""

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from micl_bench.record import DataSet, Result
from micl_bench.report.metrics import (
    direction,
    headline_metrics,
    interval,
    method_rank,
    metric_name,
    task_rank,
)
from micl_bench.report.palette import FAINT, INK, PAGE_INCHES, method_colours
from micl_bench.report.task_table import build_table, data_label, data_order

Rows = list[dict[str, Any]]
_Group = tuple[str, DataSet, str, str]
"""Task, data set, metric and the mark of the protocol."""
_SMOOTH_FROM = 60
"""Losses of more steps are drawn faintly, with their running mean above."""
_MOST_NUMBERS = 36
"""Bars above whose number there is no room to write the scores on them."""
_LETTERS, _FEWEST_LETTERS, _LONGEST_SLANTED = 130, 9, 60
"""Letters that fit below the axis; those that a group must have for upright names; of slanted ones."""
_TASK_WORDS = {
    "knn": "k-NN",
    "linear": "linear",
    "logistic": "logistic",
    "finetune": "fine-tuned",
} | dict.fromkeys(("robustness", "ade20k", "coco"), "")
"""What a group of bars says of its task beside data set and metric, which often say enough."""


def training_curves(runs: dict[str, tuple[str, Rows]]) -> Figure:
    """Loss and k-NN accuracy over steps; `runs` maps a run's label to its method and metric log."""
    figure = Figure(figsize=(PAGE_INCHES, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = method_colours({method for method, _ in runs.values()})
    for label, (method, rows) in runs.items():
        _draw_loss(left, label, rows, colours[method])
        _draw_knn(right, label, rows, colours[method])
    left.set(title="Pre-training loss", xlabel="step", ylabel="loss")
    right.set(title="k-NN on held-out images, as it trains", xlabel="step", ylabel="top-1 [%]")
    for axes in (left, right):
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return figure


def _draw_loss(axes: Axes, label: str, rows: Rows, colour: str) -> None:
    series = pd.DataFrame([row for row in rows if "loss" in row], columns=["step", "loss"])
    if len(series) < _SMOOTH_FROM:
        axes.plot(series["step"], series["loss"], color=colour, label=label)
        return
    window = len(series) // 20
    axes.plot(series["step"], series["loss"], color=colour, alpha=0.25, linewidth=0.8)
    mean = series["loss"].rolling(window, min_periods=1, center=True).mean()
    axes.plot(series["step"], mean, color=colour, label=f"{label}, mean of {window} rows")


def _draw_knn(axes: Axes, label: str, rows: Rows, colour: str) -> None:
    series = pd.DataFrame([row for row in rows if "knn_top1" in row], columns=["step", "knn_top1"])
    if series.empty:
        return
    steps, scores = series["step"].to_numpy(), series["knn_top1"].to_numpy()
    axes.plot(steps, scores, "o-", color=colour, markersize=4, label=label)
    _annotate(axes, f"{scores[-1]:.1f}", (steps[-1], scores[-1]), (0, 6))
    if steps[0] == 0:
        axes.axhline(scores[0], color=FAINT, linestyle="--", linewidth=1)
        _annotate(axes, f"random weights {scores[0]:.1f}", (steps[-1], scores[0]), (0, 3))
    axes.margins(y=0.12)


def _annotate(axes: Axes, text: str, place: tuple[float, float], offset: tuple[int, int]) -> None:
    axes.annotate(
        text, place, xytext=offset, textcoords="offset points", ha="right", color=INK, fontsize=8
    )


def score_bars(results: list[Result]) -> Figure:
    """Headline scores, one group of bars for each task and data set; `results` come newest first.

    Whiskers are 95 % intervals, where the metric has one.
    """
    scores = _scores(results)
    methods = sorted({method for found in scores.values() for method in found}, key=method_rank)
    colours = method_colours(set(methods))
    figure = Figure(figsize=(PAGE_INCHES, 3.9), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(methods)
    for method in methods:
        places = [i for i, found in enumerate(scores.values()) if method in found]
        cells = [found[method] for found in scores.values() if method in found]
        left = [_left(list(scores.values()), place, method, width) for place in places]
        tops = _draw_bars(axes, left, cells, width=width, colour=colours[method], label=method)
        if len(scores) * len(methods) <= _MOST_NUMBERS:
            _write_values(axes, left, [r.metrics[metric] for r, metric in cells], tops)
    _name_groups(axes, list(scores))
    axes.set_ylabel("score [%]")
    axes.grid(visible=False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(scores) - 0.4)
    axes.set_ylim(0, min(112, max(axes.get_ylim()[1] * 1.08, 10)))
    figure.legend(loc="outside upper left", ncols=6)
    return figure


def drawable_metrics(result: Result) -> list[str]:
    """The headline metrics that have a bar: finite ones, of which a longer one is no worse."""
    metrics = headline_metrics(list(result.metrics))
    return [m for m in metrics if math.isfinite(result.metrics[m]) and direction(m) >= 0]


def _scores(results: list[Result]) -> dict[_Group, dict[str, tuple[Result, str]]]:
    """By group, then by method: the newest record and the metric to draw.

    A group holds records of one protocol, called by its mark in the table.
    """
    scores: dict[_Group, dict[str, tuple[Result, str]]] = {}
    tasks = dict.fromkeys(result.task for result in results)
    tables = {task: build_table([r for r in results if r.task == task]) for task in tasks}
    for result in sorted(results, key=lambda result: task_rank(result.task)):
        for metric in drawable_metrics(result):
            group = (result.task, result.data, metric, tables[result.task].mark(result))
            scores.setdefault(group, {}).setdefault(result.method, (result, metric))
    metrics = list(dict.fromkeys(metric for _, _, metric, _ in scores))
    return dict(sorted(scores.items(), key=lambda item: _group_order(item[0], metrics)))


def _group_order(group: _Group, metrics: list[str]) -> tuple[Any, ...]:
    task, data, metric, mark = group
    # Marks run from a to z, then in numbers.
    return (task_rank(task), data_order(data), metrics.index(metric), mark.isdigit(), mark)


def _left(
    scores: list[dict[str, tuple[Result, str]]], place: int, method: str, width: float
) -> float:
    """The middle of a method's bar: the bars that a group has are centred on its place."""
    present = sorted(scores[place], key=method_rank)
    return place + (present.index(method) - (len(present) - 1) / 2) * width


def _name_groups(axes: Axes, groups: list[_Group]) -> None:
    """Below each group, within its width; along slanted lines where there is little of it."""
    datas = list(dict.fromkeys(data for _, data, _, _ in groups))
    letters = int(_LETTERS / len(groups))
    texts = []
    for task, data, metric, mark in groups:
        words = [data_label(data, datas), _TASK_WORDS.get(task, task), metric_name(metric)]
        words = [word for word in (*words, f"[{mark}]" if mark else "") if word]
        if letters < _FEWEST_LETTERS:
            texts.append(textwrap.shorten(", ".join(words), _LONGEST_SLANTED, placeholder="..."))
        else:
            wrapped = [line for word in words for line in textwrap.wrap(word, letters)]
            texts.append("\n".join(wrapped))
    axes.set_xticks(range(len(groups)), texts, fontsize=8 if len(groups) < 8 else 7)
    if letters < _FEWEST_LETTERS:
        for text in axes.get_xticklabels():
            text.set(rotation=50, ha="right", rotation_mode="anchor")


def _draw_bars(
    axes: Axes,
    left: list[float],
    cells: list[tuple[Result, str]],
    *,
    width: float,
    colour: str,
    label: str,
) -> list[float]:
    """Draw one method's bars; returns the height up to which each reaches with its whisker."""
    values = np.array([result.metrics[metric] for result, metric in cells])
    bounds = [interval(result, metric) for result, metric in cells]
    bounds_or_value = [bound or (value, value) for bound, value in zip(bounds, values, strict=True)]
    low, high = np.array(bounds_or_value).T
    axes.bar(left, values, width * 0.94, color=colour, label=label)
    measured = [bound is not None for bound in bounds]
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


def _write_values(axes: Axes, left: list[float], values: list[float], tops: list[float]) -> None:
    for place, value, top in zip(left, values, tops, strict=True):
        axes.annotate(
            f"{value:.1f}",
            (place, top),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=INK,
        )
