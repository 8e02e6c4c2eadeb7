"""Position embeddings for another input size, square or not.

Shapes: T tokens (prefix and patches), D width, h x w patches of a map, R offsets between patches and
with [CLS], H heads, S stored offsets along a side.
"""

import dataclasses
import functools
import math
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from micl_bench.backbone.init import sincos_positions
from micl_bench.runtime.errors import InputError

Grid = int | tuple[int, int]
"""Patches per side, or rows and columns."""

# Angles reach the grid's size; stored tables were computed in single precision.
_TABLE_TOLERANCE = 1e-4
# Offsets with [CLS] have rows of their own at a table's end: to it, from it, and its own.
_CLASS_ROWS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionRule:
    """The rule by which a method's own code brings absolute positions to another grid."""

    kind: Literal["bicubic", "sincos"] = "bicubic"
    """`bicubic`: interpolate; `sincos`: compute the fixed table anew (MoCo v3)."""
    antialias: bool = True
    """timm does; MAE, DINO and their descendants do not."""
    offset: Annotated[float, Meta(ge=0, lt=1, description="a number from 0 to below 1")] = 0.0
    """Added to the number of patches per side before the scale factor is taken (DINO: 0.1)."""

    def __str__(self) -> str:
        if self.kind == "sincos":
            return "sin-cos computed anew"
        words = ["bicubic", "antialiased" if self.antialias else "not antialiased"]
        return ", ".join([*words, f"offset {self.offset:g}"] if self.offset else words)

    def brought(self, positions_1TD: Tensor, grid: Grid, num_prefix_tokens: int) -> Tensor:
        """Return positions for `grid`, the stored ones where it is theirs; prefix rows stay."""
        if self.kind == "sincos":
            return recomputed_sincos(positions_1TD, grid=grid, num_prefix_tokens=num_prefix_tokens)
        return resample_positions(
            positions_1TD,
            grid=grid,
            num_prefix_tokens=num_prefix_tokens,
            antialias=self.antialias,
            offset=self.offset,
        )


def resample_positions(
    positions_1TD: Tensor,
    *,
    grid: Grid,
    num_prefix_tokens: int = 1,
    antialias: bool = True,
    offset: float = 0.0,
) -> Tensor:
    """Resample absolute positions of a square map to `grid`, bicubic, with half-pixel centres.

    Rows of prefix tokens ([CLS]) stay. The same grid gives the same tensor. timm antialiases; MAE's
    code (He et al. 2022) and most others do not. Gradients reach the stored positions.

    Args:
        offset: added to a side of `grid` before the scale factor is taken, which then also places the
            samples. DINO's code (Caron et al. 2021) adds 0.1.
    """
    rows, columns = _sides(grid)
    prefix_1PD, patches_1LD = positions_1TD.split(
        [num_prefix_tokens, positions_1TD.shape[1] - num_prefix_tokens], dim=1
    )
    stored = math.isqrt(patches_1LD.shape[1])
    if (stored, stored) == (rows, columns):
        return positions_1TD
    map_1Dhw = patches_1LD.float().transpose(1, 2).unflatten(2, (stored, stored))
    if offset:
        scale = ((rows + offset) / stored, (columns + offset) / stored)
        resampled = F.interpolate(map_1Dhw, scale_factor=scale, mode="bicubic", antialias=antialias)
    else:
        resampled = F.interpolate(
            map_1Dhw, size=(rows, columns), mode="bicubic", antialias=antialias
        )
    patches_1LD = resampled.flatten(2).transpose(1, 2).to(positions_1TD.dtype)
    return torch.cat([prefix_1PD, patches_1LD], dim=1)


