"""Images as patches: row-major over the grid, a patch's values in the projection's order.

Shapes: N images, C channels, L patches, P = C * p * p values per patch as (channel, row, column),
V views, K visible patches per view, M = V * K.
"""

import torch
from torch import Tensor


def patchify(images_NCHW: Tensor, patch_size: int) -> Tensor:
    """Cut images, whose sides are multiples of `patch_size` pixels, into patches_NLP."""
    N, C, H, W = images_NCHW.shape
    p = patch_size
    cut = images_NCHW.reshape(N, C, H // p, p, W // p, p)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(N, (H // p) * (W // p), C * p * p)


def unpatchify(patches_NLP: Tensor, patch_size: int, channels: int = 3) -> Tensor:
    """Put the patches of square images together again; returns images_NCHW."""
    N, L, _ = patches_NLP.shape
    side, p = round(L**0.5), patch_size
    cut = patches_NLP.reshape(N, side, side, channels, p, p)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(N, channels, side * p, side * p)


def gather_patches(images_NCHW: Tensor, keep_NVK: Tensor, patch_size: int) -> Tensor:
    """Take the visible patches of every view; returns visible_NMP, views one after the other."""
    patches_NLP = patchify(images_NCHW, patch_size)
    keep_NM1 = keep_NVK.flatten(1).unsqueeze(-1)
    return torch.gather(patches_NLP, 1, keep_NM1.expand(-1, -1, patches_NLP.shape[-1]))
