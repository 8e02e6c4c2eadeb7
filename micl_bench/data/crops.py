"""Crops of images: random ones and flips for training, the centre for evaluation.

Boxes are (left, top, right, bottom), sizes (width, height), both in pixels. Shapes: N images, R random
numbers per image.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from micl_bench.runtime.randomness import Stream, uniforms

_TRIES = 10
_NUMBERS = 1 + 4 * _TRIES
_ASPECT = (3 / 4, 4 / 3)
_LOG_ASPECT = (math.log(_ASPECT[0]), math.log(_ASPECT[1]))

Sizes = NDArray[np.integer]
Boxes = NDArray[np.int64] | NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crops:
    """A box in original pixels for each image, and whether to mirror its content."""

    box_N4: Boxes
    flip_N: NDArray[np.bool_]


def draw_crops(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    sizes_N2: Sizes,
    *,
    scale: tuple[float, float],
    flip: bool,
    view: int = 0,
) -> Crops:
    """Draw crops, half of them mirrored if `flip`, by (seed, epoch, index, view) and size alone."""
    first = view * _NUMBERS
    random_NR = uniforms(seed, epoch, index_N, stream=Stream.CROP, count=_NUMBERS, first=first)
    return Crops(
        box_N4=random_crops(sizes_N2, scale, random_NR[:, 1:]),
        flip_N=random_NR[:, 0] < (0.5 if flip else 0.0),
    )


def random_crops(
    sizes_N2: Sizes, scale: tuple[float, float], random_NR: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return Inception's random crop as torchvision draws it: ten tries, else the centre; whole pixels.

    Args:
        scale: share of the area, uniform; the aspect is log-uniform in 3/4 to 4/3.
        random_NR: numbers in [0, 1), four per try: area, aspect, left, top.
    """
    N = len(sizes_N2)
    tries_NT4 = random_NR.reshape(N, -1, 4)
    area_N1 = sizes_N2.prod(axis=1, keepdims=True)
    area_NT = area_N1 * (scale[0] + (scale[1] - scale[0]) * tries_NT4[:, :, 0])
    low, high = _LOG_ASPECT
    aspect_NT = np.exp(low + (high - low) * tries_NT4[:, :, 1])
    sides_NT2 = np.stack([area_NT * aspect_NT, area_NT / aspect_NT], axis=-1)
    sides_NT2 = np.rint(np.sqrt(sides_NT2)).astype(np.int64)
    fits_NT = ((sides_NT2 > 0) & (sides_NT2 <= sizes_N2[:, None])).all(axis=-1)
    pick_N = fits_NT.argmax(axis=1)
    each_N = np.arange(N)
    side_N2 = sides_NT2[each_N, pick_N]
    corner_N2 = (tries_NT4[each_N, pick_N, 2:] * (sizes_N2 - side_N2 + 1)).astype(np.int64)
    box_N4 = np.concatenate([corner_N2, corner_N2 + side_N2], axis=1)
    fits_N = fits_NT[each_N, pick_N]
    if not fits_N.all():
        box_N4[~fits_N] = _central(sizes_N2[~fits_N])
    return box_N4


def centre_boxes(sizes_N2: Sizes, crop_pct: float) -> NDArray[np.float64]:
    """Return evaluation's crop: the square of `crop_pct` times the short side in the middle."""
    half_N1 = crop_pct * sizes_N2.min(axis=1, keepdims=True) / 2
    return np.concatenate([sizes_N2 / 2 - half_N1, sizes_N2 / 2 + half_N1], axis=1)


def _central(sizes_N2: Sizes) -> NDArray[np.int64]:
    """Return the largest box in the middle whose aspect is allowed."""
    width_N, height_N = sizes_N2[:, 0], sizes_N2[:, 1]
    side_N2 = np.stack(
        [
            np.minimum(width_N, np.rint(height_N * _ASPECT[1])),
            np.minimum(height_N, np.rint(width_N / _ASPECT[0])),
        ],
        axis=1,
    ).astype(np.int64)
    corner_N2 = (sizes_N2 - side_N2) // 2
    return np.concatenate([corner_N2, corner_N2 + side_N2], axis=1)
