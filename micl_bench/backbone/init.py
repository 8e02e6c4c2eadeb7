"""The initialisation of MAE (He et al. 2022), which MiCL needs, with fixed sin-cos positions."""

import numpy as np
import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.runtime.errors import InputError


def sincos_positions(grid: int, width: int) -> Tensor:
    """Return 2-D sin-cos positions (Chen et al. 2021, MoCo v3): (grid * grid, width), row-major, fp32.

    The first half of the channels encodes the column, the second the row, each as
    [sin(p * w_0) ..., cos(p * w_0) ...] with w_i = 10000 ** (-i / (width / 4)).

    Raises:
        InputError: the width is no multiple of 4.
    """
    if width % 4:
        raise InputError(f"sin-cos positions need a width that is a multiple of 4, got {width}")
    # In float64, rounded once at the end: the angles reach `grid`, where fp32 loses digits.
    frequency_F = 10000.0 ** (-np.arange(width // 4) / (width / 4))
    row_L, column_L = (axis.reshape(-1) for axis in np.mgrid[:grid, :grid])
    angles = [np.outer(place_L, frequency_F) for place_L in (column_L, row_L)]
    waves = [wave for angle_LF in angles for wave in (np.sin(angle_LF), np.cos(angle_LF))]
    return torch.from_numpy(np.concatenate(waves, axis=1)).float()


@torch.no_grad()
def init_mae_(vit: VisionTransformer, *, generator: torch.Generator | None = None) -> None:
    """Initialise in place: Xavier-uniform linear layers and patch projection, zero biases.

    [CLS], where there is one, has std 0.02, norms are the identity, positions are fixed sin-cos and no
    parameter to train, the position row of [CLS] is zero.
    """
    init_mae_layers_(vit, generator=generator)
    projection = vit.patch_embed.proj
    # As one matrix over a flattened patch: the fans of a convolution would count its positions.
    nn.init.xavier_uniform_(
        projection.weight.view(projection.weight.shape[0], -1), generator=generator
    )
    nn.init.zeros_(projection.bias)
    assert vit.pos_embed is not None
    if vit.cls_token is not None:
        nn.init.normal_(vit.cls_token, std=0.02, generator=generator)
    grid = vit.patch_embed.grid_size[0]
    vit.pos_embed.zero_()
    vit.pos_embed[0, vit.num_prefix_tokens :] = sincos_positions(grid, vit.embed_dim)
    vit.pos_embed.requires_grad_(False)


@torch.no_grad()
def init_mae_layers_(module: nn.Module, *, generator: torch.Generator | None = None) -> None:
    """Initialise the layers of any module in place as MAE's: Xavier-uniform linear layers, zero biases,
    norms that are the identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
