"""What follows from a recipe, against the rules by hand."""

import dataclasses
import math
from typing import Any

import pytest

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.errors import InputError

RECIPE = PretrainRecipe(
    arch="vit_small_patch16_224",
    objective=MiCL.Config(mask_ratio=0.9),
    pixels=Pixels(),
    optim=OptimConfig(base_lr=1.5e-4, warmup_epochs=2.5),
    batch_size=2048,
    epochs=20,
    knn_every_epochs=4,
    save_every_steps=7,
)


def plan(processes: int = 8, **changes: Any) -> TrainingPlan:
    recipe = dataclasses.replace(RECIPE, **changes)
    return recipe.plan(steps_per_epoch=10, processes=processes)


def described(processes: int = 8, **changes: Any) -> str:
    return dataclasses.replace(RECIPE, **changes).describe(plan(processes, **changes))


def test_steps_are_epochs_times_steps_of_an_epoch() -> None:
    assert plan().total_steps == 200
    assert plan().warmup_steps == 25


@pytest.mark.parametrize(("processes", "share"), [(1, 2048), (8, 256), (1024, 2)])
def test_a_device_contrasts_its_share_or_the_whole_batch(processes: int, share: int) -> None:
    assert plan(processes).share == share
    assert described(processes).splitlines()[1].endswith(f"each among {share}")
    everywhere = MiCL.Config(mask_ratio=0.9, negatives="global")
    assert plan(processes, objective=everywhere).share == share
    words = described(processes, objective=everywhere).splitlines()[1]
    assert words.endswith("each among 2048")


def test_processes_must_divide_the_batch() -> None:
    with pytest.raises(InputError, match="batch_size 2048 cannot be split over 3 processes evenly"):
        plan(3)


@pytest.mark.parametrize(("batch_size", "expected"), [(256, 1.5e-4), (2048, 1.2e-3), (64, 3.75e-5)])
def test_the_peak_rate_is_linear_in_the_batch_whatever_the_processes(
    batch_size: int, expected: float
) -> None:
    for processes in (1, 4):
        found = plan(processes, batch_size=batch_size).peak_rate
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_rate_rises_to_the_peak_and_falls_to_zero() -> None:
    rates = [plan().rate(step) for step in range(201)]
    peak = 1.2e-3
    assert rates[0] == pytest.approx(peak / 25)
    assert max(rates) == rates[24] == pytest.approx(peak)
    # Half way between warm-up and end, at step 112.5, a half cosine is at its half.
    assert (rates[112] + rates[113]) / 2 == pytest.approx(peak / 2)
    assert rates[200] == pytest.approx(0, abs=1e-18)
    assert rates[150] == pytest.approx(peak * 0.5 * (1 + math.cos(math.pi * 125 / 175)))


@pytest.mark.parametrize(
    ("num_views", "mask_ratio", "expected"), [(2, 0.9, 9), (2, 0.75, 24), (2, 0.8, 19), (3, 0.9, 6)]
)
def test_kept_patches_of_a_view(num_views: int, mask_ratio: float, expected: int) -> None:
    objective = MiCL.Config(num_views=num_views, mask_ratio=mask_ratio)
    assert f": {num_views} views of {expected} of 196 patches" in described(objective=objective)


def test_kept_patches_follow_the_input_size() -> None:
    assert "2 views of 39 of 784 patches" in described(pixels=Pixels(img_size=448))


def test_what_is_due_after_which_step() -> None:
    steps = range(1, 201)
    assert [s for s in steps if plan().save_due(s)] == [*range(7, 200, 7), 200]
    assert [s for s in steps if plan().check_due(s)] == [40, 80, 120, 160, 200]
    assert [s for s in steps if plan(knn_every_epochs=7).check_due(s)] == [70, 140, 200]
    assert not any(plan(knn_every_epochs=0).check_due(s) for s in steps)


def test_what_a_person_checks_before_a_run() -> None:
    assert described() == (
        "vit_small_patch16_224 at 224 px: 2 views of 9 of 196 patches\n"
        "batch 2048 = 8 x 256 images, 256 a forward pass; each among 256\n"
        "learning rate 0.0012 = 0.00015 x 2048 / 256, after 25 steps of warm-up\n"
        "200 steps = 20 epochs of 10"
    )


@pytest.mark.parametrize(("micro_batch", "expected"), [(64, 64), (256, 256), (1000, 256)])
def test_a_micro_batch_is_at_most_the_share(micro_batch: int, expected: int) -> None:
    everywhere = MiCL.Config(mask_ratio=0.9, negatives="global")
    text = described(micro_batch=micro_batch, objective=everywhere)
    assert f"{expected} a forward pass; each among 2048" in text


def test_a_lonely_image_has_nothing_to_be_told_from() -> None:
    with pytest.raises(InputError, match="there is nothing to contrast"):
        plan(8, batch_size=8)
    everywhere = MiCL.Config(mask_ratio=0.9, negatives="global")
    assert "each among 8" in described(8, batch_size=8, objective=everywhere)


def test_a_warm_up_that_never_ends_is_said() -> None:
    assert "never: the run is shorter" not in described()
    long = dataclasses.replace(RECIPE.optim, warmup_epochs=21)
    assert "210 steps of warm-up (never: the run is shorter)" in described(optim=long)
