"""Feature maps of a plain ViT, brought from its one patch size to a pyramid of strides.

As BEiT (Bao et al. 2022, semantic segmentation) and MAE (He et al. 2022) do: transposed convolutions
for finer maps, max-pooling for coarser ones. A map of stride s has ceil(H / s) rows.
"""

import math

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn


class Rescale(nn.Module):
    """One map from stride `patch_size` to `stride`; shapes (N, D, h, w) in and out."""

    def __init__(self, width: int, *, patch_size: int, stride: int) -> None:
        super().__init__()
        self.patch_size, self.stride = patch_size, stride
        self.layers = _layers(width, patch_size, stride)

    def forward(self, map_NDhw: Tensor) -> Tensor:
        """Rescale by `patch_size / stride`."""
        map_NDhw = self.layers(map_NDhw)
        if _is_power_of_two(self.patch_size, self.stride):
            return map_NDhw
        # Patch 14: no whole number of doublings leads to 4, 8, 16 or 32.
        factor = self.patch_size / self.stride
        size = [math.ceil(side * factor) for side in map_NDhw.shape[-2:]]
        return F.interpolate(map_NDhw, size=size, mode="bilinear")


def _is_power_of_two(patch_size: int, stride: int) -> bool:
    return math.log2(patch_size / stride).is_integer()


def _layers(width: int, patch_size: int, stride: int) -> nn.Module:
    if not _is_power_of_two(patch_size, stride) or patch_size == stride:
        return nn.Identity()
    if stride > patch_size:
        factor = stride // patch_size
        return nn.MaxPool2d(factor, ceil_mode=True)
    doublings = int(math.log2(patch_size / stride))
    layers: list[nn.Module] = []
    for _ in range(doublings - 1):
        layers += [_double(width), LayerNorm2d(width), nn.GELU()]
    return nn.Sequential(*layers, _double(width))


def _double(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)
