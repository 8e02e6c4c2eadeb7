"""Position embeddings for another input size.

Shapes: T tokens (prefix and patches), D width, R offsets between patches and with [CLS], H heads.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from timm.layers import resize_rel_pos_bias_table
from torch import Tensor

from micl_bench.backbone.init import sincos_positions
from micl_bench.errors import InputError

# Angles reach the grid's size; stored tables were computed in single precision.
_TABLE_TOLERANCE = 1e-4


def resample_positions(
    positions_1TD: Tensor,
    *,
    grid: int,
    num_prefix_tokens: int = 1,
    antialias: bool = True,
    offset: float = 0.0,
) -> Tensor:
    """Resample absolute positions to a `grid` x `grid` map, bicubic, with half-pixel centres.

    Rows of prefix tokens ([CLS]) stay. The same grid gives the same tensor. timm antialiases; MAE's
    code (He et al. 2022) and most others do not.

    Args:
        offset: added to `grid` before the scale factor is taken, which then also says where the
            samples lie. DINO's code (Caron et al. 2021) adds 0.1.
    """
    prefix_1PD, patches_1LD = positions_1TD.split(
        [num_prefix_tokens, positions_1TD.shape[1] - num_prefix_tokens], dim=1
    )
    stored = math.isqrt(patches_1LD.shape[1])
    if stored == grid:
        return positions_1TD
    map_1Dhw = patches_1LD.float().transpose(1, 2).unflatten(2, (stored, stored))
    if offset:
        scale = (grid + offset) / stored
        resampled = F.interpolate(
            map_1Dhw, scale_factor=(scale, scale), mode="bicubic", antialias=antialias
        )
    else:
        resampled = F.interpolate(map_1Dhw, size=(grid, grid), mode="bicubic", antialias=antialias)
    patches_1LD = resampled.flatten(2).transpose(1, 2).to(positions_1TD.dtype)
    return torch.cat([prefix_1PD, patches_1LD], dim=1)


def recomputed_sincos(positions_1TD: Tensor, *, grid: int, num_prefix_tokens: int = 1) -> Tensor:
    """The fixed sin-cos table of another grid, its halves (column, row) in the stored order.

    MAE's code has the column first, MoCo v3's the row. Rows of prefix tokens stay.

    Raises:
        InputError: the stored table is neither.
    """
    prefix_1PD, patches_LD = positions_1TD[:, :num_prefix_tokens], positions_1TD[0]
    patches_LD = patches_LD[num_prefix_tokens:]
    stored, width = math.isqrt(patches_LD.shape[0]), patches_LD.shape[1]
    for shift in (0, width // 2):
        expected_LD = sincos_positions(stored, width).roll(shift, dims=1)
        if torch.allclose(patches_LD, expected_LD, atol=_TABLE_TOLERANCE):
            new_LD = sincos_positions(grid, width).roll(shift, dims=1)
            return torch.cat([prefix_1PD, new_LD[None]], dim=1)
    raise InputError(
        "the stored positions are not the fixed sin-cos table that the method computes"
    )


def resample_relative(table_RH: Tensor, *, grid: int) -> Tensor:
    """A table of relative positions (BEiT) for a `grid` x `grid` map, as timm and BEiT's code do.

    Offsets near zero keep their resolution, far ones are spread (geometric sampling, cubic).
    """
    rows = (2 * grid - 1) ** 2 + 3
    if table_RH.shape[0] == rows:
        return table_RH
    with warnings.catch_warnings():
        # timm's interpolation indexes with lists, which torch will not take for ever.
        warnings.simplefilter("ignore", UserWarning)
        resized: Tensor = resize_rel_pos_bias_table(
            table_RH, new_window_size=(grid, grid), new_bias_shape=(rows, table_RH.shape[1])
        )
    return resized
