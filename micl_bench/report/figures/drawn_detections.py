"""Detected objects beside the true ones: boxes with label and score, masks as a tint."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from micl_bench.report.compare.artefact_files import Arrays, check_range, load_arrays
from micl_bench.report.figures.image_grid import Cell, Image, mosaic
from micl_bench.report.figures.palette import INK, SMALL, class_colours, is_light

LEAST_SCORE = 0.3
"""Detections below it are not drawn."""
_SCENES = 3
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
    drawn = mosaic(rows, titles=[title for title, _, _ in columns], largest_cell_inches=2.3)
    for cells, found in zip(drawn.cells, chosen, strict=True):
        for cell, (_, arrays, side), objects in zip(cells, columns, found, strict=True):
            _draw_boxes(cell, arrays, side, objects, colours)
    return drawn.figure


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
    cell: Cell, arrays: Arrays, side: int, chosen: NDArray[np.intp], colours: Image
) -> None:
    for index in chosen:
        left, top, right, bottom = (float(x) for x in arrays[_NAMES["box"][side]][index])
        label = int(arrays[_NAMES["label"][side]][index])
        score = f" {arrays['score_D'][index]:.2f}" if side else ""
        colour = colours[label] / 255
        box = Rectangle(
            (left, top),
            right - left,
            bottom - top,
            fill=False,
            edgecolor=colour,
            linewidth=1.2,
            transform=cell.transform,
        )
        cell.axes.add_artist(box)
        name = cell.axes.text(
            max(left, 0),
            max(top, 0),
            f"{arrays['classes'][label]}{score}",
            fontsize=SMALL,
            va="top",
            color=INK if is_light(colours[label]) else "white",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0},
            transform=cell.transform,
            clip_on=True,
        )
        cell.clip(box)
        cell.clip(name)
    if side and not len(chosen):
        height, width = cell.image.shape[:2]
        cell.axes.text(
            width / 2,
            0.96 * height,
            f"nothing with a score of {LEAST_SCORE} or more",
            transform=cell.transform,
            ha="center",
            fontsize=SMALL,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.0},
        )
