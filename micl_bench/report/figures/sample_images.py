"""Pictures of inputs and predictions: masked views, and segmented scenes beside the truth."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from micl_bench.report.compare.artefact_files import Arrays, check_range, load_arrays
from micl_bench.report.figures.image_grid import Image, image_grid
from micl_bench.report.figures.palette import HIDDEN_GREY, INK, SMALL, class_colours
from micl_bench.report.figures.panels import add_legend
from micl_bench.report.figures.render import PictureKind
from micl_bench.runtime.errors import InputError

_IMAGES, _COLUMNS, _SCENES = 6, 11, 3
_LARGE, _LARGE_COLUMNS = 100, 6
"""Images of so many pixels are drawn larger, fewer to a row: their patches are small parts of them."""
_OPTIONAL = ("names_V", "crops_NVHWC")
_IGNORED = 255
"""The label of pixels that a segmentation's truth leaves out."""
_TINT = 0.62
"""Share of the class colour over the image below it."""


def _load_views(path: Path) -> Arrays:
    """Read and check the views, or parts by other names, that a run saved."""
    arrays = load_arrays(path, ["images_NHWC", "keep_NVK", "patch_size"], optional=_OPTIONAL)
    if arrays["patch_size"].dtype.kind not in "iu" or arrays["patch_size"].size != 1:
        raise InputError(f"{path}: patch_size is not one whole number")
    patch = int(arrays["patch_size"].max())
    height, width = arrays["images_NHWC"].shape[1:3]
    if patch < 1 or height % patch or width % patch:
        raise InputError(f"{path}: patches of {patch} pixels do not tile {height} x {width} images")
    check_range(path, arrays, "keep_NVK", below=height // patch * (width // patch))
    if "names_V" in arrays and arrays["names_V"].dtype.kind != "U":
        raise InputError(f"{path}: names_V is no list of names")
    if "crops_NVHWC" in arrays and arrays["crops_NVHWC"].dtype != np.uint8:
        raise InputError(f"{path}: crops_NVHWC is no array of colour pictures, bytes")
    return arrays


def titles_of(views: Arrays) -> list[str]:
    """Return the names of what stands beside the images of a run: `view 1`, ..., or those it gave."""
    names = views.get("names_V", ())
    numbers = range(1, views["keep_NVK"].shape[1] + 1)
    return list(map(str, names)) if len(names) else [f"view {v}" for v in numbers]


def _draw_views(views: dict[str, Arrays]) -> Figure:
    """Draw the first images that a run saved, and each view of them with only its own patches."""
    (arrays,) = views.values()
    images, keep, patch = arrays["images_NHWC"], arrays["keep_NVK"], int(arrays["patch_size"].max())
    shown = slice(_COLUMNS - 1)
    crops = arrays.get("crops_NVHWC")
    return views_of(
        images[:_IMAGES],
        keep[:_IMAGES, shown],
        patch,
        crops_NVHWC=None if crops is None else crops[:_IMAGES, shown],
        titles=titles_of(arrays)[shown],
    )


def _say_views(views: dict[str, Arrays]) -> str:
    ((method, arrays),) = views.items()
    named = "names_V" in arrays
    if "crops_NVHWC" in arrays:
        what = "each view is a crop of its own, with other colours"
    else:
        each = "each part that is named above keeps" if named else "each view keeps"
        what = f"{each} only its own patches, the rest is hidden (grey)"
    return f"Images as {method} sees them: {what}. Shown are the first of those that the run saved."


def views_of(
    images_NHWC: Image,
    keep_NVK: NDArray[np.integer],
    patch: int,
    *,
    titles: Sequence[str],
    crops_NVHWC: Image | None = None,
    heading: str = "",
    names: Sequence[str] = (),
) -> Figure:
    """Draw images, and beside each its views with all but their own patches hidden.

    Args:
        titles: words above each view.
        crops_NVHWC: pictures of the views, where they are crops of their own.
        heading: a line above all.
        names: words below each image.
    """
    V, width = keep_NVK.shape[1], images_NHWC.shape[2]
    pictures = [[image] * V for image in images_NHWC] if crops_NVHWC is None else crops_NVHWC
    sets = [
        [image, *(_only(view, keep_K, patch) for view, keep_K in zip(own, keep_VK, strict=True))]
        for image, own, keep_VK in zip(images_NHWC, pictures, keep_NVK, strict=True)
    ]
    abreast = max(1, min((_LARGE_COLUMNS if width >= _LARGE else _COLUMNS) // (V + 1), len(sets)))
    above = ["image", *titles] * abreast
    # A name below the image, nothing below its views.
    notes = in_rows([[name, *[""] * V] for name in names], abreast)
    grid = image_grid(in_rows(sets, abreast), titles=above, notes=notes, group=V + 1)
    places = iter(list(chain.from_iterable(grid.corners)))
    frames: list[tuple[Rectangle, Any, float]] = []
    # Patches of crops have no place in the image.
    for keep_VK in keep_NVK if crops_NVHWC is None else ():
        image_corner = next(places)
        for keep_K, colour in zip(keep_VK, class_colours(V) / 255, strict=True):
            frames += _frames(next(places), keep_K, patch, width, [(colour, 0.8)])
            # On a small image, of which views see a good part, frames would hide what it shows.
            if width >= _LARGE:
                # The light line below keeps a frame apart from an image of its own colour.
                lines = [("white", 1.9), (colour, 0.8)]
                frames += _frames(image_corner, keep_K, patch, width, lines)
    if frames:
        drawn = PatchCollection(
            [box for box, _, _ in frames],
            facecolor="none",
            edgecolor=[colour for _, colour, _ in frames],
            linewidth=[line for _, _, line in frames],
        )
        grid.axes.add_collection(drawn, autolim=False)
    if heading:
        # Above the page, which grows when it is saved to hold what it has.
        grid.figure.text(0, 1, heading, va="bottom", fontsize=8, color=INK)
    return grid.figure


def in_rows(sets: Sequence[Sequence[Any]], abreast: int) -> list[list[Any]]:
    """Return rows of so many sets, with the parts of a set side by side."""
    return [list(chain.from_iterable(sets[i : i + abreast])) for i in range(0, len(sets), abreast)]


def _frames(
    corner: tuple[int, int],
    keep_K: NDArray[np.integer],
    patch: int,
    width: int,
    lines: list[tuple[Any, float]],
) -> list[tuple[Rectangle, Any, float]]:
    """Return a box, its colour and its line width for each line and patch in the image at a corner."""
    # A part of few patches has one of them several times.
    once_k = np.array(list(dict.fromkeys(keep_K.tolist())))
    return [
        (Rectangle((corner[0] + column, corner[1] + row), patch, patch), *line)
        for line in lines
        for row, column in patch * np.transpose(np.divmod(once_k, width // patch))
    ]


def _only(image: Image, keep_K: NDArray[np.integer], patch: int) -> Image:
    """Return the image with all patches grey but those in `keep_K`, which count row by row."""
    visible_YX = np.zeros((image.shape[0] // patch, image.shape[1] // patch), dtype=bool)
    visible_YX.flat[keep_K] = True
    visible_HW = visible_YX.repeat(patch, axis=0).repeat(patch, axis=1)
    return np.where(visible_HW[..., None], image, HIDDEN_GREY).astype(np.uint8)


def _load_scenes(path: Path) -> Arrays:
    """Read and check a segmentation record's scenes."""
    arrays = load_arrays(path, ["images_NHWC", "truth_NHW", "predicted_NHW", "classes"])
    # Smaller pictures are padded to the largest with the ignored label.
    for name in ("truth_NHW", "predicted_NHW"):
        labels = np.where(arrays[name] == _IGNORED, 0, arrays[name])
        check_range(path, {name: labels}, name, below=len(arrays["classes"]))
    return arrays


def _draw_scenes(scenes: dict[str, Arrays]) -> Figure:
    """Draw image, truth and each method's prediction of the first scenes, which methods share."""
    first = next(iter(scenes.values()))
    images, truth_NHW = first["images_NHWC"][:_SCENES], first["truth_NHW"][:_SCENES]
    colours = class_colours(len(first["classes"]))
    # No head was trained on pixels that the truth ignores: its answers there would only distract.
    ignored_NHW = truth_NHW == _IGNORED
    maps = [truth_NHW]
    for arrays in scenes.values():
        maps.append(np.where(ignored_NHW, _IGNORED, arrays["predicted_NHW"][:_SCENES]))
    rows, notes = [], []
    for n, image in enumerate(images):
        rows.append([image, *(_tinted(image, labels[n], colours) for labels in maps)])
        notes.append(["", "", *(_agreement(truth_NHW[n], labels[n]) for labels in maps[1:])])
    figure = image_grid(rows, titles=["image", "truth", *scenes], notes=notes).figure
    present = np.unique(np.stack(maps))
    handles = {
        str(first["classes"][i]): Patch(color=colours[i] / 255) for i in present if i != _IGNORED
    }
    if _IGNORED in present:
        handles["not labelled"] = Patch(color=(HIDDEN_GREY / 255,) * 3)
    # Below the picture, in as many rows as it needs; the saved page grows to hold it.
    small = {"fontsize": SMALL, "handlelength": 1.0, "handleheight": 1.0, "borderaxespad": 0.6}
    add_legend(figure, handles, loc="upper left", bbox_to_anchor=(0, 0), **small)
    return figure


def _tinted(image: Image, labels_HW: NDArray[np.generic], colours: Image) -> Image:
    """Return the image under its class colours; pixels that the truth ignores are grey."""
    ignored_HW = labels_HW == _IGNORED
    tint = colours[np.where(ignored_HW, 0, labels_HW)].astype(float)
    tint[ignored_HW] = HIDDEN_GREY
    return np.asarray(_TINT * tint + (1 - _TINT) * image, dtype=np.uint8)


def _agreement(truth_HW: NDArray[np.generic], predicted_HW: NDArray[np.generic]) -> str:
    counted = truth_HW != _IGNORED
    if not counted.any():
        return ""
    return f"{100 * np.mean(predicted_HW[counted] == truth_HW[counted]):.0f} % of pixels right"


VIEWS = PictureKind(
    title="Views in training",
    load=_load_views,
    draw=_draw_views,
    caption=_say_views,
    shared=(),
    abreast=1,
)
SEGMENTATION = PictureKind(
    title="Segmented scenes",
    load=_load_scenes,
    draw=_draw_scenes,
    caption=lambda _: (
        "Left to right: the image, the true classes, and what each method predicts. Shown are the "
        "first of those that the run saved."
    ),
    shared=("images_NHWC", "classes"),
)
