"""Parts of methods that see several crops of an image.

Shapes: N images.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.backbone import Arch
from micl_bench.data.own_crops import Crop
from micl_bench.data.visible import Patches


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


def _all_places(
    seed: int, epoch: int, index_N: NDArray[np.integer], *, num_views: int, num_patches: int
) -> Tensor:
    return torch.arange(num_patches).repeat(len(index_N), num_views, 1)
