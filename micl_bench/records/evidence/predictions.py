"""What was predicted for each image: the evidence behind an accuracy, and the input of paired tests.

One compressed `.npz` a result, read without pickle:

files               (M,) names relative to the data folder, each once
classes             (C,) names in the order of the numbers below
labels              (M,) true class; -1 where there is none, or more than one
predicted.<metric>  (M,) predicted class
correct.<metric>    (M,) 1 right, 0 wrong, -1 where the image does not count for this metric
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.evidence.per_image import write_arrays
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.npz import read_npz


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions for M images, by metric (`top1`, `top1_k20`, `top1_of_1000`, ...)."""

    files: tuple[str, ...]
    classes: tuple[str, ...]
    labels_M: NDArray[np.int64]
    predicted: dict[str, NDArray[np.int64]]
    correct: dict[str, NDArray[np.int8]]

    def accuracy(self, metric: str) -> float:
        """Percentage of right predictions among the images that count."""
        counted = self.correct[metric][self.correct[metric] >= 0]
        return 100.0 * float(counted.mean()) if len(counted) else float("nan")

    def counted(self, metric: str) -> int:
        """Images that count for a metric."""
        return int((self.correct[metric] >= 0).sum())


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write atomically."""
    write_arrays(path, arrays_of(predictions))


def arrays_of(predictions: Predictions) -> dict[str, NDArray[Any]]:
    """What is written of them."""
    arrays: dict[str, NDArray[Any]] = {
        "files": np.array(predictions.files),
        "classes": np.array(predictions.classes),
        "labels": predictions.labels_M,
    }
    arrays |= {f"predicted.{name}": value for name, value in predictions.predicted.items()}
    return arrays | {f"correct.{name}": value for name, value in predictions.correct.items()}


def read_predictions(path: Path) -> Predictions:
    """Read.

    Raises:
        InputError: no such file, a damaged one, or not one that `write_predictions` wrote.
    """
    arrays = read_npz(path)
    if missing := {"files", "classes", "labels"} - arrays.keys():
        raise InputError(
            f"{path} holds no per-image predictions: it lacks {', '.join(sorted(missing))}"
        )
    for name in ("files", "classes"):
        if arrays[name].ndim != 1 or (arrays[name].size and arrays[name].dtype.kind != "U"):
            raise InputError(f"{path}: {name} is not a list of names")
    numbers = {name for name in arrays if name == "labels" or "." in name}
    if odd := sorted(n for n in numbers if arrays[n].ndim != 1 or arrays[n].dtype.kind not in "iu"):
        raise InputError(f"{path}: {odd[0]} is not a list of whole numbers")
    return Predictions(
        files=tuple(arrays["files"].tolist()),
        classes=tuple(arrays["classes"].tolist()),
        labels_M=arrays["labels"],
        predicted=_of_kind(arrays, "predicted"),
        correct=_of_kind(arrays, "correct"),
    )


def _of_kind(content: dict[str, NDArray], kind: str) -> dict[str, NDArray]:
    start = f"{kind}."
    return {name.removeprefix(start): v for name, v in content.items() if name.startswith(start)}
