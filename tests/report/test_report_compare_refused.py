"""`micl-bench compare`: what must not be compared, and words on the reason."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from predicted_results import EVIDENCE, FILES, M, compared, overwrite, right, write
from synthetic_results import result

from micl_bench.records.result import DataSet, Record, read_result, write_result
from micl_bench.report.compare.artefact_files import evidence_of
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file


def test_other_training_images_are_never_compared(tmp_path: Path) -> None:
    train = DataSet(name="train", split="train", images=1800, digest="t" * 64)
    few = dataclasses.replace(train, images=180, digest="f" * 64)
    write(tmp_path / "a", {"top1": right(0.8, 0)}, train=train)
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x", train=few)
    with pytest.raises(InputError) as caught:
        compared(tmp_path / "a", tmp_path / "b")
    assert str(caught.value) == (
        "nothing to compare: knn on embedded, A and B: other training images: trained on 1,800 images "
        "of train, split train, digest tttttttttttt / trained on 180 images of train, split train, "
        "digest ffffffffffff"
    )


def test_two_networks_of_one_file_are_no_runs_of_one_method(tmp_path: Path) -> None:
    for day, branch in enumerate(("student", "teacher"), 1):
        made = result(checkpoint={"branch": branch}, start=f"2025-05-0{day}T10:00:00+00:00")
        write_result(made, tmp_path / "a")
    write_result(result(method="b"), tmp_path / "b")
    with pytest.raises(InputError, match=r"methods: MiCL, student, vit_\w+; MiCL, teacher, vit_"):
        compared(tmp_path / "a", tmp_path / "b")


def test_different_fingerprints_are_never_compared(tmp_path: Path) -> None:
    settings = {"k": 20, "pixels": {"size": 64}}
    write(tmp_path / "a", {"top1": right(0.8, 0)}, settings=settings)
    write(tmp_path / "b", {"top1": right(0.6, 1)}, settings={**settings, "k": 10}, method="x")
    with pytest.raises(InputError) as caught:
        compared(tmp_path / "a", tmp_path / "b")
    assert str(caught.value) == (
        "nothing to compare: knn on embedded, A and B: another protocol: k: 20 / 10"
    )


def test_different_images_are_never_compared_and_the_rest_is(tmp_path: Path) -> None:
    write(tmp_path / "a", {"top1": right(0.8, 0)})
    write(tmp_path / "b", {"top1": right(0.6, 1)}, method="x")
    one = result(task="linear", settings={"epochs": 1})
    write_result(one, tmp_path / "a")
    write_result(dataclasses.replace(one, task="logistic"), tmp_path / "b")
    write_result(result(task="finetune"), tmp_path / "a")
    other = result(task="finetune", method="x", data={"images": 901, "digest": "e" * 64})
    write_result(other, tmp_path / "b")
    found = compared(tmp_path / "a", tmp_path / "b")
    assert len(found.differences) == 1
    lines = "\n".join(found.not_compared)
    assert (
        "finetune on embedded, A and B: other images: 900 images of embedded, split test, digest "
        "dddddddddddd / 901 images of embedded, split test, digest eeeeeeeeeeee"
    ) in lines
    assert f"linear on embedded (fingerprint {one.fingerprint[:12]}): A has it, B does not" in lines
    assert "logistic on embedded" in lines


def test_other_files_under_the_same_digest_are_not_tested(tmp_path: Path) -> None:
    write(tmp_path / "a", {"top1": right(0.8, 0)})
    renamed = (*FILES[:-1], "class/new.png")
    write(tmp_path / "b", {"top1": right(0.6, 1)}, files=renamed, method="x")
    (found,) = compared(tmp_path / "a", tmp_path / "b").differences
    assert found.p is None
    assert found.verdict == "not tested: 2 files are not in both, such as class/0399.png"


def test_a_folder_of_several_methods_is_refused(tmp_path: Path) -> None:
    for method in ("one", "two"):
        write_result(result(method=method, checkpoint={"digest": method}), tmp_path / "a")
    write_result(result(), tmp_path / "b")
    with pytest.raises(InputError, match="several methods: one, vit_tiny_patch8; two, vit_tiny"):
        compared(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda one_M: 1 - one_M, "top1 is .*, but the results kept of each image give"),
        (lambda one_M: one_M * 2, "is not 1, 0 or -1"),
        (lambda one_M: one_M[1:], "is not 1, 0 or -1 for each of 400 files"),
    ],
)
def test_predictions_that_are_not_the_records_are_refused(
    pair: Path,
    spoil,  # type: ignore[no-untyped-def]
    words: str,
) -> None:
    overwrite(pair / "a", {"top1": spoil(right(0.8, 0))})
    with pytest.raises(InputError, match=words):
        compared(pair / "a", pair / "b")


def test_predictions_of_another_digest_are_refused(pair: Path) -> None:
    (record,) = (pair / "a").glob("*.json")
    made = read_result(record)
    record.unlink()
    digest = digest_file(pair / "a" / EVIDENCE)
    write_result(dataclasses.replace(made, digests={"evidence": digest}), pair / "a")
    assert len(compared(pair / "a", pair / "b").differences) == 1
    overwrite(pair / "a", {"top1": right(0.8, 0)[::-1].copy()})
    with pytest.raises(InputError, match="its SHA-256 differs"):
        compared(pair / "a", pair / "b")


@pytest.mark.parametrize("metric", ["top1", "top1_k20", "clean_top1"])
def test_what_is_right_must_be_what_was_predicted_as_labelled(tmp_path: Path, metric: str) -> None:
    labels_M = np.random.default_rng(0).integers(0, 5, M)
    correct_M = right(0.8, 0)
    made = write(tmp_path, {metric: correct_M})
    said_M = np.where(correct_M == 1, labels_M, (labels_M + 1) % 5)

    def read(correct: np.ndarray) -> None:
        overwrite(tmp_path, {metric: correct}, labels_M=labels_M, predicted={metric: said_M})
        evidence_of(Record.of(made, tmp_path / f"{made.id}.json"))

    read(correct_M)
    # As many right as before, on other images.
    with pytest.raises(InputError, match=f"correct.{metric} is not whether predicted.{metric}"):
        read(np.roll(correct_M, 1))


def test_predictions_outside_the_records_folder_or_damaged_are_refused(pair: Path) -> None:
    out = result(
        artifacts={"evidence": "../b/predictions-knn.npz"},
        evidence="predictions",
        data={"images": M},
    )
    write_result(out, pair / "c")
    with pytest.raises(InputError, match="out of the record's folder"):
        compared(pair / "c", pair / "b")
    (pair / "b" / EVIDENCE).write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match=r"predictions-knn\.npz"):
        compared(pair / "a", pair / "b")
