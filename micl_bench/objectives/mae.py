"""MAE: masked autoencoders (He et al. 2022, arXiv:2111.06377), which predict hidden patches.

The encoder sees the visible patches alone, a narrow decoder all places:

    loss   = mean over hidden patches and their pixels of (prediction - target)^2
    target = (x - mean) / sqrt(variance + 1e-6)                    of each patch, its variance unbiased

Values are those of the paper and of the command in the authors' PRETRAIN.md
(github.com/facebookresearch/mae; facts alone are taken from it). `MAE.deviations` names what differs.

Shapes: N images, K visible and H hidden patches of L, P values of a patch, T = 1 + K tokens, D width.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

import torch
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from micl_bench.backbone import (
    Arch,
    encode_patches,
    full_precision,
    init_mae_layers_,
    resample_positions,
    run_blocks,
    sincos_positions,
)
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._masked import BaselineWatch, all_in_drawn_order, then_hidden
from micl_bench.objectives._objective import Objective, ObjectiveConfig
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Count, Within
from micl_bench.views import patches_per_view

_HEAD_WIDTH = 32
"""Of the decoder: 512 / 16 in the authors' code (`models_mae.py`)."""
_EPS = 1e-6
"""Of norms, and below the variance of a patch (`models_mae.py`)."""


class MAE(Objective):
    """Predict the normalised pixels of hidden patches from the visible ones (arXiv:2111.06377).

    Example:
        bound = MAE(MAE.Config(mask_ratio=0.75)).from_checkpoint("mae_pretrain_with_decoder.pth")
        bound(images_NCHW).loss.backward()
    """

    name: ClassVar[str] = "MAE"
    numbers: ClassVar[tuple[str, ...]] = ("loss_of_patch_means",)
    """The loss of predicting the mean of each hidden patch, which no encoder is needed for."""
    deviations: ClassVar[tuple[str, ...]] = (
        "[CLS] has no weight decay, as in all runs here; in the authors' code it has.",
    )
    in_files: ClassVar[Mapping[str, str]] = {r"(?:model\.)?(mask_token|decoder_.+)": r"\1"}

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the paper, section 4.1 and table 1."""

        mask_ratio: Annotated[float, Within(above=0, below=1)] = 0.75
        """Share of patches that are hidden (section 4.1, figure 5)."""
        decoder_depth: Count = 8
        """Blocks (table 1a)."""
        decoder_width: Annotated[int, Within(_HEAD_WIDTH, 1 << 16)] = 512
        """A multiple of 32, the width of a head (table 1b)."""

        def __post_init__(self) -> None:
            super().__post_init__()
            _heads(self.decoder_width)

    config: Config

    def summary(self) -> str:
        """The mask ratio."""
        return f"mask ratio {self.config.mask_ratio}"

    def wants(self, arch: Arch) -> Patches:
        """All patches in a drawn order, of which the first are visible."""
        self._visible(arch.num_patches)
        return all_in_drawn_order(arch)

    def _visible(self, num_patches: int) -> int:
        """K; raises an InputError where no patch would be visible."""
        kept = patches_per_view(num_patches, num_views=1, mask_ratio=self.config.mask_ratio)
        if kept == num_patches:
            raise InputError(
                f"mask_ratio {self.config.mask_ratio} hides none of {num_patches} patches"
            )
        return kept

    def sees(self, arch: Arch) -> str:
        """Words on the visible and the hidden patches."""
        K, L = self._visible(arch.num_patches), arch.num_patches
        return f"{K} of {L} patches visible, the other {L - K} predicted"

    def shown(self, keep_NVK: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The visible and the hidden patches."""
        K = self._visible(keep_NVK.shape[2])
        return {"visible": keep_NVK[:, 0, :K], "predicted": keep_NVK[:, 0, K:]}

    def given(self, keep_NVK: Tensor, arch: Arch) -> Tensor:
        """Put the hidden patches behind the visible ones, keep_N1K."""
        return then_hidden(keep_NVK, arch.num_patches, self._visible(arch.num_patches))

    def added(self, vit: VisionTransformer) -> "Decoder":
        """Make the decoder."""
        return Decoder(
            vit.embed_dim,
            patch_values=vit.patch_embed.proj.weight[0].numel(),
            grid=vit.patch_embed.grid_size[0],
            depth=self.config.decoder_depth,
            width=self.config.decoder_width,
        )

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute for each image the mean squared error of its hidden patches, and that of predicting
        their means: rows_N2, in fp32 whatever the autocast."""
        places_NL = seen.keep_NVK[:, 0]
        K = self._visible(places_NL.shape[1])
        visible_NKP, hidden_NHP = seen.visible_NMP[:, :K], seen.visible_NMP[:, K:]
        tokens_NTD = vit.norm(encode_patches(vit, visible_NKP, seen.keep_NVK[:, :, :K]))
        recompute = vit.grad_checkpointing
        predicted_NHP = cast(Decoder, added)(tokens_NTD, places_NL, recompute=recompute)
        with full_precision(predicted_NHP.device):
            target_NHP = normalised_patches(hidden_NHP)
            error_NHP = predicted_NHP.to(target_NHP.dtype) - target_NHP
            return torch.stack([one.square().mean((1, 2)) for one in (error_NHP, target_NHP)], 1)

    def loss(self, rows: Tensor) -> Output:
        """The mean over hidden patches, of which every image has equally many."""
        error, of_means = rows.mean(0)
        return Output(loss=error, numbers={"loss_of_patch_means": of_means.detach()})

    def health(self, rows: Tensor) -> dict[str, float]:
        """The loss on held-out images."""
        return {"held_out_loss": rows[:, 0].mean().item()}

    def watch(self, plan: TrainingPlan) -> BaselineWatch:
        """Make the watch that warns of a decoder that says nothing."""
        return BaselineWatch(
            "loss_of_patch_means",
            "predicting the mean of each hidden patch",
            warmup_steps=plan.warmup_steps,
            steps_per_epoch=plan.steps_per_epoch,
        )

    def sized_as(self, own: dict[str, Tensor]) -> "MAE":
        """The same with the depth and width of the decoder in a file."""
        blocks = {name.split(".")[1] for name in own if name.startswith("decoder_blocks.")}
        embed = own.get("decoder_embed.weight")
        if not blocks or embed is None:
            return self
        sizes = {"decoder_depth": len(blocks), "decoder_width": len(embed)}
        return MAE(dataclasses.replace(self.config, **sizes))

    def fitted(self, own: dict[str, Tensor], vit: VisionTransformer) -> dict[str, Tensor]:
        """Bring the decoder's positions to the backbone's grid, as the encoder's are."""
        positions = own.get("decoder_pos_embed")
        if positions is None or positions.ndim != 3 or not _is_square(positions.shape[1] - 1):
            return own
        grid = vit.patch_embed.grid_size[0]
        brought = resample_positions(positions, grid=grid, antialias=False)
        return {**own, "decoder_pos_embed": brought}


