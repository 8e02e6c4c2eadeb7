"""A record and its repetition: the verdict, and what is named as not being as it was."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_results import result

from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import Record
from micl_bench.report.audit.reproduction import Reproduction, compare_runs
from micl_bench.runtime.files import digest_file


def kept(folder: Path, right: int, **changes: Any) -> Record:
    """A record of 100 images with its predictions, of which the first `right` are right."""
    folder.mkdir(exist_ok=True)
    labels, correct = np.zeros(100, dtype=np.int64), np.arange(100) < right
    predictions = Predictions(
        files=tuple(f"zero/{number}.png" for number in range(100)),
        classes=("zero", "one"),
        labels_M=labels,
        predicted={"top1": np.where(correct, 0, 1)},
        correct={"top1": correct.astype(np.int8)},
    )
    predictions.write(folder / "p.npz")
    values: dict[str, Any] = {
        "metrics": {"top1": float(right)},
        "artifacts": {"evidence": "p.npz"},
        "evidence": "predictions",
        "digests": {"evidence": digest_file(folder / "p.npz")},
        "data": {"images": 100},
    }
    return Record.of(result(**values | changes), folder / "record.json")


def compared(folder: Path, then: int, now: int, **changes: Any) -> Reproduction:
    return compare_runs(kept(folder / "then", then), kept(folder / "now", now, **changes))


@pytest.mark.parametrize(
    ("now", "word", "images"),
    [
        (80, "identical", "predictions are the same, byte for byte"),
        (83, "consistent", "the predictions of 3 of 100 are not the same"),
        (95, "different", "the predictions of 15 of 100 are not the same"),
    ],
)
def test_the_word_and_the_images(tmp_path: Path, now: int, word: str, images: str) -> None:
    found = compared(tmp_path, 80, now)
    assert (found.word, found.images) == (word, images)
    assert found.is_reproduced == (word != "different")

    assert [line.partition(":")[0] for line in found.metrics] == ["top-1 [%]"]


def test_equal_numbers_of_other_images_are_not_identical(tmp_path: Path) -> None:
    then, now = kept(tmp_path / "then", 80), kept(tmp_path / "now", 80)
    arrays = dict(np.load(tmp_path / "now" / "p.npz"))
    for name in ("correct.top1", "predicted.top1"):
        arrays[name] = arrays[name][::-1]
    np.savez(tmp_path / "now" / "p.npz", **arrays)
    digests = {"evidence": digest_file(tmp_path / "now" / "p.npz")}
    found = compare_runs(then, dataclasses.replace(now, digests=digests))
    assert (found.word, found.images) == (
        "consistent",
        "the predictions of 40 of 100 are not the same",
    )
    (tmp_path / "then" / "p.npz").unlink()
    found = compare_runs(then, dataclasses.replace(now, digests=digests))
    assert found.word == "consistent"
    assert found.images == "cannot be compared: what was kept of them then is gone"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"settings": {"precision": "bf16"}}, "setting precision: then float32, now bf16"),
        ({"seed": 1}, "seed: then 0, now 1"),
        ({"arch": "vit_base"}, "architecture: then vit_tiny_patch8, now vit_base"),
        ({"data": {"images": 99}}, "images: then 100 images of embedded, split test"),
        ({"checkpoint": {"digest": "b" * 64}}, f"checkpoint's digest: then {'c0ffee' * 10}, now b"),
        ({"checkpoint": {"branch": "teacher"}}, "checkpoint's branch: then none, now teacher"),
    ],
)
def test_what_moves_the_number_is_named(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    found = compared(tmp_path, 80, 80, **changes)
    assert found.word == "not comparable"
    assert not found.is_reproduced
    assert len(found.moved) == 1
    assert found.moved[0].startswith(line)


def test_what_should_move_bits_at_most_is_named_and_compared(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        80,
        80,
        code_version="0.2.0",
        environment={"torch": "9.0"},
        recipe={"k": 20, "batch_size": 8},
        recipe_digest="0" * 64,
        details={"processes": 2},
        checkpoint={"source": "elsewhere.pt"},
    )
    assert (found.word, found.moved) == ("identical", [])
    noted = "\n".join(found.noted)
    for words in (
        "code: then 0.1.0+g1234abc, now 0.2.0",
        "recipe's batch_size: then none, now 8",
        "torch: then 2.8.0, now 9.0",
        "cores: then 2, now none",
        "processes: then none, now 2",
    ):
        assert words in noted


def test_uncommitted_changes_are_not_the_same_code(tmp_path: Path) -> None:
    version = {"code_version": "0.1.0 (abc+changes)"}
    found = compare_runs(kept(tmp_path / "a", 80, **version), kept(tmp_path / "b", 80, **version))
    assert "code" not in found.kept
    assert any("nobody knows if the same" in line for line in found.noted)


def test_a_metric_without_interval_must_be_the_same(tmp_path: Path) -> None:
    def pretrained(loss: float) -> Record:
        return Record.of(result(task="pretrain", metrics={"loss": loss}), tmp_path / "x.json")

    assert compare_runs(pretrained(1.5), pretrained(1.5)).word == "identical"
    assert compare_runs(pretrained(1.5), pretrained(1.5000001)).word == "different"
    nan = float("nan")
    assert compare_runs(pretrained(nan), pretrained(nan)).word == "identical"
    assert compare_runs(pretrained(1.5), pretrained(nan)).word == "different"


def test_what_only_the_machine_moves_is_not_held_against_a_training(tmp_path: Path) -> None:
    def pretrained(speed: float) -> Record:
        metrics = {"loss": 1.5, "mfu": speed, "images_per_second": speed, "peak_memory_mib": speed}
        return Record.of(result(task="pretrain", metrics=metrics), tmp_path / "x.json")

    found = compare_runs(pretrained(40.0), pretrained(50.0))
    assert found.word == "identical"
    assert [line.partition(":")[0] for line in found.metrics] == ["loss"]
    # Nothing is kept of each image, and none is claimed to be the same.
    assert found.describe()[-1] == "verdict: identical, every metric to the last bit"
