"""Methods that see crops do not depend on the number of processes: each step is that of the whole batch.

In fp64; what one process is right about, tests/objectives says.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import good, torchrun

from distributed.crops_worker import CASES, trained

WORKER = Path(__file__).with_name("crops_worker.py")


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """One process, the whole batch at once."""
    return {name: trained(name, "ddp") for name in CASES}


@pytest.mark.parametrize(
    ("processes", "parallel"),
    [
        (2, "ddp"),
        pytest.param(4, "ddp", marks=pytest.mark.long),
        pytest.param(2, "fsdp", marks=pytest.mark.long),
    ],
)
def test_steps_do_not_depend_on_processes(
    tmp_path: Path, alone: dict[str, dict[str, Any]], processes: int, parallel: str
) -> None:
    path = tmp_path / "found.pt"
    good(torchrun(processes, WORKER, path, parallel))
    found = torch.load(path, weights_only=True)
    assert found.keys() == alone.keys()
    for name, expected in alone.items():
        assert_same(found[name], expected)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-9)
    for number, value in expected["numbers"].items():
        assert found["numbers"][number].item() == pytest.approx(value.item(), rel=1e-9)
    assert found["gradients"].keys() == expected["gradients"].keys()
    assert any(key.startswith("added.projector") for key in expected["gradients"])
    for key, gradient in expected["gradients"].items():
        error = (found["gradients"][key] - gradient).norm() / gradient.norm()
        # Keys shift all logits of a query alike: the gradient of their bias is 0 up to rounding.
        assert error < 1e-6 or gradient.norm() < 1e-12, (key, error)
    assert found["weights"].keys() == expected["weights"].keys()
    for key, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][key], weight, rtol=1e-6, atol=1e-8, msg=key)
