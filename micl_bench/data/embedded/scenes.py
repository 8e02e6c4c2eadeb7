"""Scenes for the dense tasks: two to four digits painted over a piece of a photograph.

Later digits cover earlier ones. A mask holds what can be seen of a digit, so no two masks of a
scene share a pixel, and label maps and instance masks follow from the same arrays.
"""

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter

from micl_bench.data.embedded.ink import Floats, blend, encode_jpeg, render_ink
from micl_bench.data.embedded.photographs import cut_piece, luminance
from micl_bench.data.embedded.scans import Scans, random_stream

SCENE_SIZE = 96
NUM_SCENES: dict[str, int] = {"train": 240, "val": 60}
_DIGITS_PER_SCENE = (2, 4)
_DIGIT_SIZES = (22, 44)
# Share of a digit's mask; a new digit that would leave less of an earlier one is skipped.
_MIN_VISIBLE = 0.4
_NUM_PLACES_TRIED = 8
_MASK_LEVEL = 0.5
_HALO_BLUR, _HALO_STRENGTH = 1.6, 0.75

Mask = NDArray[np.bool_]


@dataclass(kw_only=True)
class PaintedDigit:
    """A digit in a scene; `visible` shrinks when a later digit covers it."""

    scan: int
    digit: int
    visible: Mask
    full_area: int


@dataclass(kw_only=True)
class Scene:
    """A picture and the digits in it, in the order in which they were painted."""

    picture: Floats
    digits: list[PaintedDigit] = field(default_factory=list)

    def jpeg(self) -> bytes:
        """The picture as a JPEG file's content."""
        return encode_jpeg(self.picture)


def compose_splits(
    scans: Scans, photographs: list[Image.Image], *, seed: int
) -> dict[str, list[Scene]]:
    """Compose all scenes; a split uses its own scans and its own part of the photographs."""
    return {split: _compose(split, scans, photographs, seed) for split in NUM_SCENES}


def _compose(split: str, scans: Scans, photographs: list[Image.Image], seed: int) -> list[Scene]:
    random = random_stream(seed, f"scenes {split}")
    shuffled = _endless(scans.members[split], random)
    scenes = []
    for _ in range(NUM_SCENES[split]):
        piece = cut_piece(photographs, random, size=SCENE_SIZE, region=split, sides=(90, 240))
        scene = Scene(picture=np.clip(piece * np.float32(random.uniform(0.8, 1.3)), 0, 1))
        for _ in range(random.integers(_DIGITS_PER_SCENE[0], _DIGITS_PER_SCENE[1] + 1)):
            scan = next(shuffled)
            _paint(scene, scans.inks[scan], scan, int(scans.digits[scan]), random)
        scenes.append(scene)
    return scenes


def _endless(indices: NDArray[np.int64], random: np.random.Generator) -> Iterator[int]:
    """Each scan once, shuffled, before any scan comes again."""
    while True:
        yield from random.permutation(indices).tolist()


def _paint(
    scene: Scene, scan_HW: Floats, scan: int, digit: int, random: np.random.Generator
) -> None:
    size = int(random.integers(_DIGIT_SIZES[0], _DIGIT_SIZES[1] + 1))
    x, y = _freest_place(scene, size, random)
    ink = np.zeros((SCENE_SIZE, SCENE_SIZE), dtype=np.float32)
    ink[y : y + size, x : x + size] = render_ink(scan_HW, size, level=0.34)
    mask = binary_dilation(ink > _MASK_LEVEL)
    full_area = int(mask.sum())
    left = [int((other.visible & ~mask).sum()) for other in scene.digits]
    if any(
        area < _MIN_VISIBLE * other.full_area
        for area, other in zip(left, scene.digits, strict=True)
    ):
        return
    for other in scene.digits:
        other.visible &= ~mask
    place = scene.picture[y : y + size, x : x + size]
    colour, halo_colour = _contrasting_colours(float(luminance(place).mean()), random)
    halo = np.clip(gaussian_filter(ink, _HALO_BLUR) * 1.5, 0, 1) * np.float32(_HALO_STRENGTH)
    scene.picture = blend(ink, colour, blend(halo, halo_colour, scene.picture))
    scene.digits.append(PaintedDigit(scan=scan, digit=digit, visible=mask, full_area=full_area))


def _freest_place(scene: Scene, size: int, random: np.random.Generator) -> tuple[int, int]:
    """Of several random places, the one with the fewest pixels painted already: (x, y)."""
    taken = np.zeros((SCENE_SIZE, SCENE_SIZE), dtype=bool)
    for painted in scene.digits:
        taken |= painted.visible
    places = random.integers(0, SCENE_SIZE - size + 1, (_NUM_PLACES_TRIED, 2)).tolist()
    return min(
        ((x, y) for x, y in places),
        key=lambda place: taken[place[1] : place[1] + size, place[0] : place[0] + size].sum(),
    )


def _contrasting_colours(brightness: float, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Ink and halo for a place of this brightness: the ink far from it, the halo on its side."""
    hue = random.random()
    if brightness > 0.5:
        ink = colorsys.hsv_to_rgb(hue, random.uniform(0.5, 1.0), random.uniform(0.1, 0.4))
        halo = (0.97, 0.97, 0.97)
    else:
        ink = colorsys.hsv_to_rgb(hue, random.uniform(0.0, 0.45), random.uniform(0.9, 1.0))
        halo = (0.03, 0.03, 0.03)
    return np.array(ink, dtype=np.float32), np.array(halo, dtype=np.float32)
