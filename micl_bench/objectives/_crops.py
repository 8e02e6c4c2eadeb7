"""Parts of methods that see several crops of an image.

Shapes: N images, S local crops, L patches of each, D width.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import VisionTransformer
from torch import Tensor

from micl_bench.backbone import (
    Arch,
    class_or_mean,
    embed_patches,
    encode_tokens,
    resample_positions,
)
from micl_bench.data.own_crops import Crop
from micl_bench.data.visible import Patches, Seen
from micl_bench.runtime.errors import InputError


def whole_crops(arch: Arch, crops: Sequence[Crop]) -> Patches:
    """All patches, row-major, of several crops of an image, each of the input's size."""
    number = arch.num_patches
    return Patches(
        num_views=len(crops),
        per_view=number,
        of=number,
        patch_size=arch.patch_size,
        draw=functools.partial(_all_places, num_views=len(crops), num_patches=number),
        crops=tuple(crops),
    )


def local_crops(arch: Arch, crops: Sequence[Crop], *, size: int) -> Patches:
    """All patches of several crops of `size` pixels a side, for `Patches.local`.

    Raises:
        InputError: patches do not tile such a crop, or it is larger than the input.
    """
    if size % arch.patch_size or not 0 < size <= arch.img_size:
        raise InputError(
            f"local crops are of {size} pixels a side; needed: a multiple of {arch.name}'s patches, "
            f"{arch.patch_size}, of at most {arch.img_size}"
        )
    return whole_crops(dataclasses.replace(arch, img_size=size), crops)


def local_features(vit: VisionTransformer, local: Seen) -> Tensor:
    """Return features_NSD of whole local crops, as `view_features` has them.

    Positions are those of the input size, resampled as in DINO's code: bicubic, not antialiased, by a
    scale that counts 0.1 patches more a side.
    """
    assert vit.pos_embed is not None
    L, prefix = local.keep_NVK.shape[2], vit.num_prefix_tokens
    positions_1TD = resample_positions(
        vit.pos_embed,
        grid=math.isqrt(L),
        num_prefix_tokens=prefix,
        antialias=False,
        offset=0.1,
    )
    tokens_BTD = encode_tokens(
        vit,
        embed_patches(vit, local.visible_NMP),
        local.keep_NVK,
        positions_NMD=positions_1TD[0, prefix:][local.keep_NVK.flatten(1)],
    )
    return class_or_mean(vit, tokens_BTD).unflatten(0, local.keep_NVK.shape[:2])


def _all_places(
    seed: int, epoch: int, index_N: NDArray[np.integer], *, num_views: int, num_patches: int
) -> Tensor:
    return torch.arange(num_patches).repeat(len(index_N), num_views, 1)
