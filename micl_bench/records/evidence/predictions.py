"""Predictions for each image: the evidence behind accuracies, and the input of paired tests.

One compressed `.npz` per result, read without pickle:

files                (M,) names relative to the data folder, each once
classes              (C,) names in the order of the numbers below
labels               (M,) true class; -1 where there is none, or more than one
predicted.<metric>   (M,) predicted class, of metrics for which the label alone is right
correct.<metric>     (M,) 1 right, 0 wrong, -1 where the image does not count for this metric
difference.<metric>  (2,) the metrics of `correct` whose difference it is, each over its own images
score.<metric>       (M,) each image's part of a metric that is a mean over images
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.evidence.evidence import (
    Evidence,
    Paired,
    names_of,
    order_of_images,
    require,
)
from micl_bench.records.statistics import (
    bootstrap,
    mcnemar,
    paired_bootstrap,
    paired_difference_interval,
    wilson,
)
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.npz import Arrays, read_npz


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions(Evidence):
    """Predictions for M images, by metric (`top1`, `top1_k20`, `top1_of_1000`, ...)."""

    kind: ClassVar[str] = "predictions"
    undefined: ClassVar[str] = "no image counts for it"

    files: tuple[str, ...]
    classes: tuple[str, ...]
    labels_M: NDArray[np.int64]
    predicted: dict[str, NDArray[np.int64]]
    correct: dict[str, NDArray[np.int8]]
    differences: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Each metric that is a difference, in points, with the two of `correct` that it is made of."""
    scores: dict[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict)
    """Each metric that is a mean over images, with the number of each image."""

    @property
    def tolerance(self) -> float:
        """Return the error of sums of floats."""
        return 1e-6

    def accuracy(self, metric: str) -> float:
        """Return the percentage of right predictions among the images that count."""
        right = self._right(metric)
        return 100.0 * float(right.mean()) if len(right) else math.nan

    def counted(self, metric: str) -> int:
        """Return the number of images that count for a metric."""
        return len(self._right(metric))

    def metrics(self) -> dict[str, float]:
        """Return accuracies in percent, differences in points, and means in their own unit."""
        found = {name: self.accuracy(name) for name in self.correct}
        found |= {
            name: found[one] - found[other] for name, (one, other) in self.differences.items()
        }
        return found | {name: float(score_M.mean()) for name, score_M in self.scores.items()}

    def intervals(self, *, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Return Wilson's intervals of accuracies, and the bootstrap's over images of all others."""
        found = {name: wilson(self.accuracy(name), self.counted(name)) for name in self.correct}
        for name, pair in self.differences.items():
            found[name] = bootstrap(_points, [self._right(part) for part in pair], seed=seed)
        for name, score_M in self.scores.items():
            found[name] = bootstrap(_mean, [score_M], seed=seed)
        return found

    def column(self, metric: str) -> NDArray | None:
        """Return whether each image is right, or its part of the mean."""
        found = self.correct.get(metric)
        return self.scores.get(metric) if found is None else found

    def paired(self, other: Evidence, metric: str) -> Paired:
        """Test accuracies by McNemar's test, all others by the paired bootstrap."""
        theirs = cast(Predictions, other)
        order = order_of_images(self, theirs)
        if metric in self.correct and metric in theirs.correct:
            return self._mcnemar(theirs, metric)
        if self.differences.get(metric) is not None and metric in theirs.differences:
            # Both parts are independent samples, of which both models saw the same images.
            pairs = [_on_same_images(self, theirs, part) for part in self.differences[metric]]
            samples: list[list[NDArray[Any]]] = [[pair[side] for pair in pairs] for side in (0, 1)]
        elif metric in self.scores and metric in theirs.scores:
            samples = [[self.scores[metric] / 100], [theirs.scores[metric][order] / 100]]
        else:
            raise InputError("it is not made of the results kept of each image")
        low, high, p = paired_bootstrap(_first_less_second, *samples, seed=0)
        return Paired(interval=(low, high), p=p, test="bootstrap")

    def changed(self, other: Evidence) -> int:
        """Count the images with another prediction, or that are right in one alone."""
        theirs = cast(Predictions, other)
        order, M = order_of_images(self, theirs), len(self.files)
        differs_M = np.zeros(M, dtype=bool)
        for then, now in ((self.predicted, theirs.predicted), (self.correct, theirs.correct)):
            for name in then:
                differs_M |= then[name] != now[name][order] if name in now else True
        return int(differs_M.sum())

    def arrays(self) -> Arrays:
        """Return the arrays that the head of this file lists."""
        arrays: Arrays = {
            "files": np.array(self.files),
            "classes": np.array(self.classes),
            "labels": self.labels_M,
        }
        parts: dict[str, Arrays] = {
            "predicted": {**self.predicted},
            "correct": {**self.correct},
            "score": {**self.scores},
        }
        for part, columns in parts.items():
            arrays |= {f"{part}.{name}": value for name, value in columns.items()}
        pairs = self.differences.items()
        return arrays | {f"difference.{name}": np.array(pair) for name, pair in pairs}

    def _right(self, metric: str) -> NDArray[np.int8]:
        """Return whether each image that counts is right."""
        correct_M = self.correct[metric]
        return correct_M[correct_M >= 0]

    def _mcnemar(self, theirs: "Predictions", metric: str) -> Paired:
        right_M, other_M = _on_same_images(self, theirs, metric)
        if not len(right_M):
            raise InputError("no image counts")
        ours_alone, theirs_alone = int((right_M > other_M).sum()), int((right_M < other_M).sum())
        return Paired(
            interval=paired_difference_interval(ours_alone, theirs_alone, len(right_M)),
            p=mcnemar(ours_alone, theirs_alone),
            test="McNemar",
            only_first=ours_alone,
            only_second=theirs_alone,
        )


def _on_same_images(
    ours: Predictions, theirs: Predictions, metric: str
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return whether each image that counts is right, in both, in one order.

    Raises:
        InputError: the files differ, or those that count.
    """
    one_M, other_M = ours.correct[metric], theirs.correct[metric][order_of_images(ours, theirs)]
    counted_M = one_M >= 0
    if not np.array_equal(counted_M, other_M >= 0):
        raise InputError(f"{metric} counts other images in one than in the other")
    return one_M[counted_M], other_M[counted_M]


def read_predictions(path: Path) -> Predictions:
    """Read what `Predictions.write` wrote.

    Raises:
        InputError: there is no such file, it is damaged, or it contradicts itself.
    """
    arrays = read_npz(path)
    require(path, arrays, {"files", "classes", "labels"}, "per-image predictions")
    parts = {name: name.partition(".")[0] for name in arrays}
    numbers = {name for name, part in parts.items() if part in ("labels", "predicted", "correct")}
    if odd := sorted(n for n in numbers if arrays[n].ndim != 1 or arrays[n].dtype.kind not in "iu"):
        raise InputError(f"{path}: {odd[0]} is not a list of whole numbers")
    found = Predictions(
        files=names_of(path, arrays, "files"),
        classes=names_of(path, arrays, "classes", once=False),
        labels_M=arrays["labels"],
        predicted=_of_kind(arrays, "predicted"),
        correct=_of_kind(arrays, "correct"),
        differences={
            name: tuple(map(str, pair.ravel().tolist()))  # type: ignore[misc]
            for name, pair in _of_kind(arrays, "difference").items()
        },
        scores=_of_kind(arrays, "score"),
    )
    _check(path, found)
    return found


def _check(path: Path, found: Predictions) -> None:
    """Raise an InputError where predictions contradict themselves."""
    M = len(found.files)
    for metric, correct_M in found.correct.items():
        if correct_M.shape != (M,) or not np.isin(correct_M, (-1, 0, 1)).all():
            raise InputError(f"{path}: correct.{metric} is not 1, 0 or -1 for each of {M} files")
        if metric in found.predicted:
            _check_right(path, found, metric)
    for metric, pair in found.differences.items():
        if len(pair) != 2 or not set(pair) <= found.correct.keys():
            raise InputError(f"{path}: difference.{metric} names no two metrics of it")
    for metric, score_M in found.scores.items():
        is_real = score_M.shape == (M,) and score_M.dtype.kind == "f"
        if not is_real or not np.isfinite(score_M).all():
            raise InputError(f"{path}: score.{metric} is not a number for each of {M} files")


def _check_right(path: Path, found: Predictions, metric: str) -> None:
    """Raise an InputError unless just those images are right whose label was predicted."""
    said_M, right_M = found.predicted[metric], found.correct[metric]
    labels_M = found.labels_M
    if not said_M.shape == labels_M.shape == right_M.shape:
        raise InputError(
            f"{path}: labels, predicted.{metric} and correct.{metric} differ in length"
        )
    known_M = (labels_M >= 0) & (right_M >= 0)
    if wrong := int(((said_M == labels_M) != (right_M == 1))[known_M].sum()):
        raise InputError(
            f"{path}: correct.{metric} is not whether predicted.{metric} is the label, for {wrong} "
            f"of {len(labels_M)} files"
        )


def _of_kind(content: Arrays, kind: str) -> Arrays:
    start = f"{kind}."
    return {name.removeprefix(start): v for name, v in content.items() if name.startswith(start)}


def _points(one: NDArray[np.int8], other: NDArray[np.int8]) -> float:
    return 100 * float(one.mean() - other.mean())


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _first_less_second(first: NDArray[Any], *second: NDArray[Any]) -> float:
    return 100 * float(first.mean() - sum(sample.mean() for sample in second))
