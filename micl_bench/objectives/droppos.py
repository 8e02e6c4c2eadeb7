"""DropPos: find the places of patches whose positions were dropped (Wang et al., NeurIPS 2023).

A random part of the patches is visible, and most of these lose their position: a learnt token is added
in its stead. The encoder sees the visible patches; a small decoder, without positions of its own,
classifies each of those that lost theirs among all L places:

    loss     = sum_q a_q CE_q / sum_q a_q                            over all patches q of the batch
    CE_q     = - sum_j w(y_q, j) log softmax(logits_q)_j              y_q: the true place of q
    w(y, j)  = exp(-dist(y, j)^2 / sigma^2) / sum_k exp(-dist(y, k)^2 / sigma^2)
    sigma    falls linearly to 0 over the training; dist is that of rows and columns, in patches
    a_q      = softmax_p(cos([CLS], p) / 0.1) at q, divided by its sum over the visible patches

[CLS] and patches p are those of the whole image, with all positions, encoded by the same weights without
gradient. So a step takes all patches, of which the encoder is trained on the visible ones.

Paper: arXiv:2309.03576. Values and formulas: the authors' code (github.com/Haochen-Wang409/DropPos at
9cbc5fe, Apache-2.0; read, not copied). `DropPos.deviations` names what differs from it.

Shapes: N images, L patches, K visible ones, Q of them without position, T tokens, D width.
"""

import dataclasses
import functools
import math
from typing import Annotated, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from micl_bench.backbone import (
    Arch,
    embed_patches,
    encode_patches,
    encode_tokens,
    full_precision,
    init_mae_layers_,
    normalised,
    run_blocks,
)
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._masked import BaselineWatch, all_in_drawn_order, then_hidden
from micl_bench.objectives._objective import Objective, ObjectiveConfig, Watch
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.distributed import mean
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Count, Fraction, NotNegative, Positive, Within
from micl_bench.views import kept_of, patches_per_view

# The smallest sigma that is computed with: of any smaller one the other places get exactly nothing.
_LEAST_SIGMA = 1e-6


