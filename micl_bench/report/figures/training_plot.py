"""Curves of pre-training runs: loss and k-NN accuracy as they go on."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from micl_bench.records.result import Record
from micl_bench.report.compare.artefact_files import artifact_path, gone, without_folder
from micl_bench.report.figures.palette import FAINT, INK, LINES, PAGE_INCHES, SMALL, method_colours
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
    """The curves of all pre-training runs, as many as can be read, ours first."""
    runs = sorted(selection.of_task("pretrain"), key=lambda result: method_rank(result.method))
    # The settings are those of the run itself, so its fingerprint stands for its training.
    networks = {run.id: identity_of(run)._replace(training=run.fingerprint) for run in runs}
    names = labels(networks.values(), name_settings(runs))
    curves: dict[str, tuple[str, Rows]] = {}
    found = Found()
    for run in runs:
        if len(curves) == _MOST_RUNS:
            break
        rows, problem = _rows(run)
        if problem:
            found.left_out.append(f"Pre-training curves of {run.method} are left out: {problem}.")
        else:
            curves[_distinct(names[networks[run.id]], curves)] = (run.method, rows)
    if curves:
        more = len(runs) - len(curves) - len(found.left_out)
        scored = any(len(_series(rows, "knn_top1")[0]) for _, rows in curves.values())
        words = [
            "Loss of each step, and accuracy of k-NN on features of held-out images."
            if scored
            else "Loss of each step; no run measured k-NN as it trained."
        ]
        if _starts_at(next(iter(curves.values()))[1]) is not None and len(curves) == 1:
            words.append("The dotted line is k-NN on the features of the weights at step 0.")
        if more:
            words.append(
                f"Drawn are {len(curves)} runs, ours first and of a method the newest; {more} are not."
            )
        drawing = Drawing(
            name="training",
            title="The pre-training run" if len(runs) == 1 else "Pre-training runs",
            caption=" ".join(words),
            draw=lambda: training_curves(curves),
        )
        found.drawings.append(drawing)
    return found.briefly()


def load_rows(path: Path) -> Rows:
    """The rows of a run's log that can be drawn.

    Raises:
        InputError: the file cannot be read, or has none.
    """
    try:
        rows = _numbers(read_metrics(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no readable log of metrics: {error}") from error
    if not rows:
        raise InputError(f"{path} holds no step of a training")
    return rows


def _rows(run: Record) -> tuple[Rows, str]:
    """What is drawn of a run, or why it is left out."""
    try:
        path = artifact_path(run, "metrics")
        return (load_rows(path), "") if path else ([], gone(run, "metrics"))
    except InputError as error:
        return [], without_folder(run, str(error))


def training_curves(runs: dict[str, tuple[str, Rows]]) -> Figure:
    """Loss and k-NN accuracy over steps; `runs` maps a run's label to its method and metric log.

    Runs of one method have its colour and differ in their lines.
    """
    figure = Figure(figsize=(PAGE_INCHES, 2.7), layout="constrained")
    has_scores = any(len(_series(rows, "knn_top1")[0]) for _, rows in runs.values())
    # Without any k-NN, as with `knn_every_epochs=0`, the loss has the whole width.
    left, *others = figure.subplots(1, 2 if has_scores else 1, squeeze=False)[0]
    looks = _looks(runs)
    for label, (_, rows) in runs.items():
        _draw_loss(left, label, rows, *looks[label])
        for right in others:
            _draw_knn(right, label, rows, *looks[label], alone=len(runs) == 1)
    left.set(title="Pre-training loss", xlabel="step", ylabel="loss")
    for right in others:
        right.set(title="k-NN on held-out images, as it trains", xlabel="step", ylabel="top-1 [%]")
    for axes in (left, *others):
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    handles, words = left.get_legend_handles_labels()
    if handles:
        figure.legend(handles, words, loc="outside upper left", ncols=1 if len(runs) < 3 else 2)
    return figure


def _looks(runs: dict[str, tuple[str, Rows]]) -> dict[str, tuple[str, Any]]:
    """Colour and line of each run: several runs of one method get colours of their own."""
    methods = [method for method, _ in runs.values()]
    apart = len(set(methods)) == len(methods)
    colours = method_colours(set(methods) if apart else set(runs))
    return {
        label: (colours[method if apart else label], LINES[turn % len(LINES)])
        for turn, (label, (method, _)) in enumerate(runs.items())
    }


def _numbers(rows: Rows) -> Rows:
    """Rows in which what is drawn are numbers; a log may hold anything."""
    return [
        row
        for row in rows
        if all(_is_drawable(row[key]) for key in ("step", "loss", "knn_top1") if key in row)
        and math.isfinite(row.get("step", math.nan))
    ]


def _is_drawable(value: Any) -> bool:
    """A loss that diverged is NaN or infinite, and leaves a gap; a whole number may be endless."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < _LARGEST_WHOLE


def _distinct(label: str, taken: dict[str, Any]) -> str:
    turn = 1 + sum(other == label or other.startswith(f"{label} (") for other in taken)
    return f"{label} ({turn})" if turn > 1 else label


def _series(rows: Rows, key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["step"], row[key]) for row in rows if key in row]
    steps, values = np.array(pairs, dtype=float).reshape(-1, 2).T
    return steps, values


def _draw_loss(axes: Axes, label: str, rows: Rows, colour: str, line: Any) -> None:
    steps, losses = _series(rows, "loss")
    if len(losses) < _SMOOTH_FROM:
        axes.plot(steps, losses, color=colour, linestyle=line, label=label)
        return
    window = len(losses) // 20
    axes.plot(steps, losses, color=colour, alpha=0.25, linewidth=0.6)
    known = pd.Series(losses).where(np.isfinite(losses))
    mean = known.rolling(window, min_periods=1, center=True).mean()
    axes.plot(steps, mean, color=colour, linestyle=line, label=f"{label}, mean of {window} rows")


def _draw_knn(axes: Axes, label: str, rows: Rows, colour: str, line: Any, *, alone: bool) -> None:
    steps, scores = _series(rows, "knn_top1")
    if not len(scores):
        return
    axes.plot(
        steps, scores, "o", linestyle=line, color=colour, markersize=3, linewidth=1.2, label=label
    )
    axes.margins(y=0.12)
    if not alone:
        return
    _annotate(axes, f"{scores[-1]:.1f}", (steps[-1], scores[-1]), (0, 5))
    if (start := _starts_at(rows)) is not None:
        axes.axhline(start, color=FAINT, linestyle=":", linewidth=1)
        _annotate(axes, f"at the start {start:.1f}", (steps[-1], start), (0, 3))


def _starts_at(rows: Rows) -> float | None:
    """The k-NN accuracy at step 0, or None where it was not measured."""
    steps, scores = _series(rows, "knn_top1")
    return float(scores[0]) if len(steps) and steps[0] == 0 else None


def _annotate(axes: Axes, text: str, place: tuple[float, float], offset: tuple[int, int]) -> None:
    axes.annotate(
        text,
        place,
        xytext=offset,
        textcoords="offset points",
        ha="right",
        color=INK,
        fontsize=SMALL,
    )
