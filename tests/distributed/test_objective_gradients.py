"""The gradient of an objective that is defined over the whole batch does not depend on how that is cut.

In fp64, against one process with all images at once; what that is right about, tests/objectives says.
"""

from pathlib import Path

import pytest
import torch
from support import good, torchrun

from distributed.objectives_worker import CASES, IMAGES, gradients

WORKER = Path(__file__).with_name("objectives_worker.py")


def assert_same(found: dict, expected: dict) -> None:
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-6)
    assert found["norm"].item() == pytest.approx(expected["norm"].item(), rel=1e-6)
    for name, value in expected["numbers"].items():
        assert found["numbers"][name].item() == pytest.approx(value.item(), rel=1e-6)
    assert found["gradients"].keys() == expected["gradients"].keys()
    for name, gradient in expected["gradients"].items():
        error = (found["gradients"][name] - gradient).norm() / gradient.norm()
        # Keys shift all logits of a query alike: the gradient of their bias is 0 up to rounding.
        assert error < 1e-6 or gradient.norm() < 1e-12, (name, error)


@pytest.mark.parametrize("name", CASES)
def test_every_module_gets_a_gradient(name: str) -> None:
    found = gradients(name, "ddp", 0)["gradients"]
    assert any(one.startswith("added.") for one in found)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    still = [one for one, gradient in found.items() if not gradient.any()]
    assert still == []


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("micro_batch", [1, 5, IMAGES])
def test_one_process_with_any_micro_batch(name: str, micro_batch: int) -> None:
    assert_same(gradients(name, "ddp", micro_batch), gradients(name, "ddp", 0))


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("processes", "parallel", "sizes"),
    [(2, "ddp", (0, 4)), (4, "ddp", (0, 2)), (2, "fsdp", (0, 2))],
)
def test_several_processes_with_any_micro_batch(
    tmp_path: Path, name: str, processes: int, parallel: str, sizes: tuple[int, ...]
) -> None:
    path = tmp_path / "found.pt"
    good(torchrun(processes, WORKER, path, name, parallel, *sizes))
    for found in torch.load(path, weights_only=True).values():
        assert_same(found, gradients(name, "ddp", 0))
