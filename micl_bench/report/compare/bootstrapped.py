"""The mIoU or AP of a record, resampled over images from the statistics that lie beside it."""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.evidence.confusions import METRICS, read_confusions
from micl_bench.records.evidence.detections import read_detections
from micl_bench.records.evidence.per_image import PerImage, check_agreement, draws, measured, paired
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import Result
from micl_bench.report.compare.artefact_files import artifact_path
from micl_bench.report.compare.per_image_checks import check_digest, read_evidence
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted, plural


@dataclasses.dataclass(frozen=True, kw_only=True)
class Redrawn:
    """An mIoU or AP, of the images as they are and of resamples of them."""

    files: frozenset[str]
    metrics: dict[str, float]
    """As the record's, but not rounded."""
    draws: dict[str, NDArray[np.float64]]


Kept = Predictions | Redrawn | None


def read_kept(record: Path, result: Result) -> Kept:
    """What is kept of each image: mIoU and AP are made of other things than accuracies are.

    Raises:
        InputError: as `read_redrawn` and `read_evidence`.
    """
    return read_redrawn(record, result) or read_evidence(record, result)


def read_redrawn(record: Path, result: Result) -> Redrawn | None:
    """The metrics of a segmentation's or detection's record, resampled, or None without statistics.

    Raises:
        InputError: the file is damaged, lies outside the record's folder, is not the one whose
            digest the record has, or does not give the record's metrics.
    """
    path = artifact_path(record, result, "statistics")
    if path is None:
        return None
    check_digest(path, record, result, "statistics")
    try:
        return _redrawn(path, result.id, tuple(sorted(result.values.items())))
    except InputError as error:
        raise InputError(f"{path} is not what record {record.name} rests on: {error}") from error


def paired_redrawn(ours: Redrawn, theirs: Redrawn, metric: str) -> tuple[float, float, float]:
    """Ours less theirs, both of the same resampled images: an interval's ends and the p-value.

    Raises:
        InputError: they are not of the same images, or have not the metric.
    """
    if ours.files != theirs.files:
        apart = sorted(ours.files ^ theirs.files)
        raise InputError(
            f"{counted(len(apart), 'file')} {plural(len(apart), 'is', 'are')} "
            f"not in both, such as {apart[0]}"
        )
    if metric not in ours.draws or metric not in theirs.draws:
        raise InputError("it is not made of what is kept of each image")
    low, high, p = paired(ours.draws, theirs.draws)[metric]
    if math.isnan(p):
        raise InputError("nothing is measured in these images")
    return low, high, p


# A report asks for each metric of each pair, and resampling a whole COCO takes most of a minute.
@functools.lru_cache(maxsize=16)
def _redrawn(path: Path, record_id: str, stated: tuple[tuple[str, float], ...]) -> Redrawn:
    segments = any(metric in METRICS for metric, _ in stated)
    statistics: PerImage = read_confusions(path) if segments else read_detections(path)
    metrics = measured(statistics)
    check_agreement(statistics, {name: value for name, value in stated if name in metrics})
    return Redrawn(
        files=frozenset(statistics.files),
        metrics=metrics,
        draws=draws(statistics),
    )
