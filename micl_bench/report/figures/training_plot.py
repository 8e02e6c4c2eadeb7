"""Curves of pre-training runs: loss and k-NN accuracy over steps."""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from micl_bench.records.result import Record
from micl_bench.report.compare.artefact_files import artifact_path, gone, without_folder
from micl_bench.report.figures.palette import FAINT, LINES, PAGE_INCHES, method_colours
from micl_bench.report.figures.panels import add_legend, write_at
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.frame.identity import identity_of, labels
from micl_bench.report.frame.naming import method_rank
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.row_names import name_settings
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import read_metrics

Rows = list[dict[str, Any]]
_MOST_RUNS = 8
_LARGEST_WHOLE = 1 << 63
_SMOOTH_FROM = 60
"""Losses of more steps are drawn faintly, with their running mean above."""


def found_training(selection: Selection) -> Found:
    """Return the curves of all pre-training runs, as many as can be read, ours first."""
    runs = sorted(selection.of_task("pretrain"), key=lambda result: method_rank(result.method))
    # The settings are those of the run itself, so its fingerprint stands for its training.
    networks = {run.id: identity_of(run)._replace(training=run.fingerprint) for run in runs}
    names = labels(networks.values(), name_settings(runs))
    curves: dict[str, tuple[str, Rows]] = {}
    found = Found()
    for run in runs:
        if len(curves) == _MOST_RUNS:
            break
        try:
            rows = _rows_of(run)
            curves[_distinct(names[networks[run.id]], curves)] = (run.method, rows)
        except InputError as error:
            why = without_folder(run, str(error))
            found.left_out.append(f"Pre-training curves of {run.method} are left out: {why}.")
    if curves:
        drawing = Drawing(
            name="training",
            title="The pre-training run" if len(runs) == 1 else "Pre-training runs",
            caption=_caption(curves, len(runs) - len(curves) - len(found.left_out)),
            draw=functools.partial(training_curves, curves),
        )
        found.drawings.append(drawing)
    return found


def _rows_of(run: Record) -> Rows:
    path = artifact_path(run, "metrics")
    if path is None:
        raise InputError(gone(run, "metrics"))
    return load_rows(path)


def load_rows(path: Path) -> Rows:
    """Read the rows of a run's log that can be drawn.

    Raises:
        InputError: the file cannot be read, or has none.
    """
    try:
        rows = [row for row in read_metrics(path) if _is_drawable(row)]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable log of metrics: {error}") from error
    if not rows:
        raise InputError(f"{path} holds no step of a training")
    return rows


def _is_drawable(row: dict[str, Any]) -> bool:
    """Return whether the drawn values of a row are numbers: a log may hold anything.

    A loss that diverged is NaN or infinite, and leaves a gap; a whole number may be endless.
    """
    for key in {"step", "loss", "knn_top1"} & row.keys():
        value = row[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, int) and abs(value) >= _LARGEST_WHOLE:
            return False
    return math.isfinite(row.get("step", math.nan))


def _distinct(label: str, taken: dict[str, Any]) -> str:
    turn = 1 + sum(other == label or other.startswith(f"{label} (") for other in taken)
    return f"{label} ({turn})" if turn > 1 else label


def _caption(curves: dict[str, tuple[str, Rows]], more: int) -> str:
    logs = [rows for _, rows in curves.values()]
    words = ["Loss of each step, and accuracy of k-NN on features of held-out images."]
    if not any(len(_series(rows, "knn_top1")[0]) for rows in logs):
        words = ["Loss of each step; no run measured k-NN as it trained."]
    if len(logs) == 1 and _starts_at(logs[0]) is not None:
        words.append("The dotted line is k-NN on the features of the weights at step 0.")
    if more:
        words.append(
            f"Drawn are {len(logs)} runs, ours first and of a method the newest; {more} are not."
        )
    return " ".join(words)


def training_curves(runs: dict[str, tuple[str, Rows]]) -> Figure:
    """Draw loss and k-NN accuracy over steps; `runs` maps a run's label to its method and metric log.

    Runs of one method have its colour and differ in their lines.
    """
    figure = Figure(figsize=(PAGE_INCHES, 2.7), layout="constrained")
    has_scores = any(len(_series(rows, "knn_top1")[0]) for _, rows in runs.values())
    # Without any k-NN, as with `knn_every_epochs=0`, the loss has the whole width.
    left, *others = figure.subplots(1, 2 if has_scores else 1, squeeze=False)[0]
    methods = [method for method, _ in runs.values()]
    # Several runs of one method get colours of their own.
    keys = methods if len(set(methods)) == len(methods) else list(runs)
    colours = method_colours(set(keys))
    for turn, (key, (label, (_, rows))) in enumerate(zip(keys, runs.items(), strict=True)):
        look = {"color": colours[key], "linestyle": LINES[turn % len(LINES)]}
        _draw_loss(left, label, rows, look)
        for right in others:
            _draw_knn(right, rows, look, alone=len(runs) == 1)
    left.set(title="Pre-training loss", ylabel="loss")
    for right in others:
        right.set(title="k-NN on held-out images, as it trains", ylabel="top-1 [%]")
        right.margins(y=0.12)
    for axes in (left, *others):
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    add_legend(figure)
    return figure


def _series(rows: Rows, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pairs = [(row["step"], row[key]) for row in rows if key in row]
    steps, values = np.array(pairs, dtype=float).reshape(-1, 2).T
    return steps, values


def _draw_loss(axes: Axes, label: str, rows: Rows, look: dict[str, Any]) -> None:
    steps, losses = _series(rows, "loss")
    if len(losses) >= _SMOOTH_FROM:
        window = len(losses) // 20
        axes.plot(steps, losses, color=look["color"], alpha=0.25, linewidth=0.6)
        known = pd.Series(losses).where(np.isfinite(losses))
        losses = known.rolling(window, min_periods=1, center=True).mean().to_numpy()
        label = f"{label}, mean of {window} rows"
    axes.plot(steps, losses, label=label, **look)


def _draw_knn(axes: Axes, rows: Rows, look: dict[str, Any], *, alone: bool) -> None:
    steps, scores = _series(rows, "knn_top1")
    axes.plot(steps, scores, marker="o", markersize=3, linewidth=1.2, **look)
    if not alone:
        return
    write_at(axes, f"{scores[-1]:.1f}", (steps[-1], scores[-1]), (0, 5), ha="right")
    if (start := _starts_at(rows)) is not None:
        axes.axhline(start, color=FAINT, linestyle=":", linewidth=1)
        write_at(axes, f"at the start {start:.1f}", (steps[-1], start), (0, 3), ha="right")


def _starts_at(rows: Rows) -> float | None:
    """Return the k-NN accuracy at step 0, or None where it was not measured."""
    steps, scores = _series(rows, "knn_top1")
    return float(scores[0]) if len(steps) and steps[0] == 0 else None
