"""DINO trained by the command line: cut, resumed bit for bit, over processes, evaluated."""

import math
import signal
from pathlib import Path

import pytest
import torch
from support import finish, losses, overrides, record_in, signalled, torchrun

from micl_bench.checkpoints import load_checkpoint
from micl_bench.runs.states import States
from micl_bench.runtime.log import read_metrics

SMALL = (
    "epochs=2", "batch_size=16", "optim.warmup_epochs=0", "save_every_steps=3", "knn_k=5",
    "objective.frozen_share=0.5", "objective.drop_path=0.2",
)  # fmt: skip
STEPS = 10


def words(data: Path, out: Path, *sets: str) -> list[object]:
    return ["pretrain", "embedded_dino", "--data", data, "--out", out, *overrides(*SMALL, *sets)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    found = States(out / "states").newest()
    assert found
    model: dict[str, torch.Tensor] = found["model"]
    return model


@pytest.fixture(scope="module")
def whole(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("dino") / "whole"
    said = finish(words(few_digits, out))
    assert "the student sees 2 crops of 32 px, " in said
    assert " crops of 16 px, the teacher the first 2\n" in said
    return out


@pytest.mark.long
def test_cut_by_a_signal_it_goes_on_bit_for_bit(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    # Before the last layer learns.
    signalled(words(few_digits, cut), cut, 3, signal.SIGTERM)
    step = len(losses(cut))
    assert 3 <= step < STEPS
    said = finish(words(few_digits, cut, "num_workers=1"))
    assert f"going on from step {step} of {STEPS}" in said
    assert losses(cut) == losses(whole)
    ours, theirs = weights(cut), weights(whole)
    assert {"added.centre_1O", "added.temperature", "added.learns"} < ours.keys()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert ours["added.learns"] == 1
    assert ours["added.centre_1O"].any()


@pytest.mark.long
def test_processes_shards_and_micro_batches_train_it_alike(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    for number, sets in enumerate((("micro_batch=4",), ("parallel=fsdp",))):
        out = tmp_path / str(number)
        done = torchrun(2, "-m", "micl_bench", *words(few_digits, out, *sets))
        assert done.returncode == 0, done.stderr
        # The same images and crops; sums in another order, in fp32.
        assert losses(out) == pytest.approx(losses(whole), rel=1e-3)
        for name in ("added.centre_1O", "added.temperature"):
            torch.testing.assert_close(
                weights(out)[name], weights(whole)[name], rtol=1e-2, atol=1e-3
            )


@pytest.mark.long
def test_it_leaves_its_teacher_and_its_numbers(whole: Path) -> None:
    left = load_checkpoint(whole / "backbone.pt")
    assert left.method == "DINO"
    for name, value in left.content.state.items():
        assert torch.equal(value, weights(whole)[f"added.teacher.{name}"])
    rows = read_metrics(whole / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    assert len(steps) == STEPS
    assert all(-1 <= row["target_cosine"] <= 1 for row in steps)
    assert all(0 <= row["target_entropy"] <= math.log(1024) for row in steps)
    last = [row for row in rows if "knn_top1" in row][-1]
    assert {"held_out_loss", "held_out_target_cosine", "held_out_target_entropy"} < last.keys()
    record = record_in(whole, "pretrain")
    assert record["method"] == "DINO"
    assert record["settings"]["objective"]["method"] == "DINO"
