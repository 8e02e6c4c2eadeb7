"""DropPos in real runs: cut and resumed, whose smoothing follows the run; and its ImageNet recipes."""

from pathlib import Path

import pytest
import torch
from support import REPOSITORY, Command, good, losses, overrides, record_in

from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.droppos import DropPos
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.states import States
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.log import read_metrics

RECIPE = """
import os, signal
from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.droppos import DropPos
from micl_bench.runs.optim import OptimConfig

def watch(self, plan):
    def look(step, numbers):
        if step == int(os.environ.get("STOPS_AT", "0")):
            os.kill(os.getpid(), signal.SIGTERM)
        return ""
    return look

DropPos.watch = watch
recipe = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=DropPos.Config(mask_ratio=0.5, decoder_width=32, decoder_heads=2),
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=2e-3),
    batch_size=16, epochs=2, knn_every_epochs=2, knn_k=5, save_every_steps=2,
)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "cut.py"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("micro_batch", [pytest.param(0, marks=pytest.mark.long), 5])
def test_a_run_that_is_cut_goes_on_bit_for_bit(
    recipe: Path,
    few_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    micro_batch: int,
) -> None:
    def run(out: Path) -> str:
        words = ("pretrain", recipe, "--data", few_digits, "--out", out)
        more = overrides(f"micro_batch={micro_batch}")
        return good(Command(*words, *more).wait()).stderr

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    said = run(whole)
    assert "px: 32 of 64 patches visible, 24 of them without position" in said
    monkeypatch.setenv("STOPS_AT", "3")
    run(cut)
    assert 3 <= len(losses(cut)) < len(losses(whole))
    monkeypatch.delenv("STOPS_AT")
    run(cut)
    assert losses(cut) == losses(whole)
    ours, theirs = (States(out / "states").newest() for out in (cut, whole))
    assert ours
    assert theirs
    assert {"added.dropped_position", "added.classifier.weight"} < ours["model"].keys()
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    assert theirs["model"]["added.progress"] == 1
    record = record_in(whole, "pretrain")
    assert record["method"] == "DropPos"
    assert record["details"]["deviations"] == list(DropPos.deviations)
    rows = read_metrics(whole / "metrics.jsonl")
    assert all("place_top1" in row for row in rows if "loss" in row)
    assert "held_out_place_top1" in rows[-1]


@pytest.mark.parametrize("size", ["small", "base"])
def test_imagenet_recipe_has_the_values_of_the_authors(size: str) -> None:
    name = f"imagenet_droppos_vit_{size[0]}16"
    recipe = load_recipe(REPOSITORY / "pretrain" / f"{name}.py", PretrainRecipe)
    assert recipe.arch == f"vit_{size}_patch16_224"
    assert recipe.objective == DropPos.Config()
    assert (recipe.epochs, recipe.batch_size, recipe.optim.warmup_epochs) == (800, 2048, 10)
    assert recipe.optim == OptimConfig(
        base_lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup_epochs=10
    )
    assert (recipe.pixels.crop_scale, recipe.pixels.flip) == ((0.2, 1.0), True)
    text = (REPOSITORY / "pretrain" / f"{name}.py").read_text().split('"""')[1]
    assert f"micl-bench pretrain {name} " in text
    assert ("84.2" in text) is (size == "base")
