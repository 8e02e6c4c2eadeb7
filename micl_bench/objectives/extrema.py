"""ExtreMA: extreme masking with a teacher (Wu, Lai, Sun, Lin 2023, arXiv:2206.04667; the authors' code
is github.com/microsoft/ExtreMA, MIT).

A student sees M random subsets of a crop's patches, which share none; a teacher, its moving average,
sees all of them. Blocks of class attention read one vector out of each; the student predicts the
teacher's.

Facts of the code: no [CLS] in the blocks, fixed sin-cos positions; the backbone's final norm is that of
the vector that is read out. The teacher moves after each step, by a momentum that rises from 0.996 to 1
along a half cosine. The linear probe reads the teacher, fine-tuning the student.

As published, but for:
- Colour jitter, grey (each drawn for student and teacher on its own, in their better runs) are left out:
  this is their run of 67.1 % under a linear probe, not that of 73.3 %.
- The checkpoint is the teacher's plain ViT, for every evaluation, fine-tuning too. Its features are the
  mean of the patches after the final norm; the authors' linear probe reads the class attention instead.
- Paths of the student's blocks are dropped by image and subset, by draws of (seed, epoch, index).
- Crops are resampled by an antialiased bicubic filter; in the code by a bilinear one.

Shapes: N images, M subsets, K patches of a subset, L patches of a crop, B = N * M, D width, R residual
branches.
"""

import dataclasses
import functools
import itertools
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.layers import LayerNorm
from timm.models import VisionTransformer
from timm.models.cait import LayerScaleBlockClassAttn
from torch import Tensor, nn

from micl_bench.backbone import Arch, encode_patches, full_precision, init_mae_layers_
from micl_bench.backbone.drop_path import branch_rates, draw_paths, give_paths, take_paths
from micl_bench.data.visible import Patches, Seen
from micl_bench.objectives._collapse import TargetsAlike, cosine_of_others
from micl_bench.objectives._masked import all_in_drawn_order
from micl_bench.objectives._momentum import cosine_momentum, follow_, twin_of
from micl_bench.objectives._objective import Objective, ObjectiveConfig
from micl_bench.objectives._output import Output
from micl_bench.runs.plan import TrainingPlan
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import LARGEST, Count, Positive, Probability, Within
from micl_bench.views import patches_per_view


def extrema_loss(predicted_NMD: Tensor, target_ND: Tensor) -> Tensor:
    """The mean over images and subsets of |p / |p| - t / |t||^2, a scalar from 0 to 4, in fp32 (fp64
    stays fp64) whatever the autocast."""
    with full_precision(predicted_NMD.device):
        wide = torch.promote_types(predicted_NMD.dtype, torch.float32)
        predicted_NMD = F.normalize(predicted_NMD.to(wide), dim=-1)
        target_N1D = F.normalize(target_ND.to(wide), dim=-1)[:, None]
        return (predicted_NMD - target_N1D).square().sum(-1).mean()


