"""All pictures of a report, or for each that cannot be drawn a sentence that says why."""

import dataclasses
import io
from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from micl_bench.log import read_metrics
from micl_bench.record import Result
from micl_bench.report.artifacts import Arrays, artifact_path
from micl_bench.report.detections import LEAST_SCORE, detected_scenes, load_detections
from micl_bench.report.metrics import OURS, headline_metrics, method_rank
from micl_bench.report.palette import STYLE
from micl_bench.report.pictures import load_scenes, masked_views, segmented_scenes
from micl_bench.report.plots import Rows, drawable_metrics, score_bars, training_curves
from micl_bench.report.robustness import TABLE_HEADER, panels, table_rows
from micl_bench.report.robustness import caption as robustness_caption
from micl_bench.report.robustness_plot import robustness_scatter
from micl_bench.report.selection import Selection

_FIRST_ONES = "Shown are the first of those that the run saved."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure as the report embeds it."""

    name: str
    title: str
    caption: str
    png: bytes
    table: list[list[str]] = dataclasses.field(default_factory=list)
    """Shown under it, the header first; empty where the picture says all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pictures in order, and sentences on those that are left out."""

    pictures: list[Picture]
    left_out: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scenes:
    """How to load and draw the predictions of one task."""

    title: str
    caption: str
    load: Callable[..., Arrays]
    draw: Callable[[dict[str, Arrays]], Figure]


_SCENES = {
    "ade20k": _Scenes(
        title="Segmented scenes",
        caption="Left to right: the image, the true classes, and what each method predicts.",
        load=load_scenes,
        draw=segmented_scenes,
    ),
    "coco": _Scenes(
        title="Detected objects",
        caption="Left to right: the true objects, and what each method detects with a score of "
        f"{LEAST_SCORE} or more. Boxes carry class and score, masks tint the image.",
        load=load_detections,
        draw=detected_scenes,
    ),
}


def draw_all(selection: Selection) -> Gallery:
    """Draw whatever the records allow."""
    gallery = Gallery(pictures=[], left_out=[])
    with matplotlib.rc_context(STYLE):
        _add_bars(gallery, selection)
        _add_robustness(gallery, selection)
        _add_views(gallery, selection)
        _add_curves(gallery, selection)
        for task in _SCENES:
            for data in dict.fromkeys(result.data for result in selection.of_task(task)):
                found = [result for result in selection.of_task(task) if result.data == data]
                _add_scenes(gallery, selection, task, found)
    return gallery


def _add(
    gallery: Gallery,
    name: str,
    title: str,
    caption: str,
    figure: Figure,
    *,
    table: list[list[str]] | None = None,
) -> None:
    buffer = io.BytesIO()
    # No software version inside: equal records give equal bytes.
    metadata = {"Software": None}
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.06, metadata=metadata)
    picture = Picture(
        name=name, title=title, caption=caption, png=buffer.getvalue(), table=table or []
    )
    gallery.pictures.append(picture)


def _add_bars(gallery: Gallery, selection: Selection) -> None:
    scored = [
        result
        for task in selection.tasks
        for result in selection.of_task(task)
        if task != "pretrain" and drawable_metrics(result)
    ]
    if not scored:
        gallery.left_out.append("The bars of scores are left out: no record has a score to draw.")
        return
    caption = (
        "Whiskers are 95 % intervals over the test images, where the record has one. Bars of one "
        "group share a protocol, called by its mark in the table; where a method has several rows "
        "of one protocol, its newest is drawn."
    )
    _add(gallery, "scores", "Scores by task", caption, score_bars(scored))


def _add_robustness(gallery: Gallery, selection: Selection) -> None:
    drawn = panels(selection.of_task("robustness"))
    if drawn:
        _add(
            gallery,
            "effective-robustness",
            "Effective robustness",
            robustness_caption(drawn),
            robustness_scatter(drawn),
            table=[TABLE_HEADER, *table_rows(drawn)],
        )


def _add_views(gallery: Gallery, selection: Selection) -> None:
    runs = sorted(selection.of_task("pretrain"), key=lambda result: method_rank(result.method))
    if not runs:
        return
    for run in runs:
        if path := artifact_path(selection.path_of(run), run, "views"):
            caption = (
                f"Images as {run.method} sees them: each view keeps only its own patches, the "
                f"rest is hidden (grey). {_FIRST_ONES}"
            )
            _add(gallery, "views", "What each view shows", caption, masked_views(path))
            return
    gallery.left_out.append(f"The masked views are left out: {_gone(runs[0], 'views')}.")


def _add_curves(gallery: Gallery, selection: Selection) -> None:
    runs = sorted(selection.of_task("pretrain"), key=lambda result: method_rank(result.method))
    curves: dict[str, tuple[str, Rows]] = {}
    for run in runs:
        path = artifact_path(selection.path_of(run), run, "metrics")
        rows = read_metrics(path) if path else []
        if rows:
            again = sum(method == run.method for method, _ in curves.values())
            curves[run.method + (f" ({again + 1})" if again else "")] = (run.method, rows)
        else:
            sentence = f"Pre-training curves of {run.method} are left out"
            gallery.left_out.append(f"{sentence}: {_gone(run, 'metrics')}.")
    if curves:
        caption = "The dashed line is k-NN on the features of random weights, at step 0."
        _add(gallery, "training", "The pre-training run", caption, training_curves(curves))


def _add_scenes(gallery: Gallery, selection: Selection, task: str, results: list[Result]) -> None:
    """Ours and the best baseline that predicted the same images; `results` share a data set."""
    how = _SCENES[task]
    loaded: dict[str, Arrays] = {}
    for result in _ours_then_best(results):
        path = artifact_path(selection.path_of(result), result, "predictions")
        if path is None:
            sentence = f"{how.title} of {result.method} are left out"
            gallery.left_out.append(f"{sentence}: {_gone(result, 'predictions')}.")
        elif len(loaded) < 2 and result.method not in loaded:
            arrays = how.load(path)
            if all(_same_images(arrays, other) for other in loaded.values()):
                loaded[result.method] = arrays
            else:
                gallery.left_out.append(
                    f"{how.title} of {result.method} are left out: they are not the images that "
                    f"{next(iter(loaded))} predicted."
                )
    if loaded:
        caption = f"{results[0].data.name}. {how.caption} {_FIRST_ONES}"
        name = "-".join([task, *(["2"] if any(p.name == task for p in gallery.pictures) else [])])
        _add(gallery, name, how.title, caption, how.draw(loaded))


def _ours_then_best(results: list[Result]) -> list[Result]:
    def rank(result: Result) -> tuple[bool, float]:
        headlines = headline_metrics(list(result.metrics))
        score = result.metrics[headlines[0]] if headlines else 0.0
        return (result.method != OURS, -score if np.isfinite(score) else 0.0)

    return sorted(results, key=rank)


def _same_images(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in ("images_NHWC", "classes"))


def _gone(result: Result, name: str) -> str:
    file = result.artifacts.get(name)
    if file is None:
        return f"record {result.id} names no such file"
    return f"{file}, which record {result.id} names, is gone or empty"
