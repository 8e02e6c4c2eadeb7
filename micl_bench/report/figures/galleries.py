"""Pictures of the artefacts beside records: ours, and the best rival's on the same images."""

import functools

import numpy as np

from micl_bench.records.result import Record
from micl_bench.report.compare.artefact_files import (
    Arrays,
    artifact_path,
    check_digest,
    gone,
    without_folder,
)
from micl_bench.report.figures.drawn_detections import DETECTION
from micl_bench.report.figures.feature_plots import FEATURES, SIMILARITY
from micl_bench.report.figures.render import Drawing, Found
from micl_bench.report.figures.sample_images import SEGMENTATION, VIEWS
from micl_bench.report.figures.token_maps import ATTENTION, PATCHES
from micl_bench.report.frame.naming import OURS
from micl_bench.report.frame.selection import Selection
from micl_bench.runtime.errors import InputError

_MOST_DATA_SETS = 2
"""Data sets of one task in a report: a page must stay small."""
KINDS = {
    "views": VIEWS,
    "segmentation": SEGMENTATION,
    "detection": DETECTION,
    "attention": ATTENTION,
    "patches": PATCHES,
    "features": FEATURES,
    "similarity": SIMILARITY,
}
"""Kinds of pictures by the artefact's name in records."""


def found_gallery(name: str, selection: Selection) -> Found:
    """Return a picture of a kind for each data set: our method and the best rival on the same images."""
    kind, found = KINDS[name], Found()
    results = sorted(selection.with_artefact(name), key=_ours_then_best)
    datas = list(dict.fromkeys(result.data for result in selection.with_artefact(name)))
    for turn, data in enumerate(datas[:_MOST_DATA_SETS]):
        own = [result for result in results if result.data == data]
        if loaded := _loaded(name, own, found.left_out):
            drawing = Drawing(
                name=f"{name}-{turn + 1}" if turn else name,
                title=kind.title,
                caption=f"{data.name}. {kind.caption(loaded)}",
                draw=functools.partial(kind.draw, loaded),
            )
            found.drawings.append(drawing)
    if more := len(datas[_MOST_DATA_SETS:]):
        found.left_out.append(f"{kind.title} are left out of {more} more data sets.")
    return found


def _ours_then_best(result: Record) -> tuple[bool, float]:
    number = result.metrics[result.headline]
    score = number.value * number.direction
    return (result.method != OURS, -score if np.isfinite(score) else 0.0)


def _loaded(name: str, results: list[Record], left_out: list[str]) -> dict[str, Arrays]:
    """Return arrays by method, as many as stand abreast; reasons against others go to `left_out`."""
    kind, loaded = KINDS[name], dict[str, Arrays]()
    for result in results:
        if len(loaded) == kind.abreast:
            break
        if result.method in loaded:
            continue
        try:
            arrays = _arrays(result, name)
            for shared, other in ((array, one) for one in loaded.values() for array in kind.shared):
                if not np.array_equal(arrays[shared], other[shared]):
                    raise InputError(
                        f"they are not of the same images or settings as those of {next(iter(loaded))}"
                    )
            loaded[result.method] = arrays
        except InputError as error:
            why = without_folder(result, str(error))
            left_out.append(f"{kind.title} of {result.method} are left out: {why}.")
    return loaded


def _arrays(record: Record, name: str) -> Arrays:
    path = artifact_path(record, name)
    if path is None:
        raise InputError(gone(record, name))
    check_digest(path, record, name)
    return KINDS[name].load(path)
