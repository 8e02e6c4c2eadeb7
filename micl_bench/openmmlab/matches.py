"""The detections of each image that mmdetection evaluated, and which of them found an object.

Shapes: N images, K categories, T thresholds of the intersection over union, D detections.
"""

import collections
import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from micl_bench.records.evidence.detections import KINDS, MOST, Detections, Found
from micl_bench.runtime.errors import InputError

# By number of the image, its boxes, scores, labels and masks as run lengths, as `CocoMetric` keeps them.
Kept = dict[int, dict[str, Any]]

_ALL_AREAS = [0.0, 1e5**2]
_SUFFIXES = {"": "", "50": "_50", "75": "_75"}


class Matches:
    """The detections that mmdetection's `CocoMetric` keeps, as COCO's evaluation matches them."""

    def __init__(self, metric: BaseMetric, dataset: Any) -> None:
        """Take the metric's settings, and let it evaluate the images of the data set alone.

        By itself it takes all images of its annotations: those that a data set with `indices`
        leaves out would count as if nothing were found in them.

        Raises:
            InputError: the metric reads no annotations beforehand, or they lack an image of the
                data set, or an image is in the data set twice.
        """
        self.metric: Any = metric
        self._images = _image_numbers(metric, dataset)
        # It asks its annotations only where this is None.
        self.metric.img_ids = list(self._images)

    def kept(self, samples: Sequence[Any]) -> Kept:
        """The detections of a step's samples, which the metric has just put behind the others."""
        newest = self.metric.results[len(self.metric.results) - len(samples) :]
        return {found["img_id"]: found for _, found in newest}

    def statistics(self, kept: Kept) -> Detections:
        """Join the detections of all images of the data set, those without any too."""
        coco = self.metric._coco_api
        images, categories = _places(self._images), _places(self.metric.cat_ids)
        objects = collections.Counter(
            (images[truth["image_id"]], categories[truth["category_id"]])
            for number in images
            for truth in coco.imgToAnns[number]
            if truth["category_id"] in categories and not truth.get("iscrowd")
        )
        places_E2 = np.array(list(objects), dtype=np.int64).reshape(-1, 2)
        return Detections(
            files=tuple(str(coco.imgs[number]["file_name"]) for number in images),
            categories=tuple(str(coco.cats[number]["name"]) for number in categories),
            iou_T=self._iou_T,
            object_image_E=places_E2[:, 0],
            object_category_E=places_E2[:, 1],
            object_count_E=np.array(list(objects.values()), dtype=np.int64),
            found={kind: self._found(kind, kept, images, categories) for kind in self._kinds},
        )

    def stated(self, kept: Kept, metrics: dict[str, float]) -> dict[str, float]:
        """The library's metrics by our names, in percent: `box_AP`, `mask_AP50`, ...

        `CocoMetric` says -1 where nothing is measured. Its AP50 and AP75 are over more than 100
        detections of a category in an image, where there are more: then they are not taken.
        """
        prefix = f"{self.metric.prefix}/" if self.metric.prefix else ""
        most = max((np.bincount(f["labels"], minlength=1).max() for f in kept.values()), default=0)
        limit = sorted(self.metric.proposal_nums)[-1]
        suffixes = _SUFFIXES if limit == MOST or most <= min(limit, MOST) else {"": ""}
        names = {
            KINDS[kind] + ours: f"{prefix}{kind}_mAP{theirs}"
            for kind in self._kinds
            for ours, theirs in suffixes.items()
        }
        if not any(len(found["labels"]) for found in kept.values()):
            # It says nothing where nothing was detected; precision without recall is 0.
            return dict.fromkeys(names, 0.0)
        return {
            ours: round(100 * float(metrics[name]), 1)
            for ours, name in names.items()
            if metrics.get(name, -1) >= 0
        }

    @property
    def _kinds(self) -> list[str]:
        return [kind for kind in KINDS if kind in self.metric.metrics]

    @property
    def _iou_T(self) -> np.ndarray:
        return np.atleast_1d(np.asarray(self.metric.iou_thrs, dtype=np.float64))

    def _found(
        self, kind: str, kept: Kept, images: dict[int, int], categories: dict[int, int]
    ) -> Found:
        rows = [row for n in images if n in kept for row in self._rows(kind, kept[n])]
        none = np.zeros((len(self._iou_T), 0), dtype=bool)
        image, category, score, matched, ignored = [], [], [], [none], [none]
        # For each category and image with a detection, in this order.
        for result in self._evaluated(kind, rows, list(images), list(categories)) if rows else ():
            if not result or not (scores := result["dtScores"]):
                continue
            image += [images[result["image_id"]]] * len(scores)
            category += [categories[result["category_id"]]] * len(scores)
            score += scores
            matched.append(result["dtMatches"] != 0)
            ignored.append(result["dtIgnore"].astype(bool))
        return Found(
            image_D=np.array(image, dtype=np.int64),
            category_D=np.array(category, dtype=np.int64),
            score_D=np.array(score, dtype=np.float64),
            matched_TD=np.concatenate(matched, axis=1),
            ignored_TD=np.concatenate(ignored, axis=1),
        )

    def _evaluated(
        self, kind: str, rows: list[dict[str, Any]], images: list[int], categories: list[int]
    ) -> list[dict[str, Any] | None]:
        """The matches that pycocotools finds, for each category and image."""
        # A dependency of mmdetection, which segmentation does without.
        from pycocotools.cocoeval import COCOeval

        coco = self.metric._coco_api
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, coco.loadRes(rows), kind)
            evaluation.params.imgIds, evaluation.params.catIds = images, categories
            evaluation.params.iouThrs, evaluation.params.maxDets = self._iou_T, [MOST]
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [_ALL_AREAS], ["all"]
            evaluation.evaluate()
        found: list[dict[str, Any] | None] = evaluation.evalImgs
        return found

    def _rows(self, kind: str, found: dict[str, Any]) -> list[dict[str, Any]]:
        """One image's detections in COCO's results format, as the metric itself writes them."""
        if kind == "segm":
            scores, shapes = found.get("mask_scores", found["scores"]), found["masks"]
        else:
            scores, shapes = found["scores"], map(self.metric.xyxy2xywh, found["bboxes"])
        return [
            {
                "image_id": found["img_id"],
                "category_id": self.metric.cat_ids[label],
                "score": float(score),
                "segmentation" if kind == "segm" else "bbox": shape,
            }
            for label, score, shape in zip(found["labels"], scores, shapes, strict=True)
        ]


def _image_numbers(metric: Any, dataset: Any) -> list[int]:
    """COCO's numbers of a data set's images, in its order."""
    name, coco = type(metric).__name__, getattr(metric, "_coco_api", None)
    if coco is None:
        raise InputError(
            f"{name} reads no annotations of COCO's format before it evaluates; use CocoMetric with "
            "an ann_file"
        )
    try:
        numbers = [dataset.get_data_info(index)["img_id"] for index in range(len(dataset))]
    except (AttributeError, KeyError) as error:
        raise InputError(
            f"{type(dataset).__name__} does not say which images {name} has to evaluate ({error})"
        ) from error
    if foreign := [number for number in numbers if number not in coco.imgs]:
        raise InputError(
            f"{name}: its ann_file lacks {len(foreign)} of the data set's {len(numbers)} images, "
            f"such as number {foreign[0]}; both need the same ann_file"
        )
    if (different := len(set(numbers))) != len(numbers):
        raise InputError(
            f"the validation data set goes through {different} images {len(numbers)} times in all; "
            "each may be there once"
        )
    return numbers


def _places(numbers: Sequence[int]) -> dict[int, int]:
    """COCO's numbers, ascending, with their places."""
    return {number: place for place, number in enumerate(sorted(numbers))}
