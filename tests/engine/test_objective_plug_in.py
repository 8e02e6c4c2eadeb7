"""An objective of a few lines from outside of the package: found, trained, cut, resumed and recorded."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import Command, good, losses, overrides, record_in, refused, torchrun

from micl_bench.backbone import named_arch
from micl_bench.checkpoints import load_checkpoint
from micl_bench.cli.listing import listing_of
from micl_bench.objectives import find_objective
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.states import States
from micl_bench.runtime import plugins
from micl_bench.runtime.log import read_metrics

# A decoder, a momentum twin and a queue: what rivals need of the loop.
TOY = '''
"""Toy: predict the mean colour of hidden patches, and what a slow twin says."""

import copy
import dataclasses
import os
import signal

import torch
from torch import nn

from micl_bench.backbone import view_features
from micl_bench.data.visible import Patches
from micl_bench.objectives import Objective, ObjectiveConfig, Output
from micl_bench.runtime.values import Fraction
from micl_bench.views import draw_views


class Toy(Objective):
    name = "Toy"
    numbers = ("twin_distance",)
    deviations = ("It guesses a colour, no pixels.",)
    backbone = "added.twin"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        momentum: Fraction = 0.9

    def wants(self, arch):
        def draw(seed, epoch, index_N):
            return draw_views(
                seed, epoch, index_N, num_patches=arch.num_patches, num_views=2, mask_ratio=0.5
            )

        return Patches(
            num_views=2, per_view=arch.num_patches // 4, of=arch.num_patches,
            patch_size=arch.patch_size, draw=draw,
        )

    def added(self, vit):
        added = nn.Module()
        added.decoder = nn.Linear(vit.embed_dim, 1)
        added.twin = copy.deepcopy(vit).requires_grad_(False)
        added.register_buffer("queue", torch.zeros(8, vit.embed_dim))
        added.register_buffer("error", torch.zeros(1))
        added.register_buffer("progress", torch.zeros(1))
        return added

    def encode(self, vit, added, seen):
        visible_NMP, (first, second) = seen.visible_NMP, seen.keep_NVK.split(1, dim=1)
        K = seen.keep_NVK.shape[2]
        ours_ND = view_features(vit, visible_NMP[:, :K], first)[:, 0]
        with torch.no_grad():
            theirs_ND = view_features(added.twin, visible_NMP[:, K:], second)[:, 0]
        colour_N1 = visible_NMP[:, K:].mean((1, 2))[:, None]
        error_N1 = (added.decoder(ours_ND) - colour_N1).square()
        distance_N1 = (ours_ND - theirs_ND - added.queue.mean(0)).square().mean(1, keepdim=True)
        return torch.cat([error_N1, distance_N1], dim=1)

    def loss(self, rows):
        error, distance = rows.mean(0)
        return Output(loss=error + distance, numbers={"twin_distance": distance.detach()})

    def after_step(self, vit, added, rows, progress):
        for slow, fast in zip(added.twin.parameters(), vit.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.config.momentum)
        added.queue.copy_(torch.cat([added.queue[1:], vit.cls_token[0]]))
        added.error.copy_(rows[:, :1].mean(0))
        added.progress.fill_(progress)

    def watch(self, plan):
        stops_at = int(os.environ.get("TOY_STOPS_AT", "0"))

        def look(step, numbers):
            if step == stops_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return f"as told, {sorted(numbers)}" if step == stops_at else ""

        return look

    def health(self, rows):
        return {"held_out_error": rows[:, 0].mean().item()}


OBJECTIVE = Toy
'''
RECIPE = """
from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.toy import Toy
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=Toy.Config(momentum=0.8),
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=2e-3),
    batch_size=16, epochs=3, knn_every_epochs=3, knn_k=5, save_every_steps=2,
)
"""
STEPS = 15


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A recipe with an objective that lies in a folder of plug-ins."""
    plug_in = tmp_path / "mine" / "objectives" / "toy.py"
    plug_in.parent.mkdir(parents=True)
    plug_in.write_text(TOY)
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "mine"))
    path = tmp_path / "toy_recipe.py"
    path.write_text(RECIPE)
    yield path
    sys.modules.pop("micl_bench.objectives.toy", None)


def run(recipe: Path, data: Path, out: Path, *sets: str) -> Command:
    return Command("pretrain", recipe, "--data", data, "--out", out, *overrides(*sets))


