"""Views of an image: random subsets of its patches that share none (arXiv:2411.09858, step 1).

Shapes: N images, L patches, V views, K patches per view.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.randomness import Stream, words

# floor(L * (1 - mask_ratio)) is meant in real numbers: 1 - 0.9 is a little under 0.1 in binary, and
# 10 * (1 - 0.9) must give 1, not 0. One part in a million is far under one patch and over rounding.
_ROUNDING = 1e-6


def patches_per_view(num_patches: int, *, num_views: int = 2, mask_ratio: float) -> int:
    """K = floor(L * (1 - mask_ratio)) // V; 24, 19, 9 for L = 196, V = 2, ratio 0.75, 0.8, 0.9.

    Raises:
        InputError: no view, a ratio outside [0, 1), or no patch left for a view.
    """
    if num_views < 1:
        raise InputError(f"num_views is {num_views}; it must be 1 or more")
    if not 0.0 <= mask_ratio < 1.0:
        raise InputError(f"mask_ratio is {mask_ratio}; it must be at least 0 and below 1")
    kept = kept_of(num_patches, mask_ratio) // num_views
    if kept < 1:
        raise InputError(
            f"mask_ratio {mask_ratio} leaves no patch for each of {num_views} views of {num_patches} "
            "patches; lower mask_ratio or num_views"
        )
    return kept


def kept_of(number: int, ratio: float) -> int:
    """floor(number * (1 - ratio)): what is left of a number when this share of it is dropped."""
    return math.floor(number * (1.0 - ratio) + _ROUNDING)


def sample_views(noise_NL: Tensor, *, num_views: int = 2, mask_ratio: float) -> Tensor:
    """Choose the visible patches of every view: indices by ascending noise, split in order.

    Args:
        noise_NL: independent noise, one number per patch; its order is the random permutation.

    Returns:
        keep_NVK, int64 patch indices in row-major order of the grid; an image's views are disjoint.
    """
    N, L = noise_NL.shape
    K = patches_per_view(L, num_views=num_views, mask_ratio=mask_ratio)
    # Stable, so that equal noise gives the same views on every device.
    order_NL = torch.argsort(noise_NL, dim=1, stable=True)
    return order_NL[:, : num_views * K].reshape(N, num_views, K)


def draw_views(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    *,
    num_patches: int,
    num_views: int = 2,
    mask_ratio: float,
) -> Tensor:
    """`sample_views` of noise that is a function of (seed, epoch, index) alone: keep_NVK.

    Noise and patch share a word, the patch in its low bits: no two are equal, and sorting the words
    sorts the patches, which is several times faster than an argsort.
    """
    K = patches_per_view(num_patches, num_views=num_views, mask_ratio=mask_ratio)
    low = np.uint64((1 << max(1, (num_patches - 1).bit_length())) - 1)
    noise_NL = words(seed, epoch, index_N, stream=Stream.VIEWS, count=num_patches) & ~low
    noise_NL |= np.arange(num_patches, dtype=np.uint64)
    noise_NL.sort(axis=1)
    keep_NM = (noise_NL[:, : num_views * K] & low).astype(np.int64)
    return torch.from_numpy(keep_NM).reshape(len(index_N), num_views, K)
