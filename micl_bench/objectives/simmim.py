"""SimMIM (Xie et al. 2022, arXiv:2111.09886): predict the pixels of masked patches by a linear layer.

A mask token takes the place of masked patches, and the whole sequence is encoded:

    loss = sum |x - prediction| m / (sum m + 1e-5) / channels    over the pixels of a batch; m: masked

Values are those of the authors' config `simmim_pretrain__vit_base__img224__800ep.yaml` over the
defaults of their `config.py` (github.com/microsoft/SimMIM, MIT; read, not copied). The network is timm's
ViT, as in every run here, and not theirs, whose files are therefore no start for it: see
`SimMIM.deviations`.

Shapes: N images, K visible and H masked patches of L, P values of a patch, U units of S patches, C
channels, D width.
"""

import dataclasses
import functools
import math
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, embed_patches, encode_tokens, full_precision
from micl_bench.backbone.drop_path import branch_rates, draw_paths, give_paths, take_paths
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._masked import BaselineWatch, all_in_drawn_order, then_hidden
from micl_bench.objectives._objective import Objective, ObjectiveConfig
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Within
from micl_bench.views import draw_views

_CHANNELS = 3
_STD = 0.02
"""Of the mask token, which is cut off there as well (`models/simmim.py`)."""
_EPS = 1e-5
"""Added to the number of masked pixels (`models/simmim.py`)."""


