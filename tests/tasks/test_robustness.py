"""Robustness: the drop is measured on the same classes of the clean set."""

import json
from pathlib import Path

import pytest
import torch
from support import REPOSITORY, Run

from micl_bench.tasks.robustness import compare

RANDOM = "random:vit_demo_patch4_32"


def test_classes_missing_from_the_shifted_set_do_not_count() -> None:
    # Classes 0 and 2 are in the shifted set, 1 is not.
    clean_logits = torch.tensor([[3.0, 9, 0], [0, 9, 1], [0, 0, 5], [2, 0, 0]])
    clean_labels = torch.tensor([0, 1, 2, 2])
    shifted_logits = torch.tensor([[1.0, 5, 0], [4, 0, 2]])
    shifted_labels = torch.tensor([0, 2])
    metrics = compare((clean_logits, clean_labels), (shifted_logits, shifted_labels))
    # Clean, of class 0 and 2: right, right, wrong. Shifted, among 0 and 2: right, wrong.
    assert metrics["clean_top1"] == pytest.approx(200 / 3)
    assert metrics["top1"] == pytest.approx(50)
    assert metrics["drop"] == pytest.approx(200 / 3 - 50)


def test_a_fine_tuned_classifier_meets_the_three_sets(
    micl_bench: Run, embedded: Path, few_digits: Path, tmp_path: Path
) -> None:
    words = ("--set", "training.epochs=1", "--set", "training.batch_size=40")
    recipe = REPOSITORY / "downstream" / "embedded_finetune.py"
    places = ("--data", few_digits, "--out", tmp_path / "tuned", "--recipe", recipe)
    done = micl_bench("eval", "finetune", "--checkpoint", RANDOM, *places, *words)
    assert done.returncode == 0, done.stderr
    recipe = REPOSITORY / "downstream" / "embedded_robustness.py"
    places = ("--data", embedded, "--out", tmp_path / "out", "--recipe", recipe)
    done = micl_bench(
        "eval", "robustness", "--checkpoint", tmp_path / "tuned" / "classifier.pt", *places
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    data = {(r["data"]["name"], r["data"]["stands_for"], r["data"]["images"]) for r in records}
    assert data == {
        ("embedded-A", "ImageNet-A", 80),
        ("embedded-R", "ImageNet-R", 359),
        ("embedded-Sketch", "ImageNet-Sketch", 359),
    }
    for record in records:
        metrics = record["metrics"]
        assert metrics["drop"] == pytest.approx(metrics["clean_top1"] - metrics["top1"])


def test_a_backbone_without_a_head_is_refused(micl_bench: Run, embedded: Path) -> None:
    words = ("--checkpoint", RANDOM, "--data", embedded, "--out", "out")
    done = micl_bench("eval", "robustness", *words, "--set", "pixels.img_size=32")
    assert done.returncode == 2
    assert "no classifier head; fine-tune it first" in done.stderr
