"""Positions for another size: against timm, against cubic convolution written out, and formulas."""

import math

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.beit import Beit

from micl_bench.backbone import resample_positions, sincos_positions
from micl_bench.backbone.positions import recomputed_sincos, resample_relative
from micl_bench.errors import InputError


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("grid", [3, 5, 9])
def test_without_an_offset_it_is_timms(prefix: int, antialias: bool, grid: int) -> None:
    stored_1TD = torch.randn(1, prefix + 25, 8)
    found_1TD = resample_positions(
        stored_1TD, grid=grid, num_prefix_tokens=prefix, antialias=antialias
    )
    expected_1TD = resample_abs_pos_embed(
        stored_1TD, new_size=[grid, grid], num_prefix_tokens=prefix, antialias=antialias
    )
    torch.testing.assert_close(found_1TD, expected_1TD)
    assert torch.equal(found_1TD[:, :prefix], stored_1TD[:, :prefix])


def _kernel(distance: float) -> float:
    """Cubic convolution (Keys 1981) with torch's a = -0.75."""
    x = abs(distance)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def _weights(stored: int, grid: int, scale: float) -> np.ndarray:
    weights = np.zeros((grid, stored))
    for row in range(grid):
        centre = (row + 0.5) / scale - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            weights[row, min(max(tap, 0), stored - 1)] += _kernel(centre - tap)
    return weights


@pytest.mark.parametrize("grid", [5, 7, 9])
def test_with_dinos_offset_samples_lie_where_its_scale_factor_says(grid: int) -> None:
    stored_1TD = torch.randn(1, 1 + 49, 3, dtype=torch.float64).float()
    found_1TD = resample_positions(stored_1TD, grid=grid, antialias=False, offset=0.1)
    if grid == 7:
        assert found_1TD is stored_1TD
        return
    weights = _weights(7, grid, (grid + 0.1) / 7)
    map_hwD = stored_1TD[0, 1:].reshape(7, 7, 3).numpy()
    expected = np.einsum("yh,xw,hwd->yxd", weights, weights, map_hwD).reshape(-1, 3)
    np.testing.assert_allclose(found_1TD[0, 1:].numpy(), expected, atol=1e-5)
    plain_1TD = resample_positions(stored_1TD, grid=grid, antialias=False)
    assert not torch.allclose(found_1TD, plain_1TD, atol=1e-3)


@pytest.mark.parametrize("swapped", [False, True])
def test_fixed_tables_are_computed_anew_in_their_own_order(swapped: bool) -> None:
    prefix_12D = torch.randn(1, 2, 16)

    def table(grid: int) -> torch.Tensor:
        table_LD = sincos_positions(grid, 16)
        halves = table_LD.chunk(2, dim=1)
        return torch.cat(halves[::-1], dim=1) if swapped else table_LD

    stored_1TD = torch.cat([prefix_12D, table(4)[None]], dim=1)
    found_1TD = recomputed_sincos(stored_1TD, grid=6, num_prefix_tokens=2)
    assert torch.equal(found_1TD, torch.cat([prefix_12D, table(6)[None]], dim=1))


def test_positions_that_were_trained_are_no_fixed_table() -> None:
    stored_1TD = sincos_positions(4, 16)[None] + 0.01
    with pytest.raises(InputError, match="not the fixed sin-cos table"):
        recomputed_sincos(stored_1TD, grid=6, num_prefix_tokens=0)


def test_relative_tables_are_resampled_as_timms_beit_does() -> None:
    model = Beit(
        img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, use_rel_pos_bias=True
    )
    attention = model.blocks[0].attn
    table_RH = torch.randn_like(attention.relative_position_bias_table)
    attention.relative_position_bias_table.data.copy_(table_RH)
    attention.set_window_size((6, 6))
    found_RH = resample_relative(table_RH, grid=6)
    torch.testing.assert_close(found_RH, attention.relative_position_bias_table.data)
    assert resample_relative(table_RH, grid=4) is table_RH
