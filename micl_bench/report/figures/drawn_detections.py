"""Detected objects beside the true ones: boxes with label and score, masks as a tint."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from micl_bench.report.compare.artefact_files import Arrays, check_range, load_arrays
from micl_bench.report.figures.image_grid import Image, image_grid
from micl_bench.report.figures.palette import INK, SMALL, class_colours, is_light
from micl_bench.report.figures.render import PictureKind

_LEAST_SCORE = 0.3
"""Detections below it are not drawn."""
_NOTHING = f"nothing with a score of {_LEAST_SCORE} or more"
_SCENES = 3
_TINT = 0.45
_TRUE = ("truth_image_T", "truth_box_T4", "truth_label_T", "truth_mask_THW")
_FOUND = ("image_D", "box_D4", "label_D", "mask_DHW")


class _Object(NamedTuple):
    box_4: NDArray[np.floating]
    """Left, top, right, bottom."""
    label: int
    mask_HW: NDArray[np.bool_]
    words: str


def _load(path: Path) -> Arrays:
    """Read and check a detection record's scenes."""
    arrays = load_arrays(path, ["images_NHWC", "classes", "score_D", *_TRUE, *_FOUND])
    for image, _, label, _ in (_TRUE, _FOUND):
        check_range(path, arrays, image, below=len(arrays["images_NHWC"]))
        check_range(path, arrays, label, below=len(arrays["classes"]))
    return arrays


def _draw(scenes: dict[str, Arrays]) -> Figure:
    """Draw truth and each method's detections in the first scenes, which methods share."""
    first = next(iter(scenes.values()))
    colours = class_colours(len(first["classes"]))
    images = first["images_NHWC"][:_SCENES]
    objects = [
        [_objects(first, n, _TRUE), *(_objects(arrays, n, _FOUND) for arrays in scenes.values())]
        for n in range(len(images))
    ]
    rows = [
        [_tinted(image, found, colours) for found in row]
        for image, row in zip(images, objects, strict=True)
    ]
    notes = [["", *("" if found else _NOTHING for found in row[1:])] for row in objects]
    grid = image_grid(
        rows,
        titles=["truth", *scenes],
        notes=notes if any(map(any, notes)) else (),
        largest_cell_inches=2.3,
    )
    for corners, row in zip(grid.corners, objects, strict=True):
        for corner, found in zip(corners, row, strict=True):
            _draw_boxes(grid.axes, corner, images.shape[1:3], found, colours)
    return grid.figure


def _objects(arrays: Arrays, image: int, names: tuple[str, ...]) -> list[_Object]:
    """Return the objects of an image: all true ones, or the detections worth drawing."""
    image_of, boxes, labels, masks = (arrays[name] for name in names)
    chosen, scores = image_of == image, [""] * len(labels)
    if names is _FOUND:
        chosen &= arrays["score_D"] >= _LEAST_SCORE
        scores = [f" {score:.2f}" for score in arrays["score_D"]]
    return [
        _Object(
            boxes[i], int(labels[i]), masks[i] > 0, f"{arrays['classes'][labels[i]]}{scores[i]}"
        )
        for i in np.flatnonzero(chosen)
    ]


def _tinted(image: Image, objects: list[_Object], colours: Image) -> Image:
    blended = image.astype(float)
    for one in objects:
        colour = colours[one.label]
        blended[one.mask_HW] = (1 - _TINT) * blended[one.mask_HW] + _TINT * colour
    return blended.astype(np.uint8)


def _draw_boxes(
    axes: Axes,
    corner: tuple[int, int],
    size: Sequence[int],
    objects: list[_Object],
    colours: Image,
) -> None:
    """Draw the boxes in the image at a corner; nothing of them reaches beyond it."""
    image = axes.add_patch(Rectangle(corner, size[1], size[0], visible=False))
    for one in objects:
        colour = colours[one.label] / 255
        left, top, right, bottom = map(float, one.box_4)
        box = Rectangle(
            (corner[0] + left, corner[1] + top),
            right - left,
            bottom - top,
            fill=False,
            edgecolor=colour,
            linewidth=1.2,
        )
        name = axes.text(
            corner[0] + max(left, 0),
            corner[1] + max(top, 0),
            one.words,
            fontsize=SMALL,
            va="top",
            color=INK if is_light(colours[one.label]) else "white",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0},
            clip_on=True,
        )
        for artist in (axes.add_patch(box), name):
            artist.set_clip_path(image)


DETECTION = PictureKind(
    title="Detected objects",
    load=_load,
    draw=_draw,
    caption=lambda _: (
        "Left to right: the true objects, and what each method detects with a score of "
        f"{_LEAST_SCORE} or more. Boxes carry class and score, masks tint the image. Shown are the "
        "first of those that the run saved."
    ),
    shared=("images_NHWC", "classes"),
)
