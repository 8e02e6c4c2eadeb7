"""Rectangles of patches as I-JEPA draws them: some to predict, and one, less these, as the context.

As in the code of Assran et al. (2023): the sizes are one draw for a whole batch, the places one per
image. A target's share of the crop and its aspect come from one and the same number. No rectangle is as
long as a side of the grid, and of the places that are left, the last one, at the lower or right edge, is
not drawn. All contexts of a batch are cut to the smallest one's number of patches, row by row from the
top.

Otherwise than there, the whole batch is one, whatever the number of processes; and an image whose
context is too small at each of 20 places gets all patches outside of its targets, where the code lets
the context overlap with one target, then with two, and so on.

Shapes: N images of a batch, T targets, K patches of a context, A of a target, L of a crop.
"""

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream, uniforms

Range = tuple[float, float]
_PLACES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """Draws the blocks of a batch."""

    side: int
    """Patches of a side of the crop."""
    num_targets: int
    target_share: Range
    """Patches of a target, as a share of the crop's."""
    target_aspect: Range
    """Rows over columns of a target."""
    context_share: Range
    """Patches of the context's square, as a share of the crop's, before the targets are taken out."""
    min_context: int
    """A context has more patches than these."""

    def __post_init__(self) -> None:
        ends = (self._target(share) for share in np.linspace(0, 1, 1001))
        largest = max(rows * columns for rows, columns in ends)
        left = self.side**2 - self.num_targets * largest
        if left <= self.min_context:
            raise InputError(
                f"{self.num_targets} targets of up to {largest} of {self.side**2} patches may leave "
                f"{max(left, 0)} for the context; needed: more than {self.min_context}"
            )

    def __call__(self, seed: int, epoch: int, index_N: NDArray[np.integer]) -> dict[str, Tensor]:
        """Draw `context_NK`, ascending, and `targets_NTA` of the images of a whole batch, as places,
        int64, row-major in the grid."""
        T, L = self.num_targets, self.side**2
        count = 2 + 2 * T + 2 * _PLACES
        drawn_NX = uniforms(seed, epoch, index_N, stream=Stream.BLOCKS, count=count)
        # The sizes are the first image's draw.
        target, context = self._target(drawn_NX[0, 0]), self._context(drawn_NX[0, 1])
        targets_NTA = self._placed(drawn_NX[:, 2 : 2 + 2 * T], target)
        open_NL = ~_mask(targets_NTA.reshape(len(index_N), -1), L)
        context_NL, missing = open_NL.copy(), np.arange(len(index_N))
        for place in range(2 + 2 * T, count, 2):
            square_nA = self._placed(drawn_NX[missing, place : place + 2], context)[:, 0]
            inside_nL = _mask(square_nA, L) & open_NL[missing]
            is_large_n = inside_nL.sum(1) > self.min_context
            context_NL[missing[is_large_n]] = inside_nL[is_large_n]
            missing = missing[~is_large_n]
            if not len(missing):
                break
        K = int(context_NL.sum(1).min())
        # Stable: the places that are in, ascending, then the others.
        context_NK = np.argsort(~context_NL, axis=1, kind="stable")[:, :K]
        return {
            "context_NK": torch.from_numpy(context_NK),
            "targets_NTA": torch.from_numpy(targets_NTA),
        }

    def _target(self, drawn: float) -> tuple[int, int]:
        return block_size(
            self.side,
            share=_between(self.target_share, drawn),
            aspect=_between(self.target_aspect, drawn),
        )

    def _context(self, drawn: float) -> tuple[int, int]:
        return block_size(self.side, share=_between(self.context_share, drawn), aspect=1.0)

    def _placed(self, drawn_NX: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.int64]:
        """The patches of blocks of this size, X / 2 per image, whose corners are two draws each."""
        rows, columns = size
        free = np.array([self.side - rows, self.side - columns])
        corner_NX2 = (drawn_NX.reshape(len(drawn_NX), -1, 2) * free).astype(np.int64)
        first_NX11 = (corner_NX2 @ np.array([self.side, 1]))[:, :, None, None]
        inside_rc = self.side * np.arange(rows)[:, None] + np.arange(columns)
        patches: NDArray[np.int64] = (first_NX11 + inside_rc).reshape(*corner_NX2.shape[:2], -1)
        return patches


def block_size(side: int, *, share: float, aspect: float) -> tuple[int, int]:
    """Rows and columns of a block with this share of a square grid's patches, rounded; each is from 1 to
    one less than the grid's side."""
    area = int(side * side * share)
    rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return min(max(rows, 1), side - 1), min(max(columns, 1), side - 1)


def _between(ends: Range, drawn: float) -> float:
    return ends[0] + drawn * (ends[1] - ends[0])


def _mask(places_NA: NDArray[np.int64], num_patches: int) -> NDArray[np.bool_]:
    mask_NL = np.zeros((len(places_NA), num_patches), dtype=bool)
    np.put_along_axis(mask_NL, places_NA, values=True, axis=1)
    return mask_NL
