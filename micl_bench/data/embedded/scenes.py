"""Scenes for the dense tasks: two to four notes, a digit on each, stuck on a piece of a photograph.

A note is a picture of the clean set, its paper tinted. Later notes cover earlier ones. A mask holds
what can be seen of a digit's ink, so no two masks of a scene share a pixel, and label maps and
instance masks follow from the same arrays.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from micl_bench.data.embedded.clean import draw_clean, enlarge
from micl_bench.data.embedded.ink import Floats, encode_jpeg
from micl_bench.data.embedded.photographs import cut_piece
from micl_bench.data.embedded.scans import Scans, random_stream

SCENE_SIZE = 96
NUM_SCENES: dict[str, int] = {"train": 240, "val": 60}
_DIGITS_PER_SCENE = (2, 4)
_NOTE_SIZES = (30, 44)
# Share of a digit's mask; a new note that would leave less of an earlier digit is skipped.
_MIN_VISIBLE = 0.6
_NUM_PLACES_TRIED = 16
_MASK_LEVEL = 0.3
# Of each colour of the paper: dim to bright, and a slight tint.
_PAPER_BRIGHTNESS = (0.8, 1.05)

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
    size = int(random.integers(_NOTE_SIZES[0], _NOTE_SIZES[1] + 1))
    x, y = _freest_place(scene, size, random)
    place = (slice(y, y + size), slice(x, x + size))
    note = np.zeros((SCENE_SIZE, SCENE_SIZE), dtype=bool)
    note[place] = True
    mask = np.zeros_like(note)
    mask[place] = enlarge(scan_HW, size) > _MASK_LEVEL
    if any((o.visible & ~note).sum() < _MIN_VISIBLE * o.full_area for o in scene.digits):
        return
    for other in scene.digits:
        other.visible &= ~note
    tint = random.uniform(*_PAPER_BRIGHTNESS, size=3).astype(np.float32)
    scene.picture[place] = np.clip(draw_clean(scan_HW, size=size) * tint, 0, 1)
    painted = PaintedDigit(scan=scan, digit=digit, visible=mask, full_area=int(mask.sum()))
    scene.digits.append(painted)


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
