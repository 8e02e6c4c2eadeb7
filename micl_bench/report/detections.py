"""Detected objects beside the true ones: boxes with label and score, masks as a tint."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from micl_bench.report.artifacts import Arrays, check_range, load_arrays
from micl_bench.report.mosaic import Image, mosaic
from micl_bench.report.palette import INK, class_colours, is_light

LEAST_SCORE = 0.3
"""Detections below it are not drawn."""
_SCENES = 4
_TINT = 0.45
_NAMES = {
    "image": ("truth_image_T", "image_D"),
    "box": ("truth_box_T4", "box_D4"),
    "label": ("truth_label_T", "label_D"),
    "mask": ("truth_mask_THW", "mask_DHW"),
}


def load_detections(path: Path) -> Arrays:
    """A detection record's scenes, checked."""
    names = [name for pair in _NAMES.values() for name in pair]
    arrays = load_arrays(path, ["images_NHWC", "classes", "score_D", *names])
    for name in _NAMES["image"]:
        check_range(path, arrays, name, below=len(arrays["images_NHWC"]))
    for name in _NAMES["label"]:
        check_range(path, arrays, name, below=len(arrays["classes"]))
    return arrays


def detected_scenes(scenes: dict[str, Arrays]) -> Figure:
    """Truth and each method's detections in the first scenes; methods share the scenes."""
    first = next(iter(scenes.values()))
    colours = class_colours(len(first["classes"]))
    columns = [("truth", first, 0), *((method, arrays, 1) for method, arrays in scenes.items())]
    shown = range(min(len(first["images_NHWC"]), _SCENES))
    chosen = [[_chosen(arrays, n, side) for _, arrays, side in columns] for n in shown]
    rows = [
        [
            _tinted(arrays, side, found, first["images_NHWC"][n], colours)
            for (_, arrays, side), found in zip(columns, chosen[n], strict=True)
        ]
        for n in shown
    ]
    figure = mosaic(rows, titles=[title for title, _, _ in columns], largest_cell_inches=3.3)
    for index, axes in enumerate(figure.axes):
        n, column = divmod(index, len(columns))
        _, arrays, side = columns[column]
        _draw_boxes(axes, arrays, side, chosen[n][column], colours)
    return figure


def _chosen(arrays: Arrays, image: int, side: int) -> NDArray[np.intp]:
    """Indices of an image's objects: all true ones (side 0), or the detections worth drawing."""
    here = arrays[_NAMES["image"][side]] == image
    if side:
        here &= arrays["score_D"] >= LEAST_SCORE
    return np.flatnonzero(here)


def _tinted(
    arrays: Arrays, side: int, chosen: NDArray[np.intp], image: Image, colours: Image
) -> Image:
    blended = image.astype(float)
    for index in chosen:
        mask_HW = arrays[_NAMES["mask"][side]][index].astype(bool)
        colour = colours[int(arrays[_NAMES["label"][side]][index])]
        blended[mask_HW] = (1 - _TINT) * blended[mask_HW] + _TINT * colour
    return blended.astype(np.uint8)


def _draw_boxes(
    axes: Axes, arrays: Arrays, side: int, chosen: NDArray[np.intp], colours: Image
) -> None:
    for index in chosen:
        left, top, right, bottom = arrays[_NAMES["box"][side]][index]
        label = int(arrays[_NAMES["label"][side]][index])
        score = f" {arrays['score_D'][index]:.2f}" if side else ""
        # A pixel's centre has whole coordinates in a drawing, its corner in a box.
        place = (float(left) - 0.5, float(top) - 0.5)
        size = (float(right - left), float(bottom - top))
        colour = colours[label] / 255
        axes.add_patch(Rectangle(place, *size, fill=False, edgecolor=colour, linewidth=1.6))
        inside = (max(place[0], -0.5), max(place[1], -0.5))
        axes.text(
            *inside,
            f"{arrays['classes'][label]}{score}",
            fontsize=7,
            va="top",
            color=INK if is_light(colours[label]) else "white",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0},
            clip_on=True,
        )
    if side and not len(chosen):
        axes.text(
            0.5,
            0.04,
            f"nothing with a score of {LEAST_SCORE} or more",
            transform=axes.transAxes,
            ha="center",
            fontsize=7.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.0},
        )