class ExtreMA(Objective):
    """Predict a teacher's vector of the whole crop from a fifth of its patches (arXiv:2206.04667)."""

    name: ClassVar[str] = "ExtreMA"
    numbers: ClassVar[tuple[str, ...]] = ("target_cosine",)
    """Mean cosine between the teacher's vectors of different images of a process."""
    deviations: ClassVar[tuple[str, ...]] = (
        "no colour jitter and grey, as in the authors' run of 67.1 % under a linear probe",
        "features of the checkpoint are the mean of the normalised patches; the authors' linear probe "
        "reads the class attention",
        "fine-tuning starts from the teacher; the authors' from the student",
        "paths are dropped by image and subset, by draws of (seed, epoch, index)",
        "crops are resampled by an antialiased bicubic filter, not a bilinear one",
    )
    backbone: ClassVar[str] = "added.teacher"
    class_token: ClassVar[bool] = False

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ObjectiveConfig):
        """Values of the method; the defaults are those of the command in the code's README."""

        num_subsets: Count = 5
        """Subsets of a crop that the student sees: `--num-masks 5`."""
        mask_ratio: Annotated[float, Within(least=0, below=1)] = 0.8
        """Share of the patches that one subset lacks: `--mask-ratio 0.8`."""
        momentum: Probability = 0.996
        """Of the teacher, at first; 1 at the end: `--ema-momentum 0.996`."""
        drop_path: Annotated[float, Within(least=0, below=1)] = 0.1
        """Probability that a branch of the student's last block is left out; it grows linearly from 0 at
        the first one: `--drop_path_rate 0.1`."""
        class_attention_blocks: Count = 2
        """Blocks that read the vector out: `--class_attention_layers 2`."""
        layer_scale: Positive = 0.1
        """At which their branches start: `--layer_scale_init_value 0.1` (1e-5 for ViT-L)."""
        hidden_width: Annotated[int, Within(1, LARGEST)] = 4096
        """Of the projector's and predictor's hidden layers: the default of `--mlp-dim`."""
        output_width: Annotated[int, Within(2, LARGEST)] = 256
        """Of the vectors that are compared: `--proj-dim 256`."""

    config: Config

    def summary(self) -> str:
        """The subsets, and the mask ratio."""
        subsets, ratio = self.config.num_subsets, self.config.mask_ratio
        return f"{subsets} subsets at mask ratio {ratio}"

    def wants(self, arch: Arch) -> Patches:
        """All patches, in a drawn order: the first M * K are the student's subsets.

        Raises:
            InputError: there is a [CLS], or there are too few patches for the subsets.
        """
        self.require_tokens(arch)
        M, K = self.config.num_subsets, self._subset(arch.num_patches)
        if arch.num_patches < M * K:
            raise InputError(
                f"{M} subsets of {K} patches that share none do not fit into {arch.num_patches}; lower "
                "num_subsets or raise mask_ratio"
            )
        patches = all_in_drawn_order(arch)
        dropped_R = branch_rates(arch.depth, self.config.drop_path)
        return dataclasses.replace(
            patches, more=functools.partial(_draw, num_subsets=M, dropped_R=dropped_R)
        )

    def sees(self, arch: Arch) -> str:
        """Words on what student and teacher see."""
        M, K, L = self.config.num_subsets, self._subset(arch.num_patches), arch.num_patches
        return f"the student sees {M} subsets of {K} of {L} patches, the teacher all"

    def shown(self, keep_NVK: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """The student's subsets."""
        M, K = self.config.num_subsets, self._subset(keep_NVK.shape[2])
        subsets = keep_NVK[:, 0, : M * K].split(K, dim=1)
        return {f"subset {number}": one_NK for number, one_NK in enumerate(subsets, start=1)}

    def _subset(self, num_patches: int) -> int:
        """K = floor(L * (1 - mask ratio)): 39 of 196 at 0.8."""
        return patches_per_view(num_patches, num_views=1, mask_ratio=self.config.mask_ratio)

    def added(self, vit: VisionTransformer) -> "StudentAndTeacher":
        """Make the student's read-out and heads, and the teacher; the student's paths can be dropped
        from here on."""
        added = StudentAndTeacher(vit, self.config)
        take_paths(vit, self.config.drop_path)
        return added

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor:
        """Compute M predictions of the student and the teacher's vector, rows_N(M+1)D in fp32."""
        assert isinstance(added, StudentAndTeacher)
        N, M = len(seen), self.config.num_subsets
        K = self._subset(seen.keep_NVK.shape[2])
        give_paths(vit, seen.drawn["paths_NMR"].flatten(0, 1))
        subsets_NMK = seen.keep_NVK[:, 0, : M * K].unflatten(1, (M, K))
        read_BD = _read(vit, added.read_out, seen.visible_NMP[:, : M * K], subsets_NMK)
        predicted_NMD = added.predictor(added.projector(read_BD)).unflatten(0, (N, M))
        with torch.no_grad():
            read_ND = _read(added.teacher, added.teacher_read_out, seen.visible_NMP, seen.keep_NVK)
            target_ND = added.teacher_projector(read_ND)
        rows = torch.cat([predicted_NMD, target_ND[:, None]], dim=1)
        return rows.to(torch.promote_types(rows.dtype, torch.float32))

    def loss(self, rows: Tensor) -> Output:
        """This process's part of `extrema_loss`; its mean over processes is that of the batch."""
        target_ND = rows[:, -1].detach()
        cosine = cosine_of_others(target_ND)
        return Output(loss=extrema_loss(rows[:, :-1], target_ND), numbers={"target_cosine": cosine})

    def after_step(
        self, vit: VisionTransformer, added: nn.Module, rows: Tensor, progress: float
    ) -> None:
        """Let the teacher follow."""
        assert isinstance(added, StudentAndTeacher)
        momentum = cosine_momentum(self.config.momentum, progress)
        follow_(added.teacher, vit, momentum=momentum)
        follow_(added.teacher_read_out, added.read_out, momentum=momentum)
        follow_(added.teacher_projector, added.projector, momentum=momentum)

    def health(self, rows: Tensor) -> dict[str, float]:
        """The loss, and the mean cosine between the teacher's vectors of different images."""
        return {
            "held_out_loss": extrema_loss(rows[:, :-1], rows[:, -1]).item(),
            "held_out_target_cosine": cosine_of_others(rows[:, -1]).item(),
        }

    def watch(self, plan: TrainingPlan) -> TargetsAlike:
        """Make the watch that warns of a collapse."""
        return TargetsAlike(plan)


class StudentAndTeacher(nn.Module):
    """What there is beside the student's ViT: its read-out and heads, and its teacher."""

    def __init__(self, vit: VisionTransformer, config: ExtreMA.Config) -> None:
        super().__init__()
        hidden, out = config.hidden_width, config.output_width
        self.read_out = ClassAttention(vit, config.class_attention_blocks, config.layer_scale)
        self.projector = _mlp(vit.embed_dim, hidden, hidden, out)
        self.predictor = _mlp(out, hidden, out)
        self.teacher = twin_of(vit)
        self.teacher_read_out = twin_of(self.read_out)
        self.teacher_projector = twin_of(self.projector)


class ClassAttention(nn.Module):
    """Blocks in which a token of their own attends to the patches, which stay as they are (Touvron et
    al. 2021, CaiT): tokens_BKD of patches become read_BD."""

    def __init__(self, vit: VisionTransformer, blocks: int, layer_scale: float) -> None:
        super().__init__()
        first: Any = vit.blocks[0]
        norm: Any = functools.partial(LayerNorm, eps=first.norm1.eps)
        # A vector, which weight decay leaves alone.
        self.token_D = nn.Parameter(nn.init.normal_(torch.empty(vit.embed_dim), std=0.02))
        self.blocks = nn.ModuleList(
            LayerScaleBlockClassAttn(
                vit.embed_dim,
                num_heads=first.attn.num_heads,
                mlp_ratio=first.mlp.fc1.out_features / vit.embed_dim,
                qkv_bias=True,
                norm_layer=norm,
                init_values=layer_scale,
            )
            for _ in range(blocks)
        )
        init_mae_layers_(self.blocks)

    def forward(self, tokens_BKD: Tensor) -> Tensor:
        """Return read_BD, before the backbone's final norm."""
        class_B1D = self.token_D.to(tokens_BKD.dtype).expand(len(tokens_BKD), 1, -1)
        for block in self.blocks:
            class_B1D = block(tokens_BKD, class_B1D)
        return class_B1D[:, 0]


def _read(
    vit: VisionTransformer, read_out: nn.Module, visible_NMP: Tensor, keep_NVK: Tensor
) -> Tensor:
    """One vector of each view, read_BD, after the final norm."""
    read_BD: Tensor = vit.norm(read_out(encode_patches(vit, visible_NMP, keep_NVK)))
    return read_BD


def _mlp(*widths: int) -> nn.Sequential:
    """Linear layers of these widths, LayerNorm and GELU between them."""
    first, *later = (nn.Linear(*ends) for ends in itertools.pairwise(widths))
    layers: list[nn.Module] = [first]
    for linear in later:
        layers += [nn.LayerNorm(linear.in_features), nn.GELU(), linear]
    mlp = nn.Sequential(*layers)
    init_mae_layers_(mlp)
    return mlp


def _draw(
    seed: int,
    epoch: int,
    index_N: NDArray[np.integer],
    *,
    num_subsets: int,
    dropped_R: NDArray[np.floating],
) -> dict[str, Tensor]:
    weights = draw_paths(seed, epoch, index_N, np.tile(dropped_R, num_subsets))
    return {"paths_NMR": weights.reshape(len(index_N), num_subsets, len(dropped_R))}


OBJECTIVE = ExtreMA