class DropPos(Objective):
    """Classify the places of patches whose positions were dropped (arXiv:2309.03576)."""

    name: ClassVar[str] = "DropPos"
    numbers: ClassVar[tuple[str, ...]] = ("place_top1", "loss_of_a_guess")
    """Patches without position whose place is found [%], weighted as in the loss; the loss of giving
    every place the same probability, log(L)."""
    deviations: ClassVar[tuple[str, ...]] = (
        "Smoothed labels of a patch sum to 1; the authors' code divides that of place j by the sum "
        "around j, so that those near the border do not.",
        "Sigma falls with every step; in the authors' code with every epoch.",
        "The weighted mean is over the batch of all processes; in the authors' code each takes that of "
        "its own images.",
        "Gradients are not clipped tensor by tensor; in the authors' code each is, to a norm of 5.",
        "[CLS] has no weight decay, as in all runs here; in the authors' code it has.",
    )

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the authors' scripts/pretrain_base.sh."""

        mask_ratio: Annotated[float, Within(least=0, below=1)] = 0.75
        """Share of patches that the encoder is not trained on."""
        position_drop_ratio: Fraction = 0.75
        """Share of the visible patches that lose their position."""
        sigma: NotNegative = 1.0
        """Width of the smoothing at the start, in patches (`--label_smoothing_sigma 1 --sigma_decay`);
        0 for none."""
        weight_temperature: Positive = 0.1
        """Temperature of the softmax over patches of their cosine with [CLS]: fixed in the code."""
        decoder_depth: Count = 2
        decoder_width: Count = 512
        decoder_heads: Count = 16
        """Blocks, width and heads of the decoder: `dec512d2b`."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.decoder_width % self.decoder_heads:
                raise InputError(
                    f"decoder_width is {self.decoder_width}; needed: a multiple of decoder_heads, "
                    f"{self.decoder_heads}"
                )

    config: Config

    def summary(self) -> str:
        """The two ratios."""
        config = self.config
        return f"mask ratio {config.mask_ratio}, {config.position_drop_ratio} of positions dropped"

    def wants(self, arch: Arch) -> Patches:
        """All patches in a drawn order: the first are visible, the first of these keep a position."""
        self.require_tokens(arch)
        self.parts(arch.num_patches)
        return all_in_drawn_order(arch)

    def parts(self, num_patches: int) -> tuple[int, int]:
        """Number of visible patches, K, and of those of them that keep their position, K - Q; 49 and 12
        of 196.

        Raises:
            InputError: no patch is left to be visible, or none of them loses its position.
        """
        config = self.config
        visible = patches_per_view(num_patches, num_views=1, mask_ratio=config.mask_ratio)
        placed = kept_of(visible, config.position_drop_ratio)
        if placed == visible:
            raise InputError(
                f"position_drop_ratio {config.position_drop_ratio} takes the position of none of "
                f"{visible} visible patches; raise it"
            )
        return visible, placed

    def sees(self, arch: Arch) -> str:
        """Words on the visible patches, and on those that lose their position."""
        K, placed = self.parts(arch.num_patches)
        return f"{K} of {arch.num_patches} patches visible, {K - placed} of them without position"

    def shown(self, keep_NVK: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The visible patches that keep their position, where there are any, and those that lose it."""
        order_NL = keep_NVK[:, 0]
        K, placed = self.parts(order_NL.shape[1])
        parts = {"with position": order_NL[:, :placed], "without": order_NL[:, placed:K]}
        return {name: part for name, part in parts.items() if part.shape[1]}

    def given(self, keep_NVK: Tensor, arch: Arch) -> Tensor:
        """Put the hidden patches behind the visible ones, of which the first keep their position."""
        return then_hidden(keep_NVK, arch.num_patches, self.parts(arch.num_patches)[0])

    def added(self, vit: VisionTransformer) -> "Decoder":
        """Make the decoder, with the token of dropped positions."""
        config = self.config
        return Decoder(
            vit.embed_dim,
            num_places=vit.patch_embed.num_patches,
            depth=config.decoder_depth,
            width=config.decoder_width,
            num_heads=config.decoder_heads,
        )

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute of each image, in fp32 whatever the autocast: the weighted sum of its patches' losses,
        the sum of their weights, the part of that sum whose places are found, and the sum of a guess's
        losses: (N, 4)."""
        decoder, order_NL = cast(Decoder, added), seen.keep_NVK[:, 0]
        L = order_NL.shape[1]
        K, placed = self.parts(L)
        with torch.no_grad():
            whole_NTD = normalised(vit, encode_patches(vit, seen.visible_NMP, seen.keep_NVK))
            weight_NL = class_weights(whole_NTD, temperature=self.config.weight_temperature)
            weight_NQ = weight_NL[:, placed:K] / weight_NL[:, :K].sum(1, keepdim=True)
        keep_NK, place_NQ = order_NL[:, :K], order_NL[:, placed:K]
        assert vit.pos_embed is not None
        dropped_NQD = decoder.dropped_position.expand(*place_NQ.shape, -1)
        position_NKD = torch.cat([vit.pos_embed[0, 1:][keep_NK[:, :placed]], dropped_NQD], dim=1)
        visible_NKD = embed_patches(vit, seen.visible_NMP[:, :K])
        tokens_NTD = encode_tokens(vit, visible_NKD, keep_NK[:, None], positions_NMD=position_NKD)
        logits_NQL = decoder(
            normalised(vit, tokens_NTD), first=1 + placed, recompute=vit.grad_checkpointing
        )
        with full_precision(logits_NQL.device):
            logits_NQL = _wide(logits_NQL)
            label_LL = smoothed_places(L, sigma=self.config.sigma * (1 - decoder.progress))
            loss_NQ = -(label_LL[place_NQ] * F.log_softmax(logits_NQL, dim=-1)).sum(-1)
            found_NQ = (logits_NQL.argmax(-1) == place_NQ).to(loss_NQ.dtype)
            one_NQ = torch.ones_like(loss_NQ)
            of_patch = torch.stack([loss_NQ, one_NQ, found_NQ, math.log(L) * one_NQ], dim=-1)
            return (weight_NQ[..., None] * of_patch).sum(1)

    def loss(self, rows: Tensor) -> Output:
        """This process's part of the weighted mean over the patches of the whole batch."""
        lost, weight, found, guess = rows.sum(0)
        weight = mean(weight)
        numbers = (100 * found.detach() / weight, guess.detach() / weight)
        return Output(loss=lost / weight, numbers=dict(zip(self.numbers, numbers, strict=True)))

    def after_step(
        self, vit: VisionTransformer, added: nn.Module, rows: Tensor, progress: float
    ) -> None:
        """Note how far the run is: the smoothing of the next step follows from it."""
        cast(Decoder, added).progress.fill_(progress)

    def health(self, rows: Tensor) -> dict[str, float]:
        """Patches of held-out images whose place is found [%]."""
        _, weight, found, _ = rows.double().sum(0)
        return {"held_out_place_top1": (100 * found / weight).item()}

    def watch(self, plan: TrainingPlan) -> Watch:
        """Make the watch that warns when places are only guessed."""
        return BaselineWatch(
            "loss_of_a_guess",
            "giving every place the same probability",
            warmup_steps=plan.warmup_steps,
            steps_per_epoch=plan.steps_per_epoch,
        )