class SimMIM(Objective):
    """Predict the pixels of masked patches, which a mask token stands for (arXiv:2111.09886)."""

    name: ClassVar[str] = "SimMIM"
    numbers: ClassVar[tuple[str, ...]] = ("loss_of_mean_colour",)
    """The loss of predicting the mean colour of an image's visible patches everywhere."""
    deviations: ClassVar[tuple[str, ...]] = (
        "Positions are absolute, fixed sin-cos ones; the paper's ViT has none, but biases of attention "
        "by relative position that its blocks share.",
        "No layer scale, which starts at 0.1 in the authors' config.",
        "Weights start as MAE's, not from a truncated normal distribution.",
        "Crops are resampled by an antialiased bicubic filter, not a bilinear one.",
    )

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the authors' config for ViT-B."""

        mask_ratio: Annotated[float, Within(above=0, below=1)] = 0.6
        """Share of units that are masked, rounded up to whole units (`MASK_RATIO`)."""
        unit_side: Annotated[int, Within(1, 1 << 10)] = 2
        """Patches along a side of a unit: 32 pixels at the patch of 16 (`MASK_PATCH_SIZE`)."""

        drop_path: Annotated[float, Within(least=0, below=1)] = 0.1
        """Probability that a branch of the last block is left out; it grows evenly from 0 at the first
        one (`DROP_PATH_RATE`)."""

    config: Config

    def summary(self) -> str:
        """The mask ratio, and the unit that is masked."""
        side = self.config.unit_side
        return f"mask ratio {self.config.mask_ratio} in units of {side} x {side} patches"

    def wants(self, arch: Arch) -> Patches:
        """All patches, unit after unit in a drawn order, of which the first are visible."""
        grid, unit = arch.img_size // arch.patch_size, self.config.unit_side
        if grid % unit:
            raise InputError(
                f"unit_side is {unit}; needed: a divisor of the {grid} patches along an image's side"
            )
        if not self._visible(arch.num_patches):
            raise InputError(
                f"mask_ratio {self.config.mask_ratio} masks all of {(grid // unit) ** 2} units; lower "
                "mask_ratio or unit_side"
            )
        draw = functools.partial(draw_units, grid=grid, unit=unit)
        dropped_R = branch_rates(arch.depth, self.config.drop_path)
        paths = functools.partial(_draw_paths, dropped_R=dropped_R)
        return dataclasses.replace(all_in_drawn_order(arch), draw=draw, more=paths)

    def _visible(self, num_patches: int) -> int:
        """K: the patches of all units but the masked ones."""
        per_unit = self.config.unit_side**2
        num_units = num_patches // per_unit
        return per_unit * (num_units - masked_units(num_units, mask_ratio=self.config.mask_ratio))

    def sees(self, arch: Arch) -> str:
        """Words on the visible and the masked patches."""
        K, L = self._visible(arch.num_patches), arch.num_patches
        return f"{K} of {L} patches visible, the other {L - K} masked and predicted"

    def shown(self, keep_NVK: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The visible and the masked patches."""
        K = self._visible(keep_NVK.shape[2])
        return {"visible": keep_NVK[:, 0, :K], "masked": keep_NVK[:, 0, K:]}

    def given(self, keep_NVK: Tensor, arch: Arch) -> Tensor:
        """Put the masked patches behind the visible ones, keep_N1K."""
        return then_hidden(keep_NVK, arch.num_patches, self._visible(arch.num_patches))

    def added(self, vit: VisionTransformer) -> "PixelHead":
        """Make the mask token and the linear layer; branches of the backbone can be left out from here
        on."""
        take_paths(vit, self.config.drop_path)
        return PixelHead(vit.embed_dim, vit.patch_embed.proj.weight[0].numel())

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute for each image, over its masked pixels, the sum of absolute errors, their number, and
        the sum for the mean colour of the visible patches: rows_N3, in fp32 whatever the autocast."""
        head, (N, _, L) = cast(PixelHead, added), seen.keep_NVK.shape
        K = self._visible(L)
        give_paths(vit, seen.drawn["paths_NR"])
        visible_NKP, masked_NHP = seen.visible_NMP[:, :K], seen.visible_NMP[:, K:]
        embedded_NKD = embed_patches(vit, visible_NKP)
        mask_NHD = head.mask_token.to(embedded_NKD.dtype).expand(N, L - K, -1)
        tokens_NLD = torch.cat([embedded_NKD, mask_NHD], dim=1)
        encoded_NTD = vit.norm(encode_tokens(vit, tokens_NLD, seen.keep_NVK))
        predicted_NHP = head.decoder(encoded_NTD[:, 1 + K :])
        with full_precision(predicted_NHP.device):
            target_NHP = masked_NHP.to(torch.promote_types(masked_NHP.dtype, torch.float32))
            error_NHP = predicted_NHP.to(target_NHP.dtype) - target_NHP
            blind_NHCp = _by_channel(target_NHP) - mean_colour(visible_NKP)[:, None, :, None]
            error_N, blind_N = (one.abs().flatten(1).sum(1) for one in (error_NHP, blind_NHCp))
            pixels_N = torch.full_like(error_N, target_NHP[0].numel() // _CHANNELS)
            return torch.stack([error_N, pixels_N, blind_N], dim=1)

    def loss(self, rows: Tensor) -> Output:
        """Sum of |x - prediction| over masked pixels / (their number + 1e-5) / channels; the number is
        that of this process."""
        error, pixels, blind = rows.sum(0)
        share = 1 / (pixels + _EPS) / _CHANNELS
        return Output(loss=error * share, numbers={"loss_of_mean_colour": (blind * share).detach()})

    def health(self, rows: Tensor) -> dict[str, float]:
        """The loss on held-out images."""
        return {"held_out_loss": self.loss(rows).loss.item()}

    def watch(self, plan: TrainingPlan) -> BaselineWatch:
        """Make the watch that warns of a network that says nothing."""
        return BaselineWatch(
            "loss_of_mean_colour",
            "predicting the mean colour of the visible patches",
            warmup_steps=plan.warmup_steps,
            steps_per_epoch=plan.steps_per_epoch,
        )


class PixelHead(nn.Module):
    """The mask token, and the layer from a token to the pixels of its patch (channel, row, column): the
    1 x 1 convolution and PixelShuffle of the authors' code, with its initialisation."""

    def __init__(self, width: int, patch_values: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.mask_token, std=_STD, a=-_STD, b=_STD)
        self.decoder = nn.Linear(width, patch_values)


def masked_units(num_units: int, *, mask_ratio: float) -> int:
    """The number of masked units, rounded up as the authors' `MaskGenerator` does: 30 of 49 at 0.6."""
    return math.ceil(num_units * mask_ratio)


def draw_units(
    seed: int, epoch: int, index_N: NDArray[np.integer], *, grid: int, unit: int
) -> Tensor:
    """Draw an order of the square units of a grid, by (seed, epoch, index).

    Args:
        grid: patches along a side of the image.
        unit: patches along a side of a unit.

    Returns:
        places_N1L, int64: the patches of all units, unit after unit.
    """
    side = grid // unit
    patches = torch.arange(grid * grid).reshape(side, unit, side, unit)
    patches_US = patches.transpose(1, 2).reshape(side * side, unit * unit)
    order_NU = draw_views(
        seed, epoch, index_N, num_patches=side * side, num_views=1, mask_ratio=0.0
    )[:, 0]
    return patches_US[order_NU].flatten(1).unsqueeze(1)


def _draw_paths(
    seed: int, epoch: int, index_N: NDArray[np.integer], *, dropped_R: NDArray[np.floating]
) -> dict[str, Tensor]:
    return {"paths_NR": draw_paths(seed, epoch, index_N, dropped_R)}


def mean_colour(patches_NKP: Tensor) -> Tensor:
    """The mean of each channel over some patches of an image: colour_NC."""
    return _by_channel(patches_NKP).mean((1, 3))


def _by_channel(patches_NKP: Tensor) -> Tensor:
    return patches_NKP.unflatten(2, (_CHANNELS, -1))


OBJECTIVE = SimMIM
