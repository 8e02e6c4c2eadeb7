"""Scenes for the dense tasks: two to four notes, a digit on each, stuck on a piece of a photograph.

A note is a picture of the clean set, its paper tinted. Later notes cover earlier ones. A mask holds
the visible part of a digit's ink, so no two masks of a scene share a pixel, and label maps and
instance masks follow from the same arrays.

They are laid out as ADE20K's scene parsing benchmark (SceneParse150), with label maps of 8 bits in which
0 is background, which the benchmark ignores, and digit d is d + 1; and as COCO 2017, with masks as
uncompressed run lengths, which every COCO reader decodes and which keep the holes of a 0 or an 8, and
with the `scan` of each annotation.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from micl_bench.data.embedded.material import (
    CLASSES,
    Floats,
    Scans,
    cut_piece,
    encode_jpeg,
    random_stream,
)
from micl_bench.data.embedded.pictures import draw_clean, enlarge

SCENE_SIZE = 96
NUM_SCENES: dict[str, int] = {"train": 240, "val": 60}
_DIGITS_PER_SCENE = (2, 4)
_NOTE_SIZES = (30, 44)
# Share of a digit's mask; a new note that would leave less of an earlier digit is skipped.
_MIN_VISIBLE = 0.6
_NUM_PLACES_TRIED = 16
_MASK_LEVEL = 0.3
# Factors of each colour of the paper: dim to bright, and a slight tint.
_PAPER_BRIGHTNESS = (0.8, 1.05)
_ADE20K_FOLDERS = {"train": "training", "val": "validation"}
_INFO = {
    "description": "MiCL-Bench embedded scenes: digits over photographs, both from scikit-learn",
    "version": "1.0",
    "year": 2017,
}
_LICENSES = [
    # The photographs' own; the digits (UCI) are under CC BY 4.0.
    {"id": 1, "name": "CC BY 2.0", "url": "https://creativecommons.org/licenses/by/2.0/"}
]

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
        """Return the picture as a JPEG file's content."""
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
    """Yield each scan once, shuffled, before any scan comes again."""
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
    """Return, of several random places, the one with the fewest painted pixels: (x, y)."""
    taken = np.zeros((SCENE_SIZE, SCENE_SIZE), dtype=bool)
    for painted in scene.digits:
        taken |= painted.visible
    places = random.integers(0, SCENE_SIZE - size + 1, (_NUM_PLACES_TRIED, 2)).tolist()
    return min(
        ((x, y) for x, y in places),
        key=lambda place: taken[place[1] : place[1] + size, place[0] : place[0] + size].sum(),
    )


def write_ade20k(folder: Path, scenes: dict[str, list[Scene]]) -> dict[str, int]:
    """Write pictures and label maps of both splits."""
    for split, name in _ADE20K_FOLDERS.items():
        images, annotations = folder / "images" / name, folder / "annotations" / name
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for number, scene in enumerate(scenes[split], start=1):
            stem = f"ADE_{split}_{number:08d}"
            (images / f"{stem}.jpg").write_bytes(scene.jpeg())
            label_HW = np.zeros((SCENE_SIZE, SCENE_SIZE), dtype=np.uint8)
            for painted in scene.digits:
                label_HW[painted.visible] = painted.digit + 1
            Image.fromarray(label_HW).save(annotations / f"{stem}.png")
    return {name: len(scenes[split]) for split, name in _ADE20K_FOLDERS.items()}


def write_coco(folder: Path, scenes: dict[str, list[Scene]]) -> dict[str, int]:
    """Write pictures and instance files; image and annotation ids run on from train to val."""
    (folder / "annotations").mkdir(parents=True)
    first_image = first_annotation = 1
    counts = {}
    for split, members in scenes.items():
        name = f"{split}2017"
        content = _describe(members, first_image, first_annotation)
        (folder / name).mkdir()
        for image, scene in zip(content["images"], members, strict=True):
            (folder / name / image["file_name"]).write_bytes(scene.jpeg())
        path = folder / "annotations" / f"instances_{name}.json"
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
        counts[name] = len(members)
        first_image += len(members)
        first_annotation += len(content["annotations"])
    return counts


def _describe(scenes: list[Scene], first_image: int, first_annotation: int) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(scenes, start=first_image):
        images.append(
            {
                "id": image_id,
                "file_name": f"{image_id:012d}.jpg",
                "width": SCENE_SIZE,
                "height": SCENE_SIZE,
                "license": 1,
            }
        )
        for painted in scene.digits:
            annotation_id = first_annotation + len(annotations)
            annotations.append(_annotate(painted, image_id, annotation_id))
    categories = [
        {"id": number, "name": name, "supercategory": "digit"}
        for number, name in enumerate(CLASSES, start=1)
    ]
    return {
        "info": _INFO,
        "licenses": _LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _annotate(painted: PaintedDigit, image_id: int, annotation_id: int) -> dict[str, Any]:
    mask_HW = painted.visible
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    width, height = int(columns[-1]) - x + 1, int(rows[-1]) - y + 1
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": painted.digit + 1,
        "bbox": [float(x), float(y), float(width), float(height)],
        "area": float(mask_HW.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(mask_HW.shape), "counts": _run_lengths(mask_HW)},
        "scan": painted.scan,
    }


def _run_lengths(mask_HW: Mask) -> list[int]:
    """Return the lengths of the runs of 0 and 1 in turn, column by column, a run of 0 first."""
    flat = mask_HW.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs
