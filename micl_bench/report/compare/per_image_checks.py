"""The per-image predictions beside a record, checked before a test relies on them."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micl_bench.records.evidence.predictions import Predictions, read_predictions
from micl_bench.records.result import Result
from micl_bench.report.compare.artefact_files import artifact_path
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.wording import counted, plural

_SAME = 1e-6
_WITH_PICTURES = ("ade20k", "coco")
"""Tasks that keep pictures under the name of predictions, for the report to draw."""
_SEVERITIES = (1, 2, 3, 4, 5)


def read_evidence(record: Path, result: Result) -> Predictions | None:
    """Predictions of a record, or None where it has none for each image.

    Raises:
        InputError: the file is damaged, lies outside the record's folder, is not the one whose
            digest the record has, contradicts itself, or does not give the record's accuracies.
    """
    path = artifact_path(record, result, "predictions")
    if path is None or result.task in _WITH_PICTURES:
        return None
    check_digest(path, record, result, "predictions")
    predictions = read_predictions(path)
    M = len(predictions.files)
    if len(set(predictions.files)) != M:
        raise InputError(f"{path} names a file twice")
    for metric, correct_M in predictions.correct.items():
        if correct_M.shape != (M,) or not np.isin(correct_M, (-1, 0, 1)).all():
            raise InputError(f"{path}: correct.{metric} is not 1, 0 or -1 for each of {M} files")
        _check_right(path, predictions, metric)
        found = predictions.accuracy(metric)
        stated = result.values.get(metric, found)
        both_empty = math.isnan(stated) and math.isnan(found)
        if not (abs(stated - found) <= _SAME or both_empty):
            raise InputError(
                f"{path} gives {metric} {found:.4f}, its record {record.name} says {stated:.4f}: "
                "they are not the predictions of this record"
            )
    return predictions


def check_digest(path: Path, record: Path, result: Result, name: str) -> None:
    """Check that an artefact is the one that the record was written with.

    Raises:
        InputError: it is another.
    """
    digest = result.digests.get(name)
    try:
        same = not digest or digest_file(path) == digest
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if not same:
        raise InputError(
            f"{path} is not the file that record {record.name} was written with: its SHA-256 differs"
        )


def _check_right(path: Path, predictions: Predictions, metric: str) -> None:
    """Check that right is what was predicted as labelled, where one prediction tells.

    Raises:
        InputError: it is not.
    """
    if metric not in predictions.predicted or not metric.startswith(("top1", "clean_top1")):
        return
    said_M, right_M = predictions.predicted[metric], predictions.correct[metric]
    labels_M = predictions.labels_M
    if not said_M.shape == labels_M.shape == right_M.shape:
        raise InputError(
            f"{path}: labels, predicted.{metric} and correct.{metric} differ in length"
        )
    told_M = (labels_M >= 0) & (right_M >= 0)
    if metric.startswith("clean_") and (labels_M < 0).any():
        # Where a set's class is several outputs, all of them are right for a clean image of it.
        told_M &= said_M == labels_M
    if wrong := int(((said_M == labels_M) != (right_M == 1))[told_M].sum()):
        raise InputError(
            f"{path}: correct.{metric} is not whether predicted.{metric} is the label, for {wrong} "
            f"of {len(labels_M)} files"
        )


def same_order(ours: Predictions, theirs: Predictions) -> NDArray[np.int64]:
    """Rows of `theirs` in the order of the images of `ours`.

    Raises:
        InputError: they are not the same images.
    """
    if ours.files == theirs.files:
        return np.arange(len(ours.files))
    place = {name: index for index, name in enumerate(theirs.files)}
    if place.keys() != set(ours.files):
        apart = sorted(place.keys() ^ set(ours.files))
        raise InputError(
            f"{counted(len(apart), 'file')} {plural(len(apart), 'is', 'are')} "
            f"not in both, such as {apart[0]}"
        )
    return np.array([place[name] for name in ours.files])


def on_same_images(
    ours: Predictions, theirs: Predictions, metric: str
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Whether each image is right, image by image, for those that count.

    Raises:
        InputError: other files, or other ones that count.
    """
    one_M, other_M = ours.correct[metric], theirs.correct[metric][same_order(ours, theirs)]
    counted_M = one_M >= 0
    if not np.array_equal(counted_M, other_M >= 0):
        raise InputError(f"{metric} counts other images in one than in the other")
    return one_M[counted_M], other_M[counted_M]


def corrupted_scores(
    result: Result, predictions: Predictions, metric: str
) -> NDArray[np.float64] | None:
    """What each image adds to a metric that is a mean over its corruptions: `top1` or `mCE`.

    None where the record or its predictions hold no corruptions. The mean of the array is the metric.

    Raises:
        InputError: the predictions do not give the record's metric.
    """
    names = result.details.get("corruption_error")
    if not isinstance(names, dict) or not names or metric not in ("top1", "mCE"):
        return None
    if any(not isinstance(error, int | float) for error in names.values()):
        return None
    columns = [[predictions.correct.get(f"top1_{c}_{s}") for s in _SEVERITIES] for c in names]
    if any(column is None for row in columns for column in row):
        return None
    right_KSN = np.array(columns, dtype=np.float64)
    if metric == "top1":
        scores_N = 100 * right_KSN.mean(axis=(0, 1))
    else:
        error_KN = 100 * (1 - right_KSN.mean(axis=1))
        # The reference's errors, from what the record made of them; without an error there is none.
        mean_K = error_KN.mean(axis=1)
        scale_K = np.array(list(names.values())) / np.where(mean_K > 0, mean_K, 1)
        scores_N = (error_KN * scale_K[:, None]).mean(axis=0)
    if not abs(scores_N.mean() - result.values[metric]) <= _SAME:
        raise InputError(f"the predictions beside record {result.id} do not give its {metric}")
    return np.asarray(scores_N)
