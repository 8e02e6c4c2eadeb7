"""Detections of each image, and whether they found a true object: the evidence behind an AP.

One compressed `.npz` per result, read without pickle. It holds COCO's evaluation of each image and
category before all detections are sorted by their scores: areas of all sizes, at most 100 detections of
a category in an image.

files              (N,) names of the images, each once, in the order of their numbers in COCO's file
categories         (K,) names in the order of the numbers below
iou                (T,) thresholds of the intersection over union with a true object
object.image       (E,) image, `object.category` its category, `object.count` (E,) the number of true
                   objects of it that count there; crowds do not
<kind>.image       (D,) image of each detection, `<kind>.category`, `<kind>.score` likewise, for
                   the kinds `bbox` and `segm`; in order of images, and of scores within one
<kind>.matched     (T, D) bits: whether it found an object at each threshold
<kind>.ignored     (T, D) bits: whether it counts neither as right nor as wrong

Shapes: N images, K categories, T thresholds, D detections, R resamples, P right detections.
"""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.evidence.evidence import check_numbers, names_of, require
from micl_bench.records.evidence.per_image import Counted
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.npz import Arrays, read_npz

KINDS = {"bbox": "box_AP", "segm": "mask_AP"}
"""COCO's names of the compared shapes, and the metrics made of them."""
MOST = 100
"""Detections of a category that count in an image."""

