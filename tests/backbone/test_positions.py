"""Positions for another size: against timm, against cubic convolution written out, and formulas."""

import math

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.beit import Beit

from micl_bench.backbone import resample_positions, sincos_positions
from micl_bench.backbone.positions import recomputed_sincos, resample_relative
from micl_bench.runtime.errors import InputError


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


@pytest.mark.parametrize("grid", [(5, 9), (7, 9), (4, 3)])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_rectangular_grids_are_sampled_along_each_side(
    grid: tuple[int, int], offset: float
) -> None:
    stored_1TD = torch.randn(1, 1 + 49, 3)
    found_1TD = resample_positions(stored_1TD, grid=grid, antialias=False, offset=offset)
    rows, columns = (_weights(7, side, (side + offset) / 7) for side in grid)
    map_hwD = stored_1TD[0, 1:].reshape(7, 7, 3).numpy()
    expected = np.einsum("yh,xw,hwd->yxd", rows, columns, map_hwD).reshape(-1, 3)
    np.testing.assert_allclose(found_1TD[0, 1:].numpy(), expected, atol=1e-5)


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


@pytest.mark.parametrize("grid", [(6, 7), (3, 2), (9, 5)])
def test_relative_tables_of_rectangles_are_timms_too(grid: tuple[int, int]) -> None:
    model = Beit(
        img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, use_rel_pos_bias=True
    )
    attention = model.blocks[0].attn
    table_RH = torch.randn_like(attention.relative_position_bias_table)
    attention.relative_position_bias_table.data.copy_(table_RH)
    attention.set_window_size(grid)
    found_RH = resample_relative(table_RH, grid=grid)
    torch.testing.assert_close(
        found_RH, attention.relative_position_bias_table.data, atol=1e-5, rtol=1e-5
    )


def test_a_side_that_stays_keeps_its_offsets() -> None:
    # One value for each row of offsets: as many columns as before, or more, change nothing.
    rows = torch.randn(7, 1).expand(7, 7).reshape(-1, 1)
    table_RH = torch.cat([rows, torch.randn(3, 1)])
    found_RH = resample_relative(table_RH, grid=(4, 9))
    expected = torch.cat([rows[::7].expand(7, 17).reshape(-1, 1), table_RH[-3:]])
    torch.testing.assert_close(found_RH, expected)


def test_a_table_of_as_many_rows_for_another_shape_is_resampled() -> None:
    # 5 x 5 patches and 2 x 14 have 81 offsets each.
    table_RH = torch.randn(84, 2)
    assert not torch.equal(resample_relative(table_RH, grid=(2, 14)), table_RH)


def test_gradients_of_relative_tables_are_those_of_a_linear_map() -> None:
    table_RH = torch.randn(52, 2, requires_grad=True)
    ones, scaled = torch.ones(52, 2), torch.randn(52, 2)
    weights = torch.randn(11 * 7 + 3, 2)
    (resample_relative(table_RH, grid=(6, 4)) * weights).sum().backward()
    assert table_RH.grad is not None
    # The slope along any direction is the answer to that direction.
    for direction in (ones, scaled):
        slope = (table_RH.grad * direction).sum()
        expected = (resample_relative(direction, grid=(6, 4)) * weights).sum()
        torch.testing.assert_close(slope, expected, atol=1e-4, rtol=1e-4)


def test_fixed_tables_of_rectangles_are_the_formula() -> None:
    stored_1TD = sincos_positions(4, 16)[None]
    found_LD = recomputed_sincos(stored_1TD, grid=(3, 6), num_prefix_tokens=0)[0]
    for row, column, place in ((0, 0, 0), (2, 5, 17), (1, 4, 10)):
        frequency_F = 10000.0 ** (-np.arange(4) / 4)
        waves = [f(place * frequency_F) for place in (column, row) for f in (np.sin, np.cos)]
        np.testing.assert_allclose(found_LD[place].numpy(), np.concatenate(waves), atol=1e-6)
    assert recomputed_sincos(stored_1TD, grid=(4, 4), num_prefix_tokens=0) is stored_1TD
