"""A network's tokens over the images: attention of heads, principal components as colours.

Shapes: N images, J heads, H, W pixels, Y, X places of the patch grid, C = 3 colours.
"""

from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from micl_bench.report.compare.artefact_files import Arrays, load_arrays
from micl_bench.report.figures.image_grid import Image, image_grid
from micl_bench.report.figures.palette import LUMA
from micl_bench.report.figures.render import PictureKind
from micl_bench.report.figures.sample_images import in_rows
from micl_bench.runtime.errors import InputError

_IMAGES = 6
_COLUMNS = 9
_FADED = 0.3
"""Share of the image, in grey, below its attention."""


def _load_attention(path: Path) -> Arrays:
    """Read and check the attention of the last block."""
    arrays = load_arrays(path, ["images_NHWC", "attention_NJYX", "query"])
    _check_grid(path, arrays, "attention_NJYX", rows=2)
    weights = arrays["attention_NJYX"]
    if weights.dtype.kind != "f" or not np.isfinite(weights).all() or weights.min() < 0:
        raise InputError(f"{path}: attention_NJYX must hold weights of 0 or more")
    return arrays


def _load_patches(path: Path) -> Arrays:
    """Read and check principal components as colours."""
    arrays = load_arrays(path, ["images_NHWC", "colours_NYXC", "explained"])
    _check_grid(path, arrays, "colours_NYXC", rows=1)
    if arrays["colours_NYXC"].dtype != np.uint8 or arrays["explained"].shape != (3,):
        raise InputError(f"{path}: colours_NYXC must be bytes, explained three numbers")
    return arrays


def _check_grid(path: Path, arrays: Arrays, name: str, *, rows: int) -> None:
    """Check that the grid, whose rows are that axis of the array, divides images of colour bytes."""
    images, grid = arrays["images_NHWC"], arrays[name].shape[rows : rows + 2]
    pairs = zip(images.shape[1:3], grid, strict=True)
    if not all(0 < places <= pixels and pixels % places == 0 for pixels, places in pairs):
        raise InputError(
            f"{path}: {name} of {grid} places does not fit images of {images.shape[1:]} bytes"
        )


def _draw_attention(maps: dict[str, Arrays]) -> Figure:
    """Draw each image beside the attention of each method's last block; methods share the images.

    Shown are the mean over heads, and single heads, spread evenly over all, as many as have room.
    """
    room = max(1, (_COLUMNS - 1) // len(maps) - 1)
    heads = {method: shown_heads(arrays, room) for method, arrays in maps.items()}
    titles = ["image"]
    for method, own in heads.items():
        mean = "mean" if len(maps) == 1 else f"{method}:\nmean"
        titles += [mean, *(f"head {j + 1}" for j in own)]
    images = next(iter(maps.values()))["images_NHWC"][:_IMAGES]
    rows = [
        [image, *chain.from_iterable(_heat(image, maps[m], n, heads[m]) for m in maps)]
        for n, image in enumerate(images)
    ]
    return image_grid(rows, titles=titles).figure


def shown_heads(arrays: Arrays, room: int) -> list[int]:
    """Return at most `room` heads, spread evenly over all."""
    heads = arrays["attention_NJYX"].shape[1]
    return [int(j) for j in np.linspace(0, heads - 1, min(room, heads))]


def _attention_caption(maps: dict[str, Arrays]) -> str:
    """Return words on the maps and the number of heads."""
    queries = {str(arrays["query"]) for arrays in maps.values()}
    heads = {arrays["attention_NJYX"].shape[1] for arrays in maps.values()}
    shares = {m: float(a["attention_NJYX"].sum(axis=(2, 3)).mean()) for m, a in maps.items()}
    return (
        f"Attention of {' or '.join(sorted(queries))} to each patch in the last block, exactly as the "
        f"network computes it: the mean over all heads, and single heads (of "
        f"{' or '.join(map(str, sorted(heads)))}). Each map runs from 0, dark, to its own largest "
        f"weight, bright. Of all attention, {_percentages(shares)} goes to patches, the rest to the "
        "query itself and other tokens that are no patch."
    )


def _draw_patches(patches: dict[str, Arrays]) -> Figure:
    """Draw each image beside its patches, coloured by their principal components, of each method."""
    images = next(iter(patches.values()))["images_NHWC"][:_IMAGES]
    sets = [
        [image, *(_enlarged(arrays["colours_NYXC"][n], image) for arrays in patches.values())]
        for n, image in enumerate(images)
    ]
    width = len(patches) + 1
    abreast = max(1, min((_COLUMNS - 1) // width, len(sets)))
    titles = ["image", *(patches if len(patches) > 1 else ["patches"])] * abreast
    return image_grid(in_rows(sets, abreast), titles=titles, group=width).figure


def _patch_caption(patches: dict[str, Arrays]) -> str:
    """Return words on the colours and the share of the variance in them."""
    shares = {method: float(arrays["explained"].sum()) for method, arrays in patches.items()}
    return (
        "Patch tokens after the final norm: their first three principal components, over all shown "
        "images together, as red, green and blue. Equal colours of a method are equal features; between "
        f"methods colours mean nothing. Share of the variance in them: {_percentages(shares)}."
    )


def _percentages(shares: dict[str, float]) -> str:
    """Return the shares by method; without its name where there is one."""
    return ", ".join(
        (f"{method} " if len(shares) > 1 else "") + f"{100 * share:.0f} %"
        for method, share in shares.items()
    )


def _heat(image: Image, arrays: Arrays, n: int, heads: list[int]) -> list[Image]:
    attention_JYX = arrays["attention_NJYX"][n]
    maps = [attention_JYX.mean(axis=0), *attention_JYX[heads]]
    grey_HW1 = (image @ LUMA)[..., None]
    return [_blend(grey_HW1, _enlarged(weights_YX, image)) for weights_YX in maps]


def _blend(grey_HW1: NDArray[np.float64], weights_HW: NDArray[np.floating]) -> Image:
    scaled_HW = weights_HW / max(float(weights_HW.max()), float(np.finfo(float).tiny))
    colours_HWC = matplotlib.colormaps["inferno"](scaled_HW)[..., :3] * 255
    return np.asarray((1 - _FADED) * colours_HWC + _FADED * grey_HW1, dtype=np.uint8)


def _enlarged(grid: NDArray[Any], image: Image) -> NDArray[Any]:
    """Return the grid with each place as large as its patch."""
    patch = image.shape[0] // grid.shape[0]
    return grid.repeat(patch, axis=0).repeat(patch, axis=1)


ATTENTION = PictureKind(
    title="Attention of the last block",
    load=_load_attention,
    draw=_draw_attention,
    caption=_attention_caption,
    shared=("images_NHWC",),
)
PATCHES = PictureKind(
    title="Principal components of patches",
    load=_load_patches,
    draw=_draw_patches,
    caption=_patch_caption,
    shared=("images_NHWC",),
)
