"""I-JEPA: a joint-embedding predictive architecture (Assran et al. 2023, arXiv:2301.08243; the authors'
code is github.com/facebookresearch/ijepa, CC BY-NC 4.0, of which there is no line here).

An encoder sees one block of a crop less four target blocks; a predictor, given where each target lies,
predicts what a target encoder, the moving average of the first, makes of it from the whole crop.

Facts of paper and code: no [CLS]; both encoders end with their norm, and targets are normalised once
more, without weights; each target is predicted on its own, from the context and as many mask tokens as
it has patches; predictor with fixed sin-cos positions and as many heads as the encoder; smooth L1; a
momentum that rises evenly from 0.996 to 1; the target encoder's mean patch is evaluated. How blocks are
drawn is written in `_blocks.py`.

As published, but for:
- The encoder starts with MAE's initialisation (Xavier), as all backbones here; in the code normal, 0.02.
- Warm-up begins at rate 0 and the schedule ends at 0; in the code at 2e-4 and 1e-6 (of 1e-3).
- The momentum is one step ahead: that of the steps that are done, the last of which is at 1.
- Contexts are cut to the smallest of the whole batch, not of a device's share of it (128 images in the
  code), and never overlap with targets (`_blocks.py`). So they are shorter: 42 of 196 patches in the
  mean at a batch of 2048, not 50.
- Crops are resampled by an antialiased bicubic filter; in the code by a bilinear one.

Shapes: N images, L patches of a crop, K patches of a context, T targets, A patches of a target, P values
of a patch, D width, C the predictor's width.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from micl_bench.backbone import (
    Arch,
    encode_patches,
    normalised,
    run_blocks,
    sincos_positions,
)
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._blocks import Blocks
from micl_bench.objectives._collapse import TargetsAlike, cosine_of_others
from micl_bench.objectives._momentum import follow_, linear_momentum, twin_of
from micl_bench.objectives._objective import Objective, ObjectiveConfig
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Amount, Count, Fraction, Positive, Probability


def ijepa_errors(predicted_NTAD: Tensor, target_NTAD: Tensor) -> Tensor:
    """The mean smooth L1 distance of each image, error_N, in fp32 (fp64 stays fp64): of a difference d,
    d^2 / 2 up to |d| = 1, and |d| - 1/2 beyond."""
    wide = torch.promote_types(predicted_NTAD.dtype, torch.float32)
    predicted_NTAD, target_NTAD = predicted_NTAD.to(wide), target_NTAD.to(wide)
    return F.smooth_l1_loss(predicted_NTAD, target_NTAD, reduction="none").mean((1, 2, 3))


class IJepa(Objective):
    """Predict a target encoder's features of blocks from their surroundings (arXiv:2301.08243)."""

    name: ClassVar[str] = "I-JEPA"
    numbers: ClassVar[tuple[str, ...]] = ("target_cosine",)
    """Mean cosine between the targets of different images of a process, each the mean of its patches."""
    deviations: ClassVar[tuple[str, ...]] = (
        "the encoder starts with MAE's initialisation, not a normal of 0.02",
        "warm-up begins at rate 0 and the schedule ends at 0, not at 2e-4 and 1e-6 of 1e-3",
        "the momentum is one step ahead",
        "contexts are cut to the smallest of the whole batch, not of a device's share of 128 images, "
        "and so are shorter (42, not 50, of 196 patches at a batch of 2048); they never share a patch "
        "with targets",
        "crops are resampled by an antialiased bicubic filter, not a bilinear one",
    )
    backbone: ClassVar[str] = "added.teacher"
    class_token: ClassVar[bool] = False

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the code's `configs/in1k_vith14_ep300.yaml`,
        which are the paper's (appendix A.1)."""

        num_targets: Count = 4
        """`num_pred_masks`."""
        target_share: tuple[Fraction, Fraction] = (0.15, 0.2)
        """Patches of a target as a share of the crop's: `pred_mask_scale`."""
        target_aspect: tuple[Positive, Positive] = (0.75, 1.5)
        """Rows over columns of a target: `aspect_ratio`."""
        context_share: tuple[Fraction, Fraction] = (0.85, 1.0)
        """The same of the context, a square, before the targets are taken out: `enc_mask_scale`."""
        min_context: Amount = 10
        """A context has more patches than these: `min_keep`."""
        predictor_depth: Count = 12
        """`pred_depth`: 12 for ViT-L and H; the paper has 6 for ViT-B, 16 for ViT-G."""
        predictor_width: Count = 384
        """`pred_emb_dim`."""
        momentum: Probability = 0.996
        """Of the target encoder, at first; 1 at the end: `ema`."""

    config: Config

    def summary(self) -> str:
        """The predictor's sizes."""
        return (
            f"predictor of depth {self.config.predictor_depth}, width {self.config.predictor_width}"
        )

    def wants(self, arch: Arch) -> Patches:
        """All patches, row by row; `context_NK` and `targets_NTA` are drawn beside them.

        Raises:
            InputError: there is a [CLS], there are too few patches for the blocks, or the predictor's
                width does not go with its heads or positions.
        """
        config = self.config
        self.require_tokens(arch)
        if config.predictor_width % arch.num_heads or config.predictor_width % 4:
            raise InputError(
                f"predictor_width is {config.predictor_width}; needed: a multiple of 4 and of the "
                f"{arch.num_heads} heads of {arch.name}"
            )
        blocks = Blocks(
            side=arch.img_size // arch.patch_size,
            num_targets=config.num_targets,
            target_share=config.target_share,
            target_aspect=config.target_aspect,
            context_share=config.context_share,
            min_context=config.min_context,
        )
        return Patches(
            num_views=1,
            per_view=arch.num_patches,
            of=arch.num_patches,
            patch_size=arch.patch_size,
            draw=functools.partial(_all_patches, num_patches=arch.num_patches),
            more=blocks,
        )

    def sees(self, arch: Arch) -> str:
        """Words on what encoder and target encoder see."""
        T, L = self.config.num_targets, arch.num_patches
        return f"the encoder sees a context less {T} targets of {L} patches, the target encoder all"

    def shown(self, keep_NVK: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The context, and the targets."""
        targets = enumerate(drawn["targets_NTA"].unbind(1), start=1)
        return {"context": drawn["context_NK"], **{f"target {t}": one_NA for t, one_NA in targets}}

    def added(self, vit: VisionTransformer) -> "PredictorAndTeacher":
        """Make the predictor, and the target encoder."""
        return PredictorAndTeacher(vit, self.config)

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute of each image its error, and the mean of its targets over the crop: rows_N(1+D)."""
        assert isinstance(added, PredictorAndTeacher)
        context_NK, targets_NTA = seen.drawn["context_NK"], seen.drawn["targets_NTA"]
        with torch.no_grad():
            all_NLD = normalised(
                added.teacher, encode_patches(added.teacher, seen.visible_NMP, seen.keep_NVK)
            )
            all_NLD = F.layer_norm(all_NLD, all_NLD.shape[-1:])
            target_NTAD = _taken(all_NLD, targets_NTA.flatten(1)).unflatten(
                1, targets_NTA.shape[1:]
            )
        visible_NKP = _taken(seen.visible_NMP, context_NK)
        context_NKD = normalised(vit, encode_patches(vit, visible_NKP, context_NK[:, None]))
        predicted_NTAD = added.predictor(
            context_NKD, context_NK, targets_NTA, recompute=vit.grad_checkpointing
        )
        error_N = ijepa_errors(predicted_NTAD, target_NTAD)
        return torch.cat([error_N[:, None], all_NLD.mean(1)], dim=1)

    def loss(self, rows: Tensor) -> Output:
        """The mean error of this process's images; its mean over processes is that of the batch."""
        cosine = cosine_of_others(rows[:, 1:])
        return Output(loss=rows[:, 0].mean(), numbers={"target_cosine": cosine})

    def after_step(
        self, vit: VisionTransformer, added: nn.Module, rows: Tensor, progress: float
    ) -> None:
        """Let the target encoder follow."""
        assert isinstance(added, PredictorAndTeacher)
        momentum = linear_momentum(self.config.momentum, progress)
        follow_(added.teacher, vit, momentum=momentum)

    def health(self, rows: Tensor) -> dict[str, float]:
        """The mean error, and the mean cosine between targets of different images."""
        return {
            "held_out_loss": rows[:, 0].mean().item(),
            "held_out_target_cosine": cosine_of_others(rows[:, 1:]).item(),
        }

    def typical_draws(self, arch: Arch, batch_size: int) -> list[dict[str, Tensor]]:
        """One of each eighth of 128 batches, ordered by the length of their contexts: the blocks' sizes
        differ between batches, and contexts are cut to a batch's smallest."""
        wants, images = self.wants(arch), np.arange(batch_size)
        drawn = [wants.drawn(0, epoch, images, slice(1))[1] for epoch in range(128)]
        return sorted(drawn, key=lambda one: one["context_NK"].shape[1])[8::16]

    def given(self, keep_NVK: Tensor, arch: Arch) -> Tensor:
        """All patches, row-major; raises an InputError for others, as blocks are drawn, not given."""
        all_L = torch.arange(arch.num_patches, device=keep_NVK.device)
        if keep_NVK.shape[1:] != (1, len(all_L)) or not bool((keep_NVK == all_L).all()):
            raise InputError(
                "I-JEPA takes all patches, row-major, and draws blocks: leave keep_NVK out"
            )
        return keep_NVK

    def watch(self, plan: TrainingPlan) -> TargetsAlike:
        """Make the watch that warns of a collapse."""
        return TargetsAlike(plan)


class PredictorAndTeacher(nn.Module):
    """What there is beside the encoder: the predictor, and the target encoder as the `teacher`."""

    def __init__(self, vit: VisionTransformer, config: IJepa.Config) -> None:
        super().__init__()
        self.predictor = Predictor(vit, depth=config.predictor_depth, width=config.predictor_width)
        self.teacher = twin_of(vit)


class Predictor(nn.Module):
    """A narrow ViT that fills in a target's patches beside the context's."""

    def __init__(self, vit: VisionTransformer, *, depth: int, width: int) -> None:
        super().__init__()
        first: Any = vit.blocks[0]
        norm: Any = functools.partial(LayerNorm, eps=1e-6)
        self.embed = nn.Linear(vit.embed_dim, width)
        # Three dimensions, as in the code: so it is decayed.
        self.mask_11C = nn.Parameter(torch.zeros(1, 1, width))
        self.places_LC: Tensor
        side = vit.patch_embed.grid_size[0]
        places_LC = torch.empty(side * side, width)
        self.register_buffer("places_LC", places_LC.copy_(sincos_positions(side, width)))
        self.blocks = nn.ModuleList(
            Block(width, first.attn.num_heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm)
            for _ in range(depth)
        )
        self.norm = norm(width)
        self.project = nn.Linear(width, vit.embed_dim)
        nn.init.trunc_normal_(self.mask_11C, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        context_NKD: Tensor,
        context_NK: Tensor,
        targets_NTA: Tensor,
        *,
        recompute: bool = False,
    ) -> Tensor:
        """Predict the patches of each target, predicted_NTAD, from the context's features and places;
        `recompute` is as for `run_blocks`."""
        K, T = context_NK.shape[1], targets_NTA.shape[1]
        known_NKC = self.embed(context_NKD)
        places_LC = self.places_LC.to(known_NKC.dtype)
        known_NKC = known_NKC + places_LC[context_NK]
        asked_NTAC = self.mask_11C.to(known_NKC.dtype) + places_LC[targets_NTA]
        known_NTKC = known_NKC[:, None].expand(-1, T, -1, -1)
        tokens_BXC = torch.cat([known_NTKC, asked_NTAC], dim=2).flatten(0, 1)
        tokens_BXC = run_blocks(self.blocks, tokens_BXC, recompute=recompute)
        predicted_BAD: Tensor = self.project(self.norm(tokens_BXC[:, K:]))
        return predicted_BAD.unflatten(0, targets_NTA.shape[:2])


def _taken(rows_NLX: Tensor, places_NK: Tensor) -> Tensor:
    """Each image's rows of these places, rows_NKX."""
    return rows_NLX.gather(1, places_NK[..., None].expand(-1, -1, rows_NLX.shape[-1]))


def _all_patches(
    seed: int, epoch: int, index_N: NDArray[np.integer], *, num_patches: int
) -> Tensor:
    return torch.arange(num_patches).repeat(len(index_N), 1, 1)


OBJECTIVE = IJepa
