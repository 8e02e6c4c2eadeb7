"""What is right on a shifted set and on the clean images of its classes, image by image."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import DataSet
from micl_bench.robustness import image_number, imagenet_classes, real_labels
from micl_bench.runtime.errors import InputError
from micl_bench.tasks.robustness.shifted import Classifier, Reading, Shift, open_classes

NOT_COUNTED = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanRun:
    """What a classifier said of clean images, which several sets may be held against."""

    folder: Folder
    """Labels are places in `folder.classes`."""
    output_N: NDArray[np.int64]
    """The output of each image's class."""
    predicted: dict[Reading, NDArray[np.int64]]

    def rows(self, rows: list[int]) -> "CleanRun":
        """Some of the images.

        Raises:
            InputError: none of them.
        """
        folder = self.folder
        if not rows:
            raise InputError(f"{folder.root} has no image of the shifted set's classes")
        kept = dataclasses.replace(
            folder,
            paths=tuple(folder.paths[row] for row in rows),
            labels=tuple(folder.labels[row] for row in rows),
        )
        return CleanRun(
            folder=kept,
            output_N=self.output_N[rows],
            predicted={reading: value[rows] for reading, value in self.predicted.items()},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What becomes a record. Percentages."""

    data: DataSet
    clean: DataSet
    """The clean images that count."""
    predictions: Predictions
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


def measure(
    shift: Shift, clean: CleanRun, classifier: Classifier, pixels: Pixels, root: Path
) -> Measured:
    """Read a set's images, and hold them against the clean images of the classes that occur.

    The predictions hold both, each metric counted on its own images: `top1`, `clean_top1`, and the
    other reading of both where the set has one.

    Raises:
        InputError: an unreadable image, or no clean image of the set's classes.
    """
    one = shift.one
    folder = open_classes(root / one.folder, shift.folders, border=one.border)
    label = f"robustness, {one.title}"
    predicted = classifier.predict(folder, pixels, list(shift.readings.values()), label=label)
    occurs_N = np.isin(shift.group_C[clean.output_N], np.unique(folder.labels_N))
    clean = clean.rows(np.flatnonzero(occurs_N).tolist())
    shifted_M = np.arange(len(folder) + len(clean.folder)) < len(folder)
    clean_M, said, right = ~shifted_M, {}, {}
    labels_M = np.concatenate([folder.labels_N, shift.group_C[clean.output_N]])
    for metric, reading in shift.readings.items():
        said_M = np.concatenate([predicted[reading], clean.predicted[reading]])
        right_M = shift.group_C[said_M] == labels_M
        for name, counted_M in ((metric, shifted_M), (f"clean_{metric}", clean_M)):
            said[name] = np.where(counted_M, said_M, NOT_COUNTED)
            right[name] = np.where(counted_M, right_M, NOT_COUNTED).astype(np.int8)
    # Where several outputs stand for a set's class, none alone is right.
    clean_labels = shift.output_K[shift.group_C[clean.output_N]]
    predictions = Predictions(
        files=(*_below(root, folder), *_below(root, clean.folder)),
        classes=shift.outputs,
        labels_M=np.concatenate([shift.output_K[folder.labels_N], clean_labels]),
        predicted=said,
        correct=right,
        differences={"drop": ("clean_top1", "top1")},
    )
    return Measured(
        data=dataclasses.replace(folder.describe(), name=one.title),
        clean=clean.folder.describe(),
        predictions=predictions,
    )


def measure_real(shift: Shift, clean: CleanRun, root: Path) -> Measured:
    """Hold what was said of clean images against ReaL labels: right if it is any of an image's.

    Images without a label do not count (Beyer et al., arXiv 2006.07159, section 3).
    """
    said_N = clean.predicted[shift.readings["top1"]]
    place = {name: number for number, name in enumerate(imagenet_classes())}
    place_C = np.array([place.get(name, NOT_COUNTED) for name in shift.outputs])
    labels = [real_labels()[image_number(path.name) - 1] for path in clean.folder.paths]
    real_N = [
        (number in right) if right else NOT_COUNTED
        for number, right in zip(place_C[said_N].tolist(), labels, strict=True)
    ]
    return Measured(
        data=dataclasses.replace(clean.folder.describe(), name=shift.one.title),
        clean=clean.folder.describe(),
        predictions=Predictions(
            files=_below(root, clean.folder),
            classes=shift.outputs,
            labels_M=clean.output_N,
            predicted={"top1": said_N},
            correct={
                "real_top1": np.array(real_N, dtype=np.int8),
                "top1": (said_N == clean.output_N).astype(np.int8),
            },
        ),
    )


def _below(root: Path, folder: Folder) -> tuple[str, ...]:
    start = folder.root.relative_to(root).as_posix()
    return tuple(f"{start}/{name}" for name in folder.names)
