"""Methods with a momentum twin do not depend on how the batch is cut: processes, shards, micro-batches.

In fp64; one process is checked against plain loops in tests/objectives.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import good, torchrun

from distributed.twins_worker import STEPS, made, share_of, trained
from micl_bench.engine.pretraining.step import Step

WORKER = Path(__file__).with_name("twins_worker.py")
NAMES = ("dino", "extrema", "ijepa")
# From 0.5 to 1 in three steps.
COSINE = [1 - 0.25 * (1 + math.cos(math.pi * done / STEPS)) for done in (1, 2, 3)]
LINEAR = [0.5 + 0.5 * done / STEPS for done in (1, 2, 3)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """One process, the whole batch at once."""
    return {name: trained(name, "ddp", 0) for name in NAMES}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-9)
    assert found["gradients"].keys() == expected["gradients"].keys()
    for name, gradient in expected["gradients"].items():
        error = (found["gradients"][name] - gradient).norm() / gradient.norm()
        # Keys shift all logits of a query alike: the gradient of their bias is 0 up to rounding.
        assert error < 1e-6 or gradient.norm() < 1e-12, (name, error)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_one_process_with_any_micro_batch(
    alone: dict[str, dict[str, Any]], name: str, micro_batch: int
) -> None:
    assert_same(trained(name, "ddp", micro_batch), alone[name])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("processes", "parallel", "sizes"),
    [
        (2, "ddp", (0, 1)),
        pytest.param(2, "fsdp", (0, 1), marks=pytest.mark.long),
        pytest.param(4, "ddp", (0,), marks=pytest.mark.long),
    ],
)
def test_several_processes(
    tmp_path: Path,
    alone: dict[str, dict[str, Any]],
    name: str,
    processes: int,
    parallel: str,
    sizes: tuple[int, ...],
) -> None:
    path = tmp_path / "found.pt"
    good(torchrun(processes, WORKER, path, name, parallel, *sizes))
    for found in torch.load(path, weights_only=True).values():
        assert_same(found, alone[name])


@pytest.mark.parametrize(
    ("name", "momenta"), [("dino", COSINE), ("extrema", COSINE), ("ijepa", LINEAR)]
)
def test_the_twin_is_the_moving_average_of_its_network(name: str, momenta: list[float]) -> None:
    model, wrapped, optimizer = made(name, "ddp")
    step = Step(wrapped, optimizer)
    expected = {key: value.clone() for key, value in model.vit.named_parameters()}
    for number, momentum in enumerate(momenta):
        step(share_of(model.objective, number), 1e-3, (number + 1) / STEPS)
        for key, value in model.vit.named_parameters():
            expected[key] = momentum * expected[key] + (1 - momentum) * value.detach()
    teacher = dict(model.get_submodule("added.teacher").named_parameters())
    assert teacher.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(teacher[key], value, rtol=1e-12, atol=1e-15, msg=key)
    assert not torch.equal(teacher["norm.weight"], model.vit.norm.weight)


def test_alone_and_in_its_own_state_it_is_whole(alone: dict[str, dict[str, Any]]) -> None:
    for found in alone.values():
        twin = {key for key in found["weights"] if key.startswith("added.teacher.")}
        ours = {key for key in found["weights"] if key.startswith("vit.")}
        assert {key.removeprefix("added.teacher.") for key in twin} == {key[4:] for key in ours}