def recomputed_sincos(positions_1TD: Tensor, *, grid: Grid, num_prefix_tokens: int = 1) -> Tensor:
    """Return the fixed sin-cos table of another grid, its halves (column, row) in the stored order.

    MAE's code has the column first, MoCo v3's the row. Rows of prefix tokens stay.

    Raises:
        InputError: the stored table has neither order.
    """
    prefix_1PD, patches_LD = positions_1TD[:, :num_prefix_tokens], positions_1TD[0]
    patches_LD = patches_LD[num_prefix_tokens:]
    stored, width = math.isqrt(patches_LD.shape[0]), patches_LD.shape[1]
    if (stored, stored) == _sides(grid):
        return positions_1TD
    for shift in (0, width // 2):
        expected_LD = _sincos(stored, stored, width).roll(shift, dims=1).to(patches_LD)
        if torch.allclose(patches_LD, expected_LD, atol=_TABLE_TOLERANCE):
            new_LD = _sincos(*_sides(grid), width).roll(shift, dims=1).to(patches_LD)
            return torch.cat([prefix_1PD, new_LD[None]], dim=1)
    raise InputError(
        "the stored positions are not the fixed sin-cos table that the method computes"
    )


def resample_relative(table_RH: Tensor, *, grid: Grid) -> Tensor:
    """Resample a square map's table of relative positions (BEiT) to `grid`, as timm and BEiT's code do.

    Offsets near zero keep their resolution, far ones are spread (geometric sampling, cubic in
    BEiT's code, linear in timm's and here). A side that stays keeps its offsets (in timm's code
    only if both do); rows of [CLS] stay. Gradients reach the stored table.
    """
    rows, columns = _sides(grid)
    stored = relative_side(table_RH)
    if (stored, stored) == (rows, columns):
        return table_RH
    S = 2 * stored - 1
    table_SSH = table_RH[:-_CLASS_ROWS].float().unflatten(0, (S, S))
    # Under autocast the products would lose digits that the loading of a checkpoint keeps.
    with torch.autocast(table_RH.device.type, enabled=False):
        for axis, side in ((0, rows), (1, columns)):
            weights_XS = torch.tensor(_relative_weights(stored, side), device=table_RH.device)
            table_SSH = torch.tensordot(weights_XS, table_SSH, dims=([1], [axis]))
            table_SSH = table_SSH.movedim(0, axis)
    resampled_RH = table_SSH.flatten(0, 1).to(table_RH.dtype)
    return torch.cat([resampled_RH, table_RH[-_CLASS_ROWS:]])


def relative_side(table_RH: Tensor) -> int:
    """Return the patches per side of the square map of a table of relative positions."""
    return (math.isqrt(table_RH.shape[0] - _CLASS_ROWS) + 1) // 2


def _sides(grid: Grid) -> tuple[int, int]:
    return (grid, grid) if isinstance(grid, int) else grid


def _sincos(rows: int, columns: int, width: int) -> Tensor:
    # A place's row of the table does not depend on how many places there are.
    side = max(rows, columns)
    table_hwD = sincos_positions(side, width).unflatten(0, (side, side))
    return table_hwD[:rows, :columns].flatten(0, 1)


@functools.lru_cache(maxsize=256)
def _relative_weights(stored: int, side: int) -> np.ndarray:
    """Return the weight of each stored offset along a side for each new one: (X, S), X = 2 * side - 1.

    The stored offsets are spread so that the distances between them grow geometrically and the last
    one lies where the new ones end; between them it is linear.
    """
    if stored == side:
        return np.eye(2 * stored - 1, dtype=np.float32)
    ratio = _spread(stored - 1, side - 1)
    far = np.cumsum(ratio ** np.arange(stored - 1))
    places_S = np.concatenate([-far[::-1], [0.0], far])
    offsets_X = np.arange(1 - side, side)
    units = np.eye(2 * stored - 1)
    weights = [np.interp(offsets_X, places_S, unit_S) for unit_S in units]
    return np.stack(weights, axis=1).astype(np.float32)


def _spread(steps: int, length: int) -> float:
    """Return the ratio of a geometric series from 1 with this sum, as exactly as BEiT's code does."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**steps) / (1 - ratio) > length:
            high = ratio
        else:
            low = ratio
    return ratio
