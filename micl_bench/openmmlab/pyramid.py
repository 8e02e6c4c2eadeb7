"""Feature maps of a plain ViT, brought from its one patch size to a pyramid of strides.

`Rescale` treats the maps of four blocks as BEiT and MAE do, `SimpleFeaturePyramid` the last one as
ViTDet does. A map of stride s has ceil(H / s) rows. `norm_cfg=dict(type="MiCLLayerNorm2d", eps=1e-6)`
gives any head or neck the layer norm over channels at each place, which mmcv alone has not.

Shapes: N images, D width, h x w patches, C channels of the pyramid.
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from micl_bench.runtime.errors import InputError

# In mmengine's root registry, where mmcv looks, and under a name that neither library will take.
MODELS.register_module("MiCLLayerNorm2d", module=LayerNorm2d)


class Rescale(nn.Module):
    """One map from stride `patch_size` to `stride`; shapes (N, D, h, w) in and out.

    Transposed convolutions for finer maps, max-pooling for coarser ones, as in BEiT's and MAE's
    code for UperNet. Between two transposed convolutions theirs has synchronised batch norm, this
    one a layer norm over channels, as ViTDet's pyramid: it does not depend on the other images of a
    batch, nor on the number of processes. Where the two strides are no power of 2 apart (patch 14),
    the map is interpolated instead.
    """

    def __init__(self, width: int, *, patch_size: int, stride: int) -> None:
        super().__init__()
        self.patch_size, self.stride = patch_size, stride
        self.layers: nn.Module = nn.Identity()
        if _is_power_of_two(patch_size, stride) and patch_size != stride:
            self.layers = nn.Sequential(*_to_stride(width, patch_size, stride, halve=False)[0])

    def forward(self, map_NDhw: Tensor) -> Tensor:
        """Rescale by `patch_size / stride`."""
        map_NDhw = self.layers(map_NDhw)
        if _is_power_of_two(self.patch_size, self.stride):
            return map_NDhw
        # Patch 14: no whole number of doublings leads to 4, 8, 16 or 32. Pixels of the result are
        # exactly a stride apart; the border is repeated, so that there are enough of them.
        factor = self.patch_size / self.stride
        rows, columns = (math.ceil(side * factor) for side in map_NDhw.shape[-2:])
        beyond = math.ceil(1 / factor)
        longer_NDhw = F.pad(map_NDhw, (0, beyond, 0, beyond), mode="replicate")
        fine_NDhw = F.interpolate(longer_NDhw, scale_factor=factor, mode="bilinear")
        return fine_NDhw[..., :rows, :columns]


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """The neck of ViTDet (Li et al. 2022, section 3): every level from the last map alone.

    A level twice as fine is a transposed convolution of stride 2, one four times as fine two of
    them with layer norm and GELU between, the map's own stride is the map, coarser ones are
    max-pooled; then a 1 x 1 and a 3 x 3 convolution to C channels, each followed by layer norm over
    channels and without a bias. Each transposed convolution halves the channels, as in ViTDet's
    released code. Levels beyond `strides` take every second pixel of the last one, as there.
    Registered in mmengine's root registry.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        patch_size: int = 16,
        strides: Sequence[int] = (4, 8, 16, 32),
        num_outs: int = 5,
    ) -> None:
        """Build a level for each stride.

        Args:
            in_channels: D, the ViT's width.
            out_channels: C.
            patch_size: stride of the map that comes in, the only one of the backbone's `strides`.
            strides: pixels between neighbours of each level, finest first.
            num_outs: levels that come out, those beyond `strides` included.

        Raises:
            InputError: a stride that is no power of 2 from `patch_size`, or fewer levels than strides.
        """
        super().__init__()
        refused = [stride for stride in strides if not _is_power_of_two(patch_size, stride)]
        if refused:
            raise InputError(
                f"no whole number of doublings leads from stride {patch_size} to {refused[0]}; give "
                "the backbone strides=(16,), which interpolates its map, and the neck patch_size=16"
            )
        if num_outs < len(strides):
            raise InputError(f"num_outs is {num_outs}, but there are {len(strides)} strides")
        self.num_further = num_outs - len(strides)
        self.levels = nn.ModuleList(
            _level(in_channels, out_channels, patch_size, stride) for stride in strides
        )

    def forward(self, maps: tuple[Tensor]) -> tuple[Tensor, ...]:
        """Make of the backbone's one map (N, D, h, w) the levels (N, C, ..., ...), finest first.

        Raises:
            InputError: the backbone gives several maps, of which all but one would be for nothing.
        """
        if len(maps) != 1:
            raise InputError(
                f"the simple pyramid reads one map, and the backbone gives {len(maps)}; give it "
                "strides=(16,)"
            )
        levels = [level(maps[0]) for level in self.levels]
        for _ in range(self.num_further):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return tuple(levels)


def _level(width: int, channels: int, patch_size: int, stride: int) -> nn.Sequential:
    layers, width = _to_stride(width, patch_size, stride, halve=True)
    return nn.Sequential(
        *layers,
        nn.Conv2d(width, channels, kernel_size=1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(channels),
    )


def _to_stride(
    width: int, patch_size: int, stride: int, *, halve: bool
) -> tuple[list[nn.Module], int]:
    """Layers between two strides that are whole doublings apart, and the channels that come out."""
    if stride > patch_size:
        # Pixels at the lower and right edge are not lost where the size is no multiple.
        return [nn.MaxPool2d(stride // patch_size, ceil_mode=True)], width
    layers: list[nn.Module] = []
    for doubling in range(round(math.log2(patch_size / stride))):
        layers += [LayerNorm2d(width), nn.GELU()] if doubling else []
        channels = width // 2 if halve else width
        layers.append(nn.ConvTranspose2d(width, channels, kernel_size=2, stride=2))
        width = channels
    return layers, width


def _is_power_of_two(patch_size: int, stride: int) -> bool:
    return math.log2(patch_size / stride).is_integer()
