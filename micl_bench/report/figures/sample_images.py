"""What a model saw and what it predicted: masked views, and segmented scenes beside the truth."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from micl_bench.report.compare.artefact_files import Arrays, check_range, load_arrays
from micl_bench.report.figures.image_grid import Cell, Image, mosaic
from micl_bench.report.figures.palette import HIDDEN_GREY, INK, SMALL, class_colours
from micl_bench.runtime.errors import InputError

_IMAGES, _COLUMNS, _SCENES = 6, 11, 3
_LARGE, _LARGE_COLUMNS = 100, 6
"""Images of so many pixels are drawn larger, fewer to a row: their patches are small parts of them."""
_IGNORED = 255
"""The label of pixels that a segmentation's truth leaves out."""
_TINT = 0.62
"""Share of the class colour over the image below it."""


def load_views(path: Path) -> Arrays:
    """The arrays of `masked_views`, checked."""
    arrays = load_arrays(path, ["images_NHWC", "keep_NVK", "patch_size"])
    if arrays["patch_size"].dtype.kind not in "iu" or arrays["patch_size"].size != 1:
        raise InputError(f"{path}: patch_size is not one whole number")
    patch = int(arrays["patch_size"].max())
    height, width = arrays["images_NHWC"].shape[1:3]
    if patch < 1 or height % patch or width % patch:
        raise InputError(f"{path}: patches of {patch} pixels do not tile {height} x {width} images")
    check_range(path, arrays, "keep_NVK", below=height // patch * (width // patch))
    return arrays


def masked_views(arrays: Arrays) -> Figure:
    """The first images that a run saved, and for each view of them only the patches that it keeps."""
    images, keep, patch = arrays["images_NHWC"], arrays["keep_NVK"], int(arrays["patch_size"].max())
    return views_of(images[:_IMAGES], keep[:_IMAGES, : _COLUMNS - 1], patch)


def views_of(
    images_NHWC: Image,
    keep_NVK: NDArray[np.integer],
    patch: int,
    *,
    heading: str = "",
    names: Sequence[str] = (),
) -> Figure:
    """Images, and beside each its views with all but their own patches hidden.

    Args:
        heading: a line above all.
        names: what to write below each image.
    """
    V = keep_NVK.shape[1]
    width = images_NHWC.shape[2]
    columns = _LARGE_COLUMNS if width >= _LARGE else _COLUMNS
    sets = [
        [image, *(_only(image, keep_K, patch) for keep_K in keep_VK)]
        for image, keep_VK in zip(images_NHWC, keep_NVK, strict=True)
    ]
    abreast = max(1, min(columns // (V + 1), len(sets)))
    rows = [list(chain.from_iterable(sets[i : i + abreast])) for i in range(0, len(sets), abreast)]
    titles = ["image", *(f"view {v + 1}" for v in range(V))] * abreast
    # A name below the image, nothing below its views.
    words = [[name, *[""] * V] for name in names]
    notes = [
        list(chain.from_iterable(words[i : i + abreast])) for i in range(0, len(words), abreast)
    ]
    drawn = mosaic(rows, titles=titles, notes=notes or None, group=V + 1)
    # On a small image, of which views see a good part, frames would hide what it shows.
    cells = list(chain.from_iterable(drawn.cells))
    _frame(cells, keep_NVK, patch=patch, across=width // patch, in_image=width >= _LARGE)
    if heading:
        # Above the page, which grows when it is saved to hold what it has.
        drawn.figure.text(0, 1, heading, va="bottom", fontsize=8, color=INK)
    return drawn.figure


def _frame(
    cells: list[Cell],
    keep_NVK: NDArray[np.integer],
    *,
    patch: int,
    across: int,
    in_image: bool,
) -> None:
    """Frame each view's patches in its colour, in the view and, if wanted, in the image."""
    colours = class_colours(keep_NVK.shape[1]) / 255
    places = iter(cells)
    for keep_VK in keep_NVK:
        image_cell = next(places)
        for keep_K, colour in zip(keep_VK, colours, strict=True):
            corners = [(k % across * patch, k // across * patch) for k in keep_K]
            boxes = [Rectangle(corner, patch, patch) for corner in corners]
            lines = [(next(places), colour, 0.8)]
            if in_image:
                # The light line below keeps a frame apart from an image of its own colour.
                lines += [(image_cell, "white", 1.9), (image_cell, colour, 0.8)]
            for cell, edge, width in lines:
                frames = PatchCollection(
                    boxes,
                    facecolor="none",
                    edgecolor=edge,
                    linewidth=width,
                    transform=cell.transform,
                )
                cell.axes.add_collection(frames, autolim=False)


def _only(image: Image, keep_K: NDArray[np.generic], patch: int) -> Image:
    """The image with all patches grey but those in `keep_K`, which count row by row."""
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    visible = np.zeros(rows * columns, dtype=bool)
    visible[keep_K] = True
    visible_HW = np.kron(visible.reshape(rows, columns), np.ones((patch, patch))).astype(bool)
    return np.where(visible_HW[..., None], image, HIDDEN_GREY).astype(np.uint8)


def load_scenes(path: Path) -> Arrays:
    """A segmentation record's scenes, checked."""
    arrays = load_arrays(path, ["images_NHWC", "truth_NHW", "predicted_NHW", "classes"])
    num_classes = len(arrays["classes"])
    # Smaller pictures are padded to the largest with what is ignored.
    for name in ("truth_NHW", "predicted_NHW"):
        labels = np.where(arrays[name] == _IGNORED, 0, arrays[name])
        check_range(path, {**arrays, name: labels}, name, below=num_classes)
    return arrays


def segmented_scenes(scenes: dict[str, Arrays]) -> Figure:
    """Image, truth and each method's prediction of the first scenes; methods share the scenes."""
    first = next(iter(scenes.values()))
    images, truth = first["images_NHWC"], first["truth_NHW"]
    colours = class_colours(len(first["classes"]))
    shown = range(min(len(images), _SCENES))
    rows, notes = [], []
    for n in shown:
        # What the truth ignores no head was taught: its answers there would only distract.
        ignored_HW = truth[n] == _IGNORED
        predictions = [
            np.where(ignored_HW, _IGNORED, arrays["predicted_NHW"][n]) for arrays in scenes.values()
        ]
        labels = [truth[n], *predictions]
        rows.append([images[n], *(_tinted(images[n], label, colours) for label in labels)])
        notes.append(["", "", *(_agreement(truth[n], labels) for labels in predictions)])
    figure = mosaic(rows, titles=["image", "truth", *scenes], notes=notes).figure
    maps = [truth[shown]]
    for arrays in scenes.values():
        maps.append(arrays["predicted_NHW"][shown][truth[shown] != _IGNORED])
    present = sorted({int(i) for labels in maps for i in np.unique(labels)} - {_IGNORED})
    handles = [Patch(color=colours[i] / 255, label=str(first["classes"][i])) for i in present]
    ignored = Patch(color=(HIDDEN_GREY / 255,) * 3, label="not labelled")
    add_legend(figure, [*handles, ignored] if (truth[shown] == _IGNORED).any() else handles)
    return figure


def _tinted(image: Image, labels_HW: NDArray[np.generic], colours: Image) -> Image:
    """The image under its class colours; what the truth ignores is grey."""
    ignored_HW = labels_HW == _IGNORED
    tint = colours[np.where(ignored_HW, 0, labels_HW)].astype(float)
    tint[ignored_HW] = HIDDEN_GREY
    return np.asarray(_TINT * tint + (1 - _TINT) * image, dtype=np.uint8)


def _agreement(truth_HW: NDArray[np.generic], predicted_HW: NDArray[np.generic]) -> str:
    counted = truth_HW != _IGNORED
    if not counted.any():
        return ""
    return f"{100 * np.mean(predicted_HW[counted] == truth_HW[counted]):.0f} % of pixels right"


def add_legend(figure: Figure, handles: list[Patch]) -> None:
    """A legend below the picture, in as many rows as it needs; the saved page grows to hold it."""
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        borderaxespad=0.6,
        ncols=6,
        fontsize=SMALL,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.2,
    )
