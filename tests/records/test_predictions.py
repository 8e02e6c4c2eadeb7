"""Per-image predictions: what was written is read, nothing pickled is, and accuracies count once."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from micl_bench.records.evidence.predictions import Predictions, read_predictions
from micl_bench.records.evidence.read import read_evidence
from micl_bench.records.statistics import wilson
from micl_bench.runtime.errors import InputError

PREDICTIONS = Predictions(
    files=("ä/1.png", "b/2.png", "b/3.png", "b/4.png"),
    classes=("ä", "b"),
    labels_M=np.array([0, 1, 1, -1]),
    predicted={"top1": np.array([0, 1, 0, 1])},
    correct={
        "top1": np.array([1, 1, 0, -1], dtype=np.int8),
        "real_top1": np.array([1, -1, -1, -1], dtype=np.int8),
    },
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    PREDICTIONS.write(path)
    read = read_predictions(path)
    assert (read.files, read.classes) == (PREDICTIONS.files, PREDICTIONS.classes)
    np.testing.assert_array_equal(read.labels_M, PREDICTIONS.labels_M)
    np.testing.assert_array_equal(read.predicted["top1"], PREDICTIONS.predicted["top1"])
    assert read.correct.keys() == PREDICTIONS.correct.keys()
    np.testing.assert_array_equal(read.correct["real_top1"], PREDICTIONS.correct["real_top1"])
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_the_same_predictions_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        PREDICTIONS.write(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_images_that_do_not_count_are_left_out() -> None:
    assert PREDICTIONS.accuracy("top1") == pytest.approx(200 / 3)
    assert PREDICTIONS.counted("top1") == 3
    assert PREDICTIONS.accuracy("real_top1") == 100


def test_pickled_arrays_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, files=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="pickled objects"):
        read_predictions(path)
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match=r"no readable \.npz of arrays"):
        read_predictions(path)
    with pytest.raises(InputError, match="is no file"):
        read_predictions(tmp_path / "missing.npz")


def test_differences_and_means_are_made_again_from_what_was_written(tmp_path: Path) -> None:
    whole = dataclasses.replace(
        PREDICTIONS,
        differences={"drop": ("real_top1", "top1")},
        scores={"error": np.array([1.0, 2.0, 3.0, 6.0])},
    )
    whole.write(tmp_path / "p.npz")
    read = read_evidence(tmp_path / "p.npz", "predictions")
    assert read.metrics() == whole.metrics()
    assert read.metrics()["drop"] == pytest.approx(100 - 200 / 3)
    assert read.metrics()["error"] == 3.0
    assert read.intervals(seed=1) == whole.intervals(seed=1)
    assert read.intervals()["top1"] == wilson(200 / 3, 3)
    assert read.changed(whole) == 0
    with pytest.raises(InputError, match=r"error is 4.0000, but the results kept .* give 3.0000"):
        read.check({"error": 4.0})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": {"error": np.array([1.0, np.nan, 3.0, 6.0])}}, "score.error is not a number"),
        ({"differences": {"drop": ("top1", "top9")}}, "difference.drop names no two metrics"),
        ({"files": ("a", "a", "b", "c")}, "files is not a list of different names"),
        ({"labels_M": np.array([1, 1, 1, -1])}, "correct.top1 is not whether predicted.top1"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    dataclasses.replace(PREDICTIONS, **changes).write(tmp_path / "p.npz")
    with pytest.raises(InputError, match=words):
        read_predictions(tmp_path / "p.npz")


def test_evidence_of_an_unknown_kind_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'horoscope', which .* known: predictions, confusions, det"
    ):
        read_evidence(tmp_path / "p.npz", "horoscope")
