"""Small COCO data sets with detections, and what pycocotools makes of them."""

import contextlib
import copy
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Rows = list[dict[str, Any]]
RECTANGLE = (0, 0, 1, 0, 1, 1, 0, 1)


def scenes(*, images: int = 12, categories: int = 4, seed: int = 0) -> tuple[dict[str, Any], Rows]:
    """Truth as an annotations file holds it, crowds too, and detections that are often right.

    The last category has no object, the one before it one alone, in the first image.
    """
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for image in range(1, images + 1):
        chosen = rng.integers(1, categories - 1, rng.integers(0, 6)).tolist()
        for category in chosen + [categories - 1] * (image == 1):
            box = [*rng.uniform(0, 60, 2).round(1).tolist(), *rng.uniform(8, 40, 2).tolist()]
            crowd = int(rng.random() < 0.2 and category < categories - 1)
            annotations.append(_shape(image, category, box) | {"iscrowd": crowd})
            for _ in range(rng.integers(0, 3) + crowd):
                moved = (np.array(box) + rng.normal(0, 2.5, 4)).clip(1).tolist()
                rows.append(_shape(image, category, moved) | {"score": rng.random()})
        for _ in range(rng.integers(0, 4)):
            box = [*rng.uniform(0, 60, 2).tolist(), *rng.uniform(8, 40, 2).tolist()]
            category = int(rng.integers(1, categories + 1))
            rows.append(_shape(image, category, box) | {"score": rng.random()})
    truth = {
        "images": [
            {"id": number, "file_name": f"{number:06d}.jpg", "width": 120, "height": 120}
            for number in range(1, images + 1)
        ],
        "categories": [{"id": c, "name": f"thing {c}"} for c in range(1, categories + 1)],
        "annotations": [row | {"id": number} for number, row in enumerate(annotations, 1)],
    }
    return truth, rows


def repeated(
    truth: dict[str, Any], rows: Rows, copies: NDArray[np.int64]
) -> tuple[dict[str, Any], Rows]:
    """The data set with image n literally there `copies[n]` times, under numbers of their own."""
    made: dict[str, Any] = {"images": [], "annotations": [], "categories": truth["categories"]}
    detections: Rows = []
    for image, count in zip(truth["images"], copies, strict=True):
        for _ in range(count):
            number = len(made["images"]) + 1
            made["images"].append(image | {"id": number})
            here = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
            for row in here:
                changed = {"image_id": number, "id": len(made["annotations"]) + 1}
                made["annotations"].append(row | changed)
            detections += [
                row | {"image_id": number} for row in rows if row["image_id"] == image["id"]
            ]
    return made, detections


def evaluated(truth: dict[str, Any], rows: Rows, kind: str) -> COCOeval:
    """COCO's evaluation as published, over all sizes and limits."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        shape = "segmentation" if kind == "bbox" else "bbox"
        chosen = [{key: row[key] for key in row if key != shape} for row in copy.deepcopy(rows)]
        evaluation = COCOeval(coco, coco.loadRes(chosen), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def precisions(evaluation: COCOeval) -> NDArray[np.float64]:
    """AP in percent at each threshold, over all sizes, at most 100 detections."""
    precision_TRK = evaluation.eval["precision"][:, :, :, 0, -1]
    return np.array([100 * part[part > -1].mean() for part in precision_TRK])


def _shape(image: int, category: int, box: list[float]) -> dict[str, Any]:
    x, y, w, h = box
    polygon = (np.array(RECTANGLE).reshape(4, 2) * (w, h) + (x, y)).ravel().tolist()
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": w * h,
        "segmentation": mask.merge(mask.frPyObjects([polygon], 120, 120)),
    }
