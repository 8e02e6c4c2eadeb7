"""The warning of a collapse to one target, step by step."""

import math

import pytest
import torch

from micl_bench.objectives._collapse import TargetsAlike, cosine_of_others
from micl_bench.runs.optim import OptimConfig
from micl_bench.runs.plan import TrainingPlan


def watch(warmup_epochs: float = 1) -> TargetsAlike:
    optim = OptimConfig(base_lr=1.0, warmup_epochs=warmup_epochs)
    plan = TrainingPlan(optim=optim, epochs=9, batch_size=4, steps_per_epoch=5, save_every_steps=1)
    return TargetsAlike(plan)


def test_the_cosine_is_the_mean_over_pairs_of_images() -> None:
    targets_ND = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = targets_ND.tolist()
    cosines = [
        sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))
        for i, x in enumerate(rows)
        for j, y in enumerate(rows)
        if i != j
    ]
    expected = sum(cosines) / len(cosines)
    assert cosine_of_others(targets_ND).item() == pytest.approx(expected, rel=1e-12)
    assert cosine_of_others(torch.ones(3, 2)).item() == pytest.approx(1)
    assert cosine_of_others(torch.eye(4)).item() == pytest.approx(0, abs=1e-7)
    assert math.isnan(cosine_of_others(torch.ones(1, 2)).item())


def test_it_warns_once_after_an_epoch_without_a_break() -> None:
    look = watch()
    told = {step: text for step in range(1, 30) if (text := look(step, {"target_cosine": 0.995}))}
    # Steps 6 to 10 are the first epoch after the warm-up.
    assert list(told) == [10]
    assert "mean cosine 0.9950" in told[10]


@pytest.mark.parametrize("good", [0.99, 0.1, float("nan")])
def test_a_single_good_step_begins_the_epoch_anew(good: float) -> None:
    look = watch(warmup_epochs=0)
    told = [
        step for step in range(1, 12) if look(step, {"target_cosine": good if step == 4 else 1.0})
    ]
    assert told == [9]
