"""Pictures with images in them, from the artefacts beside records: ours, and the best rival's."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from micl_bench.records.result import Record
from micl_bench.report.compare.artefact_files import (
    artifact_path,
    check_digest,
    gone,
    without_folder,
)
from micl_bench.report.figures.drawn_detections import LEAST_SCORE, detected_scenes, load_detections
from micl_bench.report.figures.feature_plots import (
    feature_maps,
    load_map,
    load_similarities,
    map_caption,
    similarity_caption,
    similarity_histograms,
)
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.figures.sample_images import (
    load_scenes,
    load_views,
    masked_views,
    segmented_scenes,
)
from micl_bench.report.figures.token_maps import (
    attention_caption,
    attention_maps,
    load_attention,
    load_patches,
    patch_caption,
    patch_colours,
)
from micl_bench.report.frame.naming import OURS, method_rank
from micl_bench.report.frame.selection import Selection
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.npz import Arrays

_FIRST_ONES = "Shown are the first of those that the run saved."
_ABREAST = 2
_MOST_DATA_SETS = 2
"""Of one task, in a report: a page must stay small."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """How the artefact of that name is loaded and drawn."""

    title: str
    load: Callable[[Path], Arrays]
    draw: Callable[[dict[str, Arrays]], Figure]
    caption: Callable[[dict[str, Arrays]], str]
    shared: tuple[str, ...] = ()
    """Arrays that methods must have in common to stand side by side."""


_SEGMENTED = "Left to right: the image, the true classes, and what each method predicts."
_DETECTED = (
    "Left to right: the true objects, and what each method detects with a score of "
    f"{LEAST_SCORE} or more. Boxes carry class and score, masks tint the image."
)
KINDS = {
    "segmentation": _Kind(
        title="Segmented scenes",
        load=load_scenes,
        draw=segmented_scenes,
        caption=lambda _: f"{_SEGMENTED} {_FIRST_ONES}",
        shared=("images_NHWC", "classes"),
    ),
    "detection": _Kind(
        title="Detected objects",
        load=load_detections,
        draw=detected_scenes,
        caption=lambda _: f"{_DETECTED} {_FIRST_ONES}",
        shared=("images_NHWC", "classes"),
    ),
    "attention": _Kind(
        title="Attention of the last block",
        load=load_attention,
        draw=attention_maps,
        caption=attention_caption,
        shared=("images_NHWC",),
    ),
    "patches": _Kind(
        title="Principal components of patches",
        load=load_patches,
        draw=patch_colours,
        caption=patch_caption,
        shared=("images_NHWC",),
    ),
    "features": _Kind(
        title="Features on a plane",
        load=load_map,
        draw=feature_maps,
        caption=map_caption,
        shared=("classes",),
    ),
    "similarity": _Kind(
        title="Similarity of views",
        load=load_similarities,
        draw=similarity_histograms,
        caption=similarity_caption,
        shared=("views", "kappa"),
    ),
}


def found_views(selection: Selection) -> Found:
    """What the views of one pre-training run show, ours first."""
    runs = sorted(selection.with_artefact("views"), key=lambda result: method_rank(result.method))
    left_out: list[str] = []
    for run in runs:
        arrays, problem = _arrays(selection, run, "views", load_views)
        if problem:
            left_out.append(f"The masked views of {run.method} are left out: {problem}.")
        else:
            caption = (
                f"Images as {run.method} sees them: each view keeps only its own patches, the "
                f"rest is hidden (grey). {_FIRST_ONES}"
            )
            drawing = Drawing(
                name="views",
                title="What each view shows",
                caption=caption,
                draw=lambda arrays=arrays: masked_views(arrays),  # type: ignore[misc]
            )
            return Found(drawings=[drawing], left_out=left_out).briefly()
    return Found(left_out=left_out).briefly()


def _arrays(
    selection: Selection, result: Record, name: str, load: Callable[[Path], Arrays]
) -> tuple[Arrays, str]:
    """An artefact's arrays, or why it cannot be drawn."""
    try:
        path = artifact_path(result, name)
        if path is None:
            return {}, gone(result, name)
        check_digest(path, result, name)
        return load(path), ""
    except InputError as error:
        return {}, without_folder(result, str(error))


def found_gallery(name: str, selection: Selection) -> Found:
    """One picture of a kind for each data set: our method and the best rival on the same images."""
    kind, found = KINDS[name], Found()
    results = selection.with_artefact(name)
    datas = list(dict.fromkeys(result.data for result in results))
    for turn, data in enumerate(datas[:_MOST_DATA_SETS]):
        own = [result for result in results if result.data == data]
        loaded = _loaded(name, selection, own, found)
        if loaded:
            drawing = Drawing(
                name="-".join([name, *([str(turn + 1)] if turn else [])]),
                title=kind.title,
                caption=f"{data.name}. {kind.caption(loaded)}",
                draw=lambda loaded=loaded: kind.draw(loaded),  # type: ignore[misc]
            )
            found.drawings.append(drawing)
    if more := [data.name for data in datas[_MOST_DATA_SETS:]]:
        found.left_out.append(f"{kind.title} are left out of {len(more)} more data sets.")
    return found.briefly()


def _loaded(
    name: str, selection: Selection, results: list[Record], found: Found
) -> dict[str, Arrays]:
    """Of at most two methods; `found` is told of files that are gone, and of other images."""
    kind, loaded = KINDS[name], dict[str, Arrays]()
    for result in _ours_then_best(results):
        if len(loaded) == _ABREAST:
            break
        if result.method in loaded:
            continue
        arrays, problem = _arrays(selection, result, name, kind.load)
        if problem:
            found.left_out.append(f"{kind.title} of {result.method} are left out: {problem}.")
            continue
        if all(_fits(kind, arrays, other) for other in loaded.values()):
            loaded[result.method] = arrays
        else:
            found.left_out.append(
                f"{kind.title} of {result.method} are left out: they are not of the same images or "
                f"settings as those of {next(iter(loaded))}."
            )
    return loaded


def _ours_then_best(results: list[Record]) -> list[Record]:
    def rank(result: Record) -> tuple[bool, float]:
        number = result.metrics[result.headline]
        score = number.value * number.direction
        return (result.method != OURS, -score if np.isfinite(score) else 0.0)

    return sorted(results, key=rank)


def _fits(kind: _Kind, one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in kind.shared)
