"""A made-up COCO validation set and detections in it.

Objects in the sizes of val2017 (41 % small, 34 % medium, 25 % large; about 7 on an image of 640 x 480),
each detected several times more or less well, and detections where nothing is.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

_HEIGHT, _WIDTH = 480, 640
_OBJECTS = 7.4
_CROWDS = 0.012
_CORNERS = 12
# Sides by COCO's bounds: an area of 32 x 32 is no longer small, one of 96 x 96 large.
_SIDES = ((8, 32), (32, 96), (96, 400))
_SHARES = (0.41, 0.34, 0.25)

Entry = dict[str, Any]


def made_up(*, images: int, detections: int, categories: int) -> tuple[Entry, list[Entry]]:
    """A COCO annotation file, and results with boxes and masks, as parsed JSON."""
    random = np.random.default_rng(0)
    truth: list[Entry] = []
    results: list[Entry] = []
    for image in range(1, images + 1):
        objects = _objects(random, image, categories)
        for entry in objects:
            truth.append({**entry, "id": len(truth) + 1})
        results += _detections(random, image, objects, detections, categories)
    content = {
        "images": [
            {"id": image, "file_name": f"{image}.jpg", "height": _HEIGHT, "width": _WIDTH}
            for image in range(1, images + 1)
        ],
        "annotations": truth,
        "categories": [{"id": i, "name": f"category {i}"} for i in range(1, categories + 1)],
    }
    return content, results


def _objects(random: np.random.Generator, image: int, categories: int) -> list[Entry]:
    objects = []
    for _ in range(random.poisson(_OBJECTS)):
        low, high = _SIDES[random.choice(len(_SIDES), p=_SHARES)]
        size = np.exp(random.uniform(np.log(low), np.log(high), 2))
        centre = random.uniform(0, 1, 2) * (_WIDTH, _HEIGHT)
        crowd = bool(random.uniform() < _CROWDS)
        shape = _shape(np.array([*centre, *size]), whole=crowd)
        category = int(random.integers(1, categories + 1))
        objects.append({**shape, "image_id": image, "category_id": category, "iscrowd": int(crowd)})
    return objects


def _detections(
    random: np.random.Generator,
    image: int,
    objects: list[Entry],
    detections: int,
    categories: int,
) -> list[Entry]:
    """Objects seen less and less well, and one of five where nothing is."""
    found = []
    for _ in range(detections):
        error = random.uniform(0, 0.5)
        category = int(random.integers(1, categories + 1))
        if objects and random.uniform() < 0.8:
            seen = objects[random.integers(len(objects))]
            x, y, w, h = seen["bbox"]
            place = np.array([x + w / 2, y + h / 2, w, h])
            place += random.normal(0, error, 4) * (w, h, w, h)
            category = seen["category_id"] if random.uniform() < 0.9 else category
        else:
            place = random.uniform(0.05, 0.95, 4) * (_WIDTH, _HEIGHT, _WIDTH / 2, _HEIGHT / 2)
        score = float(np.clip(random.normal(0.9 - 1.2 * error, 0.2), 0.05, 1.0))
        shape = _shape(place, whole=True)
        found.append({**shape, "image_id": image, "category_id": category, "score": score})
    return found


def _shape(place: NDArray[np.float64], *, whole: bool) -> Entry:
    """An ellipse with a centre and sides, cut at the image's edge: a polygon, or `whole` as runs."""
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    circle_C2 = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners_C2 = place[:2] + circle_C2 * np.maximum(np.abs(place[2:]), 2) / 2
    corners_C2 = corners_C2.clip(0, (_WIDTH, _HEIGHT))
    polygon = corners_C2.flatten().tolist()
    (runs,) = coco_masks.frPyObjects([polygon], _HEIGHT, _WIDTH)
    runs["counts"] = runs["counts"].decode()
    (x, y), (right, bottom) = corners_C2.min(0).tolist(), corners_C2.max(0).tolist()
    return {
        "bbox": [x, y, right - x, bottom - y],
        "area": float(coco_masks.area(runs)),
        "segmentation": runs if whole else [polygon],
    }
