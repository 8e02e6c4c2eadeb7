"""SimCLR trained from a store of pictures: cut, resumed, over processes; refused where it cannot be."""

import signal
from pathlib import Path

import pytest
import torch
from support import Command, finish, losses, overrides, record_in, refused, signalled, torchrun

from micl_bench.data.packed.pack import pack_folder
from micl_bench.runs.states import States
from micl_bench.runtime.log import read_metrics

SMALL = ("epochs=2", "batch_size=16", "optim.warmup_epochs=0", "save_every_steps=3", "knn_k=5")
STEPS = 10


@pytest.fixture(scope="module")
def pictures(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures")
    for split in ("train", "val"):
        pack_folder(few_digits / split, out / split, layout="image", size=32)
    return out


def words(data: Path, out: Path, *sets: str) -> list[object]:
    return ["pretrain", "embedded_simclr", "--data", data, "--out", out, *overrides(*SMALL, *sets)]


def states(out: Path) -> dict[str, torch.Tensor]:
    found = States(out / "states").newest()
    assert found
    weights: dict[str, torch.Tensor] = found["model"]
    return weights


def test_it_is_trained_from_pictures_and_goes_on_bit_for_bit(
    pictures: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    said = finish(words(pictures, whole))
    assert "2 crops of 32 px\nbatch 16 = 1 x 16 images" in said
    assert "each crop among 31" in said
    assert len(losses(whole)) == STEPS
    rows = read_metrics(whole / "metrics.jsonl")
    assert all(
        {"positive_cosine", "negative_cosine"} <= row.keys() for row in rows if "loss" in row
    )
    last = [row for row in rows if "knn_top1" in row][-1]
    assert 0 <= last["alignment"] < 4
    signalled(words(pictures, cut), cut, 4, signal.SIGTERM)
    step = len(losses(cut))
    assert 4 <= step < STEPS
    assert f"going on from step {step} of {STEPS}" in finish(words(pictures, cut))
    assert losses(cut) == losses(whole)
    ours, theirs = states(cut), states(whole)
    assert {"added.projector.0.weight", "added.projector.1.variance_D"} < ours.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert not torch.equal(theirs["added.projector.1.mean_D"], torch.zeros(128))
    record = record_in(whole, "pretrain")
    assert record["method"] == "SimCLR"
    assert record["settings"]["objective"]["method"] == "SimCLR"


@pytest.mark.long
def test_two_processes_train_it_as_one(pictures: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(words(pictures, one))
    done = torchrun(2, "-m", "micl_bench", *words(pictures, two))
    assert done.returncode == 0, done.stderr
    # The same images, crops and colours; sums in another order, in fp32.
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    for name, value in states(one).items():
        if name.startswith("added.projector") and name.endswith("_D"):
            torch.testing.assert_close(states(two)[name], value, rtol=1e-2, atol=1e-4)


def test_micro_batches_and_patch_stores_are_refused_before_the_first_step(
    pictures: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = refused(Command(*words(pictures, out, "micro_batch=8")).wait())
    (line,) = done.stderr.splitlines()
    assert "micro_batch is 8, and heads of SimCLR normalise over all 16 images" in line
    form = {"layout": "patch", "size": 32, "patch_size": 4, "crop_pct": 1.0}
    for split in ("train", "val"):
        pack_folder(few_digits / split, tmp_path / "patches" / split, **form)
    done = refused(Command(*words(tmp_path / "patches", out)).wait())
    (line,) = done.stderr.splitlines()
    assert "packed in the patch layout" in line
    assert "pack with --layout image" in line
    assert not (out / "metrics.jsonl").exists()
