"""SimCLR's gradient over processes is that of one process with the whole batch, in fp64."""

from pathlib import Path

import pytest
import torch
from support import good, torchrun

from distributed.simclr_worker import gradients

WORKER = Path(__file__).with_name("simclr_worker.py")


@pytest.mark.parametrize(
    ("processes", "parallel"),
    [
        (2, "ddp"),
        pytest.param(4, "ddp", marks=pytest.mark.long),
        pytest.param(2, "fsdp", marks=pytest.mark.long),
    ],
)
def test_gradients_do_not_depend_on_processes(
    tmp_path: Path, processes: int, parallel: str
) -> None:
    path = tmp_path / "found.pt"
    good(torchrun(processes, WORKER, path, parallel))
    found, expected = torch.load(path, weights_only=True), gradients("ddp")
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-9)
    assert found["gradients"].keys() == expected["gradients"].keys()
    assert any(name.startswith("added.projector") for name in expected["gradients"])
    for name, gradient in expected["gradients"].items():
        error = (found["gradients"][name] - gradient).norm() / gradient.norm()
        # Keys shift all logits of a query alike: the gradient of their bias is 0 up to rounding.
        assert error < 1e-6 or gradient.norm() < 1e-12, (name, error)