class Decoder(nn.Module):
    """MAE's decoder; its modules have the names, and its outputs the order, that they have in the
    authors' files."""

    def __init__(
        self, encoder_width: int, *, patch_values: int, grid: int, depth: int, width: int
    ) -> None:
        super().__init__()
        # timm takes any function that makes a module, whatever its annotation says.
        norm: Any = functools.partial(LayerNorm, eps=_EPS)
        blocks = [Block(width, _heads(width), qkv_bias=True, norm_layer=norm) for _ in range(depth)]
        self.decoder_embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        places = torch.zeros(1, 1 + grid * grid, width)
        places[0, 1:] = sincos_positions(grid, width)
        self.decoder_pos_embed = nn.Parameter(places, requires_grad=False)
        self.decoder_blocks = nn.ModuleList(blocks)
        self.decoder_norm = norm(width)
        self.decoder_pred = nn.Linear(width, patch_values)
        nn.init.normal_(self.mask_token, std=0.02)
        init_mae_layers_(self)

    def forward(self, tokens_NTD: Tensor, places_NL: Tensor, *, recompute: bool) -> Tensor:
        """Predict the pixels of hidden patches, in the order of `normalised_patches`: predicted_NHP.

        Tokens stand in the order of `places_NL`, visible ones first: attention does not see an order,
        only positions.

        Args:
            tokens_NTD: [CLS] and visible patches, encoded, after the encoder's norm.
            recompute: as for `run_blocks`.
        """
        seen_NTD = self.decoder_embed(tokens_NTD)
        N, T, D = seen_NTD.shape
        mask_NHD = self.mask_token.to(seen_NTD.dtype).expand(N, places_NL.shape[1] + 1 - T, D)
        # As in the encoder, a cast of the positions keeps the residual stream from widening.
        positions_TD = self.decoder_pos_embed[0].to(seen_NTD.dtype)
        in_order_NL = torch.cat([torch.zeros_like(places_NL[:, :1]), places_NL + 1], dim=1)
        tokens_NLD = torch.cat([seen_NTD, mask_NHD], dim=1) + positions_TD[in_order_NL]
        tokens_NLD = run_blocks(self.decoder_blocks, tokens_NLD, recompute=recompute)
        predicted: Tensor = self.decoder_pred(self.decoder_norm(tokens_NLD[:, T:]))
        return predicted


def normalised_patches(patches_NHP: Tensor, channels: int = 3) -> Tensor:
    """The target: (x - mean) / sqrt(variance + 1e-6) of each patch over its P values (section 3).

    The variance is the unbiased one, as the authors' code computes it, and values are in the order of
    their files, (row, column, channel); here they come as (channel, row, column).

    Returns:
        target_NHP, at least fp32.
    """
    wide_NHP = patches_NHP.to(torch.promote_types(patches_NHP.dtype, torch.float32))
    values_NHP = wide_NHP.unflatten(2, (channels, -1)).transpose(2, 3).flatten(2)
    mean_NH1, variance_NH1 = values_NHP.mean(2, keepdim=True), values_NHP.var(2, keepdim=True)
    return (values_NHP - mean_NH1) / (variance_NH1 + _EPS).sqrt()


def _heads(width: int) -> int:
    if width % _HEAD_WIDTH:
        raise InputError(
            f"decoder_width is {width}; needed: a multiple of {_HEAD_WIDTH}, the width of a head"
        )
    return width // _HEAD_WIDTH


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


OBJECTIVE = MAE