class Decoder(nn.Module):
    """Classifies the places of tokens, to which it adds no position of its own.

    It also holds what else the method learns or keeps: the token in the stead of dropped positions, and
    the share of the run's steps that are done.
    """

    def __init__(
        self, encoder_width: int, *, num_places: int, depth: int, width: int, num_heads: int
    ) -> None:
        super().__init__()
        norm: Any = functools.partial(LayerNorm, eps=1e-6)
        # With the axes of [CLS]: a matrix to the optimiser, which decays it, as the authors' code does.
        self.dropped_position = nn.Parameter(torch.zeros(1, 1, encoder_width).normal_(std=0.02))
        self.embed = nn.Linear(encoder_width, width)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.norm = norm(width)
        self.classifier = nn.Linear(width, num_places)
        init_mae_layers_(self)
        self.progress: Tensor
        self.register_buffer("progress", torch.zeros(()))

    def forward(self, tokens_NTD: Tensor, *, first: int, recompute: bool) -> Tensor:
        """Logits over places of the tokens from the one numbered `first` on, logits_NQL."""
        tokens_NTD = run_blocks(self.blocks, self.embed(tokens_NTD), recompute=recompute)
        logits_NQL: Tensor = self.classifier(self.norm(tokens_NTD[:, first:]))
        return logits_NQL


def class_weights(tokens_NTD: Tensor, *, temperature: float) -> Tensor:
    """softmax over patches of cos([CLS], patch) / temperature, (N, L); T = 1 + L tokens, [CLS] first."""
    cosine_NL = F.cosine_similarity(tokens_NTD[:, :1], tokens_NTD[:, 1:], dim=-1)
    return torch.softmax(cosine_NL / temperature, dim=1)


def smoothed_places(num_patches: int, *, sigma: Tensor) -> Tensor:
    """Labels of each true place, (L, L), rows that sum to 1: exp(-dist^2 / sigma^2) around it, dist in
    patches of a square grid; the true place alone for sigma 0."""
    place_L = torch.arange(num_patches, device=sigma.device)
    side = math.isqrt(num_patches)
    row_L, column_L = place_L // side, place_L % side
    squared_LL = (row_L[:, None] - row_L).square() + (column_L[:, None] - column_L).square()
    return torch.softmax(-squared_LL / sigma.clamp_min(_LEAST_SIGMA).square(), dim=1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


OBJECTIVE = DropPos
