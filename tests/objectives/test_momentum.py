"""Momentum twins against plain loops, and their schedules against the formulas."""

import math

import pytest
import torch
from torch import nn

from micl_bench.objectives._momentum import cosine_momentum, follow_, linear_momentum, twin_of


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()


def numbers(module: nn.Module) -> list[float]:
    return [value for parameter in module.parameters() for value in parameter.flatten().tolist()]


def test_a_twin_is_a_frozen_copy_of_its_own() -> None:
    trained = network(0)
    trained[0].bias.requires_grad_(False)
    twin = twin_of(trained)
    assert numbers(twin) == numbers(trained)
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert trained[0].weight.requires_grad
    with torch.no_grad():
        trained[0].weight.zero_()
    assert twin[0].weight.all()


def test_it_follows_as_a_plain_loop_over_numbers() -> None:
    trained = network(0)
    twin = twin_of(trained)
    expected = numbers(twin)
    for step, momentum in enumerate((0.9, 0.5, 0.25, 0.0, 1.0), start=1):
        trained.load_state_dict(network(step).state_dict())
        follow_(twin, trained, momentum=momentum)
        for place, new in enumerate(numbers(trained)):
            expected[place] = momentum * expected[place] + (1 - momentum) * new
        assert numbers(twin) == pytest.approx(expected, rel=1e-14)


def test_the_ends_of_the_momentum_are_exact() -> None:
    trained = network(1)
    still, twin = network(0), network(0)
    follow_(twin, trained, momentum=1.0)
    assert numbers(twin) == numbers(still)
    follow_(twin, trained, momentum=0.0)
    assert numbers(twin) == numbers(trained)


def test_numbers_that_nobody_trains_stay_bit_for_bit() -> None:
    trained, twin = network(0).float(), network(0).float()
    for _ in range(50):
        follow_(twin, trained, momentum=0.996)
    assert numbers(twin) == numbers(trained)


def test_buffers_are_the_twins_own() -> None:
    trained, twin = network(0), network(0)
    trained[1].running_mean.fill_(7.0)
    follow_(twin, trained, momentum=0.0)
    assert not twin[1].running_mean.any()


def test_another_module_is_no_twin() -> None:
    with pytest.raises(ValueError, match=r"no twin: \['bias', 'weight'\] are in one alone"):
        follow_(nn.Linear(2, 2), nn.Identity(), momentum=0.5)


@pytest.mark.parametrize("start", [0.0, 0.9, 0.996])
def test_schedules_are_their_formulas(start: float) -> None:
    for done in range(11):
        share = done / 10
        # DINO's and the authors' words of it: from `start` to 1, half a cosine.
        cosine = 1 + 0.5 * (start - 1) * (1 + math.cos(math.pi * share))
        assert cosine_momentum(start, share) == pytest.approx(cosine, abs=1e-15)
        assert linear_momentum(start, share) == pytest.approx(
            start + share * (1 - start), abs=1e-15
        )
    for schedule in (cosine_momentum, linear_momentum):
        assert schedule(start, 0) == pytest.approx(start, abs=1e-15)
        assert schedule(start, 0.5) == pytest.approx((1 + start) / 2, abs=1e-15)
        assert schedule(start, 1) == 1
