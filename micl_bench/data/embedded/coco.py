"""The scenes as COCO 2017 lays out detection and instance segmentation.

Masks are uncompressed run lengths, which every COCO reader decodes and which keep the holes of a
0 or an 8; polygons would lose them. Each annotation also tells its `scan`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from micl_bench.data.embedded.manifest import CLASSES
from micl_bench.data.embedded.scenes import SCENE_SIZE, Mask, PaintedDigit, Scene

_INFO = {
    "description": "MiCL-Bench embedded scenes: digits over photographs, both from scikit-learn",
    "version": "1.0",
    "year": 2017,
}
_LICENSES = [
    # The photographs' own; the digits (UCI) are under CC BY 4.0.
    {"id": 1, "name": "CC BY 2.0", "url": "https://creativecommons.org/licenses/by/2.0/"}
]


def write(folder: Path, scenes: dict[str, list[Scene]]) -> dict[str, int]:
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
    """Lengths of the runs of 0 and 1 in turn, column by column, a run of 0 first."""
    flat = mask_HW.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs
