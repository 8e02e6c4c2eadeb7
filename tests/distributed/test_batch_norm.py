"""Batch norm over processes: torch's of the whole batch, gradient and running statistics included."""

from pathlib import Path

import pytest
import torch
from support import good, torchrun
from torch import nn

from distributed.batch_norm_worker import ROWS, WIDTH, normalised
from micl_bench.objectives._batch_norm import BatchNorm

WORKER = Path(__file__).with_name("batch_norm_worker.py")


def by_torch(*, bias: bool) -> dict[str, torch.Tensor]:
    """The same two steps with torch's module, of all rows at once."""
    return normalised(_torchs(bias), slice(ROWS))


def _torchs(bias: bool) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(WIDTH)
    if not bias:
        norm.bias = None  # type: ignore[assignment]
    return norm


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_on_one_process_it_is_torchs(bias: bool) -> None:
    assert_same(normalised(BatchNorm(WIDTH, bias=bias), slice(ROWS)), by_torch(bias=bias))


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_over_processes_it_is_torchs_of_the_whole_batch(tmp_path: Path, processes: int) -> None:
    path = tmp_path / "found.pt"
    good(torchrun(processes, WORKER, path))
    assert_same(torch.load(path, weights_only=True), by_torch(bias=True))


def test_statistics_of_a_part_would_be_others() -> None:
    half = normalised(BatchNorm(WIDTH), slice(ROWS // 2))["rows"]
    assert (half - by_torch(bias=True)["rows"][: ROWS // 2]).abs().max() > 0.1


def test_it_is_fp32_under_autocast_and_for_half_precision() -> None:
    rows = 100 + torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0))
    half, norm = rows.bfloat16(), BatchNorm(WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, BatchNorm(WIDTH)(half.float()))
