"""Methods that see crops, from pictures: cut, resumed, over processes; refused where it cannot be."""

import signal
from pathlib import Path

import pytest
import torch
from support import Command, finish, losses, overrides, record_in, refused, signalled, torchrun

from micl_bench.checkpoints import load_checkpoint
from micl_bench.data.packed.pack import pack_folder
from micl_bench.runs.states import States
from micl_bench.runtime.log import read_metrics

SMALL = ("epochs=2", "batch_size=16", "optim.warmup_epochs=0", "save_every_steps=3", "knn_k=5")
STEPS = 10
# By recipe: the method, and words of its plan.
METHODS = {
    "simclr": ("SimCLR", "each crop among 31"),
    "moco_v3": ("MoCo v3", "each crop among the other crops of 16 images"),
}
EACH = ["simclr", pytest.param("moco_v3", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def pictures(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures")
    for split in ("train", "val"):
        pack_folder(few_digits / split, out / split, layout="image", size=32)
    return out


def words(name: str, data: Path, out: Path, *sets: str) -> list[object]:
    command = ["pretrain", f"embedded_{name}", "--data", data, "--out", out]
    return [*command, *overrides(*SMALL, *sets)]


def states(out: Path) -> dict[str, torch.Tensor]:
    found = States(out / "states").newest()
    assert found
    weights: dict[str, torch.Tensor] = found["model"]
    return weights


@pytest.mark.parametrize("name", EACH)
def test_it_is_trained_from_pictures_and_goes_on_bit_for_bit(
    name: str, pictures: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    said = finish(words(name, pictures, whole))
    assert "2 crops of 32 px\nbatch 16 = 1 x 16 images" in said
    assert METHODS[name][1] in said
    assert len(losses(whole)) == STEPS
    rows = read_metrics(whole / "metrics.jsonl")
    assert all(
        {"positive_cosine", "negative_cosine"} <= row.keys() for row in rows if "loss" in row
    )
    last = [row for row in rows if "knn_top1" in row][-1]
    assert 0 <= last["alignment"] < 4
    signalled(words(name, pictures, cut), cut, 4, signal.SIGTERM)
    step = len(losses(cut))
    assert 4 <= step < STEPS
    assert f"going on from step {step} of {STEPS}" in finish(words(name, pictures, cut))
    assert losses(cut) == losses(whole)
    ours, theirs = states(cut), states(whole)
    assert {"added.projector.0.weight", "added.projector.1.variance_D"} < ours.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert theirs["added.projector.1.mean_D"].any()
    record = record_in(whole, "pretrain")
    assert record["method"] == METHODS[name][0]
    assert record["settings"]["objective"]["method"] == METHODS[name][0]
    assert record["details"]["deviations"]
    # The run leaves the network that is trained, not its average.
    left = load_checkpoint(whole / "backbone.pt").content.state
    assert all(torch.equal(theirs[f"vit.{key}"], value) for key, value in left.items())
    if name == "moco_v3":
        average = theirs["added.momentum_encoder.norm.weight"]
        assert not torch.equal(average, left["norm.weight"])


@pytest.mark.long
def test_two_processes_train_it_as_one(pictures: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(words("simclr", pictures, one))
    done = torchrun(2, "-m", "micl_bench", *words("simclr", pictures, two))
    assert done.returncode == 0, done.stderr
    # The same images, crops and colours; sums in another order, in fp32. MoCo v3 multiplies rounding,
    # also of one process that takes a batch in another order: tests/distributed compares it, in fp64.
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    for name, value in states(one).items():
        if name.startswith("added.projector") and name.endswith("_D"):
            torch.testing.assert_close(states(two)[name], value, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches_and_patch_stores_are_refused_before_the_first_step(
    name: str, pictures: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = refused(Command(*words(name, pictures, out, "micro_batch=8")).wait())
    (line,) = done.stderr.splitlines()
    method = METHODS[name][0]
    assert f"micro_batch is 8, and heads of {method} normalise over all 16 images" in line
    form = {"layout": "patch", "size": 32, "patch_size": 4, "crop_pct": 1.0}
    for split in ("train", "val"):
        pack_folder(few_digits / split, tmp_path / "patches" / split, **form)
    done = refused(Command(*words(name, tmp_path / "patches", out)).wait())
    (line,) = done.stderr.splitlines()
    assert "packed in the patch layout" in line
    assert "pack with --layout image" in line
    assert not (out / "metrics.jsonl").exists()