_RECALLS = np.linspace(0.0, 1.0, 101)
_ELEMENTS = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """All detections, by boxes or by masks."""

    image_D: NDArray[np.int64]
    category_D: NDArray[np.int64]
    score_D: NDArray[np.float64]
    matched_TD: NDArray[np.bool_]
    ignored_TD: NDArray[np.bool_]

    def by_category(self, count: int) -> list["Found"]:
        """Return the detections of each category, best score first; equal scores stay in their order."""
        order = np.lexsort((-self.score_D, self.category_D))
        ends = np.searchsorted(self.category_D[order], np.arange(count + 1))
        return [self._take(order[start:end]) for start, end in itertools.pairwise(ends)]

    def _take(self, rows: NDArray[np.int64]) -> "Found":
        columns = {f.name: getattr(self, f.name)[..., rows] for f in dataclasses.fields(self)}
        return Found(**columns)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detections(Counted):
    """The detections of each image, and its numbers of true objects."""

    kind: ClassVar[str] = "detections"
    # For few objects, AP is too high by chance: the envelope over precisions takes the best of them, and
    # categories without objects leave the mean. A resample repeats both, so percentiles as they are lie
    # too high. In simulations of 200 to 1200 data sets, intervals held the true AP50 so often, before
    # and after:
    #     60 images, 10 categories, 12 objects of each    87 %   90 %
    #     60 images, 10 categories, 3 objects of each     76 %   83 %
    #     60 images, 10 categories, most of them rare     94 %   87 %
    #     500 images, 10 categories, 10 objects of each   81 %   94 %
    #     500 images, 10 categories, 100 objects of each  91 %   93 %
    #     500 images, 10 categories, some rare            86 %   82 %
    #     500 images, 80 categories, some rare             9 %   68 %
    #     2000 images, 80 categories, some rare           26 %   93 %
    # So where categories have few objects, intervals are still too narrow. Differences of two models
    # need no correction, as both have the bias: 93 to 100 % in the same simulations.
    corrected: ClassVar[bool] = True

    files: tuple[str, ...]
    categories: tuple[str, ...]
    iou_T: NDArray[np.float64]
    object_image_E: NDArray[np.int64]
    object_category_E: NDArray[np.int64]
    object_count_E: NDArray[np.int64]
    found: dict[str, Found]
    """Detections by kind: `bbox`, `segm`, or both."""

    @property
    def tolerance(self) -> float:
        """Return half of the last digit that `CocoMetric` keeps."""
        return 0.05 + 1e-9

    def resampled(self, weights_RN: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
        """Return AP, AP50 and AP75 of R data sets that hold image n `weights_RN[:, n]` times.

        COCO's evaluation gives the same for the data set with its images repeated, but where
        two detections of one category in one image have the very same score: there it may put the
        copies in another order. A category without objects in a resample is left out of its mean,
        as the evaluation leaves it out of any data set's; without any object AP is nan.
        """
        return {
            metric: value_R
            for kind in self.found
            for metric, value_R in self.precisions(kind, weights_RN).items()
            if metric.removeprefix(KINDS[kind]) in ("", "50", "75")
        }

    def precisions(
        self, kind: str, weights_RN: NDArray[np.integer]
    ) -> dict[str, NDArray[np.float64]]:
        """Return AP of R data sets over all thresholds, `box_AP`, and at each, `box_AP50`; percent."""
        R, T = len(weights_RN), len(self.iou_T)
        total_RT, number_R = np.zeros((R, T)), np.zeros((R, 1))
        for category, found in enumerate(self._sorted[kind]):
            here = self.object_category_E == category
            images, counts = self.object_image_E[here], self.object_count_E[here]
            step = max(1, _ELEMENTS // max(1, len(found.score_D)))
            for start in range(0, R, step):
                part = slice(start, start + step)
                objects_R = weights_RN[part, images] @ counts
                total_RT[part] += _average_precision(found, weights_RN[part], objects_R)
                number_R[part, 0] += objects_R > 0
        with np.errstate(invalid="ignore"):
            precision_RT = 100 * total_RT / number_R
        name = KINDS[kind]
        at_one = {
            f"{name}{100 * iou:g}": precision_RT[:, t]
            for t, iou in enumerate(self.iou_T.round(9).tolist())
        }
        return {name: precision_RT.mean(axis=1), **at_one}

    @functools.cached_property
    def _sorted(self) -> dict[str, list[Found]]:
        count = len(self.categories)
        return {kind: found.by_category(count) for kind, found in self.found.items()}

    def arrays(self) -> Arrays:
        """Return the arrays that the head of this file lists."""
        arrays: Arrays = {
            "files": np.array(self.files),
            "categories": np.array(self.categories),
            "iou": self.iou_T,
            "object.image": self.object_image_E.astype(np.int32),
            "object.category": self.object_category_E.astype(np.int32),
            "object.count": self.object_count_E.astype(np.int32),
        }
        for kind, found in self.found.items():
            arrays |= {
                f"{kind}.image": found.image_D.astype(np.int32),
                f"{kind}.category": found.category_D.astype(np.int32),
                f"{kind}.score": found.score_D,
                f"{kind}.matched": np.packbits(found.matched_TD, axis=1),
                f"{kind}.ignored": np.packbits(found.ignored_TD, axis=1),
            }
        return arrays


def _average_precision(
    found: Found, weights_RN: NDArray[np.integer], objects_R: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return AP of one category at each threshold (R, T), 0 where a resample has no object of it.

    Precision rises with each right detection only, and the envelope gives every recall the best
    precision of those that reach it. So only right detections are looked at, each once with all its
    copies behind it: between copies of one detection precision is no higher.
    """
    weights_RD = weights_RN[:, found.image_D]
    seen_RD = weights_RD.cumsum(axis=1, dtype=np.int32)
    share_R1 = np.maximum(objects_R, 1)[:, None]
    average_RT = np.zeros((len(weights_RN), len(found.matched_TD)))
    for t, (matched_D, ignored_D) in enumerate(
        zip(found.matched_TD, found.ignored_TD, strict=True)
    ):
        right_P = np.flatnonzero(matched_D & ~ignored_D)
        if not len(right_P):
            continue
        true_RP = weights_RD[:, right_P].cumsum(axis=1, dtype=np.int32)
        counted_RP = seen_RD[:, right_P]
        if ignored_D.any():
            counted_RP = counted_RP - _before(weights_RD, np.flatnonzero(ignored_D), right_P)
        # As COCO's evaluation keeps 0 / 0 from happening.
        precision_RP = true_RP / (counted_RP + np.spacing(1))
        best_RP = np.maximum.accumulate(precision_RP[:, ::-1], axis=1)[:, ::-1]
        # The number of the 101 recalls that are reached up to each right detection.
        reached_RP = np.searchsorted(_RECALLS, true_RP / share_R1, side="right")
        gained_RP = np.diff(reached_RP, axis=1, prepend=0)
        average_RT[:, t] = (best_RP * gained_RP).sum(axis=1) / len(_RECALLS)
    return average_RT * (objects_R > 0)[:, None]


def _before(
    weights_RD: NDArray[np.integer], ignored_I: NDArray[np.int64], right_P: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the copies of ignored detections before each right one."""
    sums_RI = np.pad(weights_RD[:, ignored_I].cumsum(axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    return sums_RI[:, np.searchsorted(ignored_I, right_P)]


def read_detections(path: Path) -> Detections:
    """Read what `Detections.write` wrote.

    Raises:
        InputError: there is no such file, it is damaged, or it contradicts itself.
    """
    arrays = read_npz(path)
    kinds = [kind for kind in KINDS if f"{kind}.score" in arrays]
    parts = ("image", "category", "score", "matched", "ignored")
    needed = {"files", "categories", "iou", "object.image", "object.category", "object.count"}
    needed |= {f"{kind}.{part}" for kind in kinds for part in parts}
    if not kinds:
        raise InputError(f"{path} holds no detections: it lacks all detections")
    require(path, arrays, needed, "detections")
    files, categories = (names_of(path, arrays, name) for name in ("files", "categories"))
    iou_T = arrays["iou"]
    if iou_T.ndim != 1 or not len(iou_T) or not _are_fractions(iou_T):
        raise InputError(f"{path}: iou is not a list of fractions")
    limits = {"image": len(files), "category": len(categories), "count": None}
    E = arrays["object.image"].size
    for name, below in limits.items():
        check_numbers(path, arrays, f"object.{name}", length=E, below=below)
    return Detections(
        files=files,
        categories=categories,
        iou_T=iou_T.astype(np.float64),
        object_image_E=arrays["object.image"].astype(np.int64),
        object_category_E=arrays["object.category"].astype(np.int64),
        object_count_E=arrays["object.count"].astype(np.int64),
        found={kind: _found(path, arrays, kind, limits, len(iou_T)) for kind in kinds},
    )


def _found(
    path: Path, arrays: Arrays, kind: str, limits: dict[str, int | None], thresholds: int
) -> Found:
    score_D = arrays[f"{kind}.score"]
    if score_D.ndim != 1 or score_D.dtype.kind != "f" or not np.isfinite(score_D).all():
        raise InputError(f"{path}: {kind}.score is not a list of numbers")
    D = len(score_D)
    for name in ("image", "category"):
        check_numbers(path, arrays, f"{kind}.{name}", length=D, below=limits[name])
    flags = {}
    for name in ("matched", "ignored"):
        bits = arrays[f"{kind}.{name}"]
        if bits.dtype != np.uint8 or bits.shape != (thresholds, -(-D // 8)):
            raise InputError(f"{path}: {kind}.{name} is not {thresholds} x {D} bits")
        flags[f"{name}_TD"] = np.unpackbits(bits, axis=1, count=D).astype(bool)
    return Found(
        image_D=arrays[f"{kind}.image"].astype(np.int64),
        category_D=arrays[f"{kind}.category"].astype(np.int64),
        score_D=score_D.astype(np.float64),
        **flags,
    )


def _are_fractions(values: NDArray) -> bool:
    return values.dtype.kind == "f" and bool(((values > 0) & (values <= 1)).all())
