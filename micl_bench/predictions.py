"""What was predicted for each image: the evidence behind an accuracy, and the input of paired tests.

One compressed `.npz` a result, read without pickle:

files               (M,) names relative to the data folder, each once
classes             (C,) names in the order of the numbers below
labels              (M,) true class; -1 where there is none, or more than one
predicted.<metric>  (M,) predicted class
correct.<metric>    (M,) 1 right, 0 wrong, -1 where the image does not count for this metric
"""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micl_bench.errors import InputError
from micl_bench.files import atomic_path


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
    arrays = {
        "files": np.array(predictions.files),
        "classes": np.array(predictions.classes),
        "labels": predictions.labels_M,
    }
    arrays |= {f"predicted.{name}": value for name, value in predictions.predicted.items()}
    arrays |= {f"correct.{name}": value for name, value in predictions.correct.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_predictions(path: Path) -> Predictions:
    """Read.

    Raises:
        InputError: no such file, or not one that `write_predictions` wrote.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        return Predictions(
            files=tuple(content["files"].tolist()),
            classes=tuple(content["classes"].tolist()),
            labels_M=content["labels"],
            predicted=_of_kind(content, "predicted"),
            correct=_of_kind(content, "correct"),
        )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no per-image predictions ({error})") from error


def _of_kind(content: dict[str, NDArray], kind: str) -> dict[str, NDArray]:
    start = f"{kind}."
    return {name.removeprefix(start): v for name, v in content.items() if name.startswith(start)}