@pytest.mark.parametrize("micro_batch", [pytest.param(0, marks=pytest.mark.long), 5])
def test_it_is_trained_cut_resumed_and_recorded(
    recipe: Path,
    few_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    micro_batch: int,
) -> None:
    more = (f"micro_batch={micro_batch}",)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = good(run(recipe, few_digits, whole, *more).wait())
    assert "2 views of 16 of 64 patches\nbatch 16 = 1 x 16 images" in done.stderr
    assert "each among" not in done.stderr
    rows = read_metrics(whole / "metrics.jsonl")
    assert len(losses(whole)) == STEPS
    assert all("twin_distance" in row for row in rows if "loss" in row)
    assert [row["step"] for row in rows if "held_out_error" in row] == [0, STEPS]

    monkeypatch.setenv("TOY_STOPS_AT", "4")
    first = run(recipe, few_digits, cut, *more).wait()
    assert first.returncode == 0
    assert "warning: step 4: as told, ['gradient_norm', 'loss', 'twin_distance']" in first.stderr
    step = len(losses(cut))
    assert 4 <= step <= 5
    monkeypatch.delenv("TOY_STOPS_AT")
    done = run(recipe, few_digits, cut, *more).wait()
    assert f"going on from step {step} of {STEPS}" in done.stderr
    assert losses(cut) == losses(whole)
    ours, theirs = (States(out / "states").newest() for out in (cut, whole))
    assert ours
    assert theirs
    assert {"added.decoder.weight", "added.queue", "added.twin.cls_token"} < ours["model"].keys()
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    # The twin follows: it is neither what it was nor what it follows.
    twin, student = (theirs["model"][f"{name}cls_token"] for name in ("added.twin.", "vit."))
    assert not torch.equal(twin, student)
    assert theirs["model"]["added.queue"].any()
    # It sees each step's rows, cut into parts or not, and how far the run is.
    assert theirs["model"]["added.progress"].item() == 1
    last = [row for row in rows if "loss" in row][-1]
    assert theirs["model"]["added.error"].item() == pytest.approx(
        last["loss"] - last["twin_distance"], abs=1e-5
    )

    record = record_in(whole, "pretrain")
    assert record["method"] == "Toy"
    assert record["protocol"] == "3 epochs of digits, batch 16"
    assert record["settings"]["objective"] == {"method": "Toy", "momentum": 0.8}
    assert record["details"]["deviations"] == ["It guesses a colour, no pixels."]
    checkpoint = load_checkpoint(whole / "backbone.pt")
    assert checkpoint.method == "Toy"
    assert (
        checkpoint.content.state.keys()
        == named_arch("vit_demo_patch4_32").build().state_dict().keys()
    )
    assert torch.equal(checkpoint.content.state["cls_token"], twin)
    second = refused(run(recipe, few_digits, whole, *more, "objective.momentum=0.7").wait())
    assert "another recipe or other data (what differs: objective)" in second.stderr


@pytest.mark.long
def test_two_processes_train_it_as_one(recipe: Path, few_digits: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(recipe, few_digits, one).wait().returncode == 0
    words = ("pretrain", recipe, "--data", few_digits, "--out", two)
    good(torchrun(2, "-m", "micl_bench", *words))
    # The same images; sums in another order, in fp32.
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    ours, theirs = (States(out / "states").newest() for out in (two, one))
    assert ours
    assert theirs
    for name in ("added.queue", "added.twin.cls_token", "added.decoder.weight"):
        torch.testing.assert_close(ours["model"][name], theirs["model"][name], rtol=1e-2, atol=1e-4)


def test_its_flop_are_counted_with_the_twins_forward(recipe: Path) -> None:
    objective = plugins.find("objectives", "toy").OBJECTIVE.Config().build()
    arch = named_arch("vit_demo_patch4_32")
    one_view = MiCL(MiCL.Config(mask_ratio=0.5)).flop_per_image(arch) / 2
    # Student forward and backward, twin forward alone, the decoder's few.
    assert objective.flop_per_image(arch) == pytest.approx(one_view * 4 / 3, rel=0.01)


def test_every_objective_of_the_package_is_found_by_its_name() -> None:
    names = plugins.names("objectives")
    assert names.keys() == {line.split()[0] for line in listing_of("objectives").splitlines()}
    for name in names:
        assert find_objective(name).Config().build().settings()


@pytest.mark.parametrize(
    ("declaration", "fault"),
    [
        ("OBJECTIVE = 3", "has OBJECTIVE = 3; needed: a subclass of Objective"),
        (
            "OBJECTIVE = Toy.Config",
            "has OBJECTIVE = <class 'micl_bench.objectives.toy.Toy.Config'>",
        ),
        ("OBJECTIVE = Toy.Config().build()", "needed: a subclass of Objective"),
        ("", "defines no OBJECTIVE"),
    ],
)
def test_a_file_that_declares_no_objective_is_refused_by_name(
    recipe: Path, few_digits: Path, tmp_path: Path, declaration: str, fault: str
) -> None:
    plug_in = tmp_path / "mine" / "objectives" / "toy.py"
    plug_in.write_text(TOY.replace("OBJECTIVE = Toy", declaration))
    done = refused(run(recipe, few_digits, tmp_path / "out").wait())
    (line,) = done.stderr.splitlines()
    assert f"the plug-in {plug_in} " in line
    assert fault in line
    assert not (tmp_path / "out").exists()


def test_a_backbone_that_is_no_module_is_refused_before_the_first_step(
    recipe: Path, few_digits: Path, tmp_path: Path
) -> None:
    plug_in = tmp_path / "mine" / "objectives" / "toy.py"
    plug_in.write_text(TOY.replace('"added.twin"', '"added.teacher"'))
    done = refused(run(recipe, few_digits, tmp_path / "out").wait())
    assert "Toy: its `backbone` is 'added.teacher', which is no module of the run" in done.stderr
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
