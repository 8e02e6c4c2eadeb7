"""The right answers on a shifted set and on the clean images of its classes, image by image."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import DataSet
from micl_bench.records.statistics import bootstrap, wilson
from micl_bench.robustness import image_number, imagenet_classes, real_labels
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.wording import counted
from micl_bench.tasks.robustness.shifted import Predict, Reading, Shift, open_classes

NOT_COUNTED = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanRun:
    """A classifier's answers to clean images, against which several sets may be held."""

    folder: Folder
    """Labels are places in `folder.classes`."""
    output_N: NDArray[np.int64]
    """The output of each image's class."""
    predicted: dict[Reading, NDArray[np.int64]]

    def part(self, index_n: NDArray[np.integer]) -> "CleanRun":
        """These images alone."""
        if not len(index_n):
            raise InputError(f"{self.folder.root} has no image of the shifted set's classes")
        return CleanRun(
            folder=self.folder.part(index_n),
            output_N=self.output_N[index_n],
            predicted={reading: value[index_n] for reading, value in self.predicted.items()},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """The measurement of a set; numbers are percentages."""

    data: DataSet
    clean: DataSet
    """The clean images that count."""
    predictions: Predictions
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


def measure(
    shift: Shift, clean: CleanRun, predict: Predict, pixels: Pixels, root: Path
) -> Measured:
    """Read a set's images, and hold them against the clean images of the classes that occur.

    The predictions hold both, each metric counted on its own images: `top1`, `clean_top1`, and the
    other reading of both where the set has one.
    """
    one = shift.one
    folder = open_classes(root / one.folder, shift.folders, border=one.border)
    label = f"robustness, {one.title}"
    predicted = predict(folder, pixels, list(shift.readings.values()), label)
    occurs_N = np.isin(shift.group_C[clean.output_N], np.unique(folder.labels_N))
    clean = clean.part(np.flatnonzero(occurs_N))
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
    """Hold the answers to clean images against ReaL labels: right if it is any label of the image.

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


def corruption_errors(
    right_NKS: NDArray[np.bool_], reference: Sequence[float]
) -> NDArray[np.float64]:
    """CE_nk in percent, whose mean over images and corruptions is mCE.

    CE_k is 100 times the error summed over severities, by the reference's sum (Hendrycks and
    Dietterich, arXiv 1903.12261, section 4.1). Errors are means over images, so it is a mean of
    these too.

    Args:
        right_NKS: by image, corruption and severity.
        reference: the reference's mean error over severities, in percent, by corruption.
    """
    error_NK = 100 * (1 - right_NKS.mean(axis=2))
    return 100 * error_NK / np.asarray(reference)


def measure_corrupted(
    shift: Shift, clean: CleanRun, predict: Predict, pixels: Pixels, root: Path, *, seed: int
) -> Measured:
    """Read every corruption and severity, and hold them against the clean images they were made of.

    `top1` is the mean over corruptions and severities.
    """
    one, reading = shift.one, shift.readings["top1"]
    said: dict[str, NDArray[np.int64]] = {}
    digests: dict[str, str] = {}
    first = open_classes(root / one.parts[0], shift.folders)
    for part in one.parts:
        place, folder = f"{part.parent.name}/{part.name}", open_classes(root / part, shift.folders)
        _require_same(folder.names, first)
        label = f"robustness, {one.title} {place}"
        said[f"top1_{part.parent.name}_{part.name}"] = predict(folder, pixels, [reading], label)[
            reading
        ]
        digests[place] = folder.digest
    truth_N = shift.output_K[first.labels_N]
    right = {metric: said_N == truth_N for metric, said_N in said.items()}
    clean = _of_same_images(clean, first)
    clean_N = clean.predicted[reading] == clean.output_N
    right_NKS = np.stack(list(right.values()), axis=1).reshape(len(first), -1, one.severities)
    # An image with all that was made of it is one draw of the bootstrap.
    top1_N = 100 * right_NKS.mean(axis=(1, 2))
    drop_N = 100 * clean_N - top1_N
    clean_top1 = float((100 * clean_N).mean())
    return Measured(
        data=dataclasses.replace(
            first.describe(),
            name=one.title,
            split="all",
            images=len(first) * len(said),
            digest=digest_json(digests),
        ),
        clean=clean.folder.describe(),
        predictions=Predictions(
            files=first.names,
            classes=shift.outputs,
            labels_M=truth_N,
            predicted=said,
            correct={metric: right_N.astype(np.int8) for metric, right_N in right.items()},
            scores={
                "mCE": corruption_errors(right_NKS, list(one.corruptions.values())).mean(axis=1),
                "top1": top1_N,
            },
        ),
        metrics={"clean_top1": clean_top1, "drop": float(drop_N.mean())},
        intervals={
            "clean_top1": wilson(clean_top1, len(clean_N)),
            "drop": bootstrap(lambda values: float(values.mean()), [drop_N], seed=seed),
        },
        details=_details(right_NKS, one.corruptions),
    )


def _details(right_NKS: NDArray[np.bool_], corruptions: Mapping[str, float]) -> dict[str, Any]:
    top1_KS = 100 * right_NKS.mean(axis=0)
    error_K = corruption_errors(right_NKS, list(corruptions.values())).mean(axis=0)
    return {
        "top1_by_corruption": dict(zip(corruptions, top1_KS.mean(axis=1).tolist(), strict=True)),
        "top1_by_severity": dict(zip(corruptions, top1_KS.tolist(), strict=True)),
        "corruption_error": dict(zip(corruptions, error_K.tolist(), strict=True)),
    }


def _require_same(names: tuple[str, ...], first: Folder) -> None:
    others = sorted(set(names) ^ set(first.names))
    if others:
        raise InputError(
            f"the folders of corruptions and severities do not hold the same images: {others[0]} is not "
            f"in each, {first.root} among them; unpack the release anew"
        )


def _of_same_images(clean: CleanRun, first: Folder) -> CleanRun:
    """The clean images that the corrupted ones were made of, in the same order."""
    row = {name: number for number, name in enumerate(clean.folder.names)}
    absent = [name for name in first.names if name not in row]
    if absent:
        raise InputError(
            f"{clean.folder.root} lacks {counted(len(absent), 'image')} that {first.root} was made of: "
            f"{', '.join(absent[:3])}"
        )
    return clean.part(np.array([row[name] for name in first.names]))
