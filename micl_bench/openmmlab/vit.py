"""`MiCLViT`: any checkpoint's ViT as a backbone of mmsegmentation and mmdetection.

Shapes: N images, H x W pixels, h x w patches of p x p pixels, L = h * w, T tokens, D width.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, is_model_wrapper
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from micl_bench.backbone import Arch
from micl_bench.backbone.positions import resample_relative
from micl_bench.checkpoints import load_checkpoint
from micl_bench.openmmlab.pyramid import Rescale
from micl_bench.openmmlab.tokens import (
    Positions,
    embedded,
    relative_table,
    rotary,
    without_own_bias,
    without_prefix_tokens,
)
from micl_bench.openmmlab.windows import MapAttention, RelativeBias
from micl_bench.runs.optim import layers_above
from micl_bench.runtime.errors import InputError

# As many as there are maps, of which BEiT, MAE and ViTDet all have four.
_QUARTERS = 4
_ABOVE_THE_STEM = ("blocks", "norm")


@MODELS.register_module()
class MiCLViT(BaseModule):
    """Maps of a ViT's blocks, at strides 4, 8, 16 and 32 unless others are given.

    Registered in mmengine's root registry, where both libraries look. Images of any size are padded
    to whole patches on the right and below; positions come to their grid by the rule of the
    checkpoint's method, with gradients. Padding of a batch's images by the library takes part in
    attention, as everywhere.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        arch: str | None = None,
        layout: str | None = None,
        branch: str | None = None,
        seed: int = 0,
        img_size: int | None = None,
        drop_path: float = 0.1,
        out_blocks: Sequence[int] | None = None,
        strides: Sequence[int] = (4, 8, 16, 32),
        final_norm: bool = True,
        prefix_tokens: bool = True,
        window_size: int = 0,
        global_blocks: Sequence[int] | None = None,
        frozen_stages: int = -1,
        activation_checkpointing: bool = False,
    ) -> None:
        """Load the ViT and fill every parameter of it.

        Args:
            checkpoint: a file or folder of any supported layout, `timm:NAME`, `public:NAME` or
                `random:ARCH`; `arch`, `layout`, `branch`, `seed` as `load_checkpoint` has them.
            img_size: side in pixels for which positions are resampled, once and for all; other
                sizes are resampled from these as they come. None: as stored.
            drop_path: stochastic depth of the last block; it grows linearly from 0.
            out_blocks: blocks (from 0) whose tokens are taken, one for each stride; None: evenly
                spaced, the last one included (a quarter, half, three quarters, all of the depth).
                Blocks above the last one taken are left out.
            strides: pixels between neighbours of each map.
            final_norm: maps pass the ViT's final norm, as in timm's
                `forward_intermediates(norm=True)`. False: a block's output as it is, as in BEiT's,
                MAE's and ViTDet's code; the norm is left out.
            prefix_tokens: [CLS] and registers take part in attention (never in maps). False: they
                are left out of the network, as in ViTDet's code.
            window_size: side of the windows of attention in patches; 0: every block attends to all.
            global_blocks: blocks that attend to everything all the same; None: the last of each
                quarter, as ViTDet.
            frozen_stages: 0 freezes patch projection, prefix tokens and positions, k also the first
                k blocks, all of them also the final norm; -1: nothing. Frozen parts have no
                stochastic depth.
            activation_checkpointing: keep only the tokens between blocks; compute each block twice.

        Raises:
            InputError: as `load_checkpoint`, or options that fit neither depth nor one another.
        """
        super().__init__()
        loaded = load_checkpoint(checkpoint, arch=arch, layout=layout, branch=branch, seed=seed)
        depth = loaded.arch.depth
        self.arch: Arch = loaded.arch
        self.patch_size, self.strides = loaded.arch.patch_size, tuple(strides)
        self.out_blocks = _chosen_blocks(out_blocks, depth, len(self.strides))
        self.window_size = window_size
        self.global_blocks = _global_blocks(global_blocks, depth, window_size)
        self.frozen_stages = frozen_stages
        if not -1 <= frozen_stages <= depth:
            raise InputError(
                f"frozen_stages is {frozen_stages}; needed is -1 to {depth}, the depth"
            )
        self.activation_checkpointing = activation_checkpointing
        self.vit: Any = loaded.backbone(img_size=img_size, drop_path=drop_path)
        self._positions = Positions(loaded, prefix_tokens=prefix_tokens)
        if not prefix_tokens:
            without_prefix_tokens(self.vit)
        # Parameters without a gradient would stop training on several processes.
        self.vit.blocks = self.vit.blocks[: self.out_blocks[-1] + 1]
        if not final_norm:
            self.vit.norm = nn.Identity()
        without_own_bias(self.vit)
        self.rescale = nn.ModuleList(
            Rescale(loaded.arch.width, patch_size=self.patch_size, stride=stride)
            for stride in self.strides
        )
        self._freeze()

    def init_weights(self) -> None:
        """Do nothing: mmengine's own would call timm's `init_weights` and lose the checkpoint."""

    def train(self, mode: bool = True) -> "MiCLViT":
        """Switch to training; frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def layers_above(self) -> dict[str, int]:
        """Number of the ViT's layers above each parameter, by its name here: for layer decay.

        The stem is a layer, and each block that is kept; final norm and rescaling are the top, 0.
        """
        above = {f"vit.{name}": count for name, count in layers_above(self.vit).items()}
        return above | {f"rescale.{name}": 0 for name, _ in self.rescale.named_parameters()}

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm declares free of weight decay, by their names here.

        [CLS], registers, positions and tables of relative positions; norms and biases are vectors,
        which an optimiser knows by their shape.
        """
        declared = self.vit.no_weight_decay()
        return {f"vit.{name}" for name, _ in self.vit.named_parameters() if name in declared}

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        """One map (N, D, ceil(H / s), ceil(W / s)) for each stride s, for any H and W."""
        H, W = images_NCHW.shape[-2:]
        maps = []
        for stride, rescale, map_NDhw in zip(
            self.strides, self.rescale, self.patch_maps(images_NCHW), strict=True
        ):
            rows, columns = math.ceil(H / stride), math.ceil(W / stride)
            maps.append(rescale(map_NDhw)[..., :rows, :columns].contiguous())
        return tuple(maps)

    def patch_maps(self, images_NCHW: Tensor) -> list[Tensor]:
        """The chosen blocks' maps at the patch size; images are padded to whole patches."""
        (H, W), p = images_NCHW.shape[-2:], self.patch_size
        map_NDhw = self.vit.patch_embed.proj(F.pad(images_NCHW, (0, -W % p, 0, -H % p)))
        tokens_NTD = embedded(self.vit, map_NDhw, self._positions)
        grid = (map_NDhw.shape[2], map_NDhw.shape[3])
        maps = []
        for number, rope in enumerate(rotary(self.vit, grid)):
            tokens_NTD = self._block_output(number, tokens_NTD, grid, rope)
            if number in self.out_blocks:
                patches_NLD = self.vit.norm(tokens_NTD)[:, self.vit.num_prefix_tokens :]
                maps.append(patches_NLD.transpose(1, 2).unflatten(2, grid))
        return maps

    def _block_output(
        self, number: int, tokens_NTD: Tensor, grid: tuple[int, int], rope: Tensor | None
    ) -> Tensor:
        block = self.vit.blocks[number]
        # Only the blocks of timm's `Eva` know rotary positions.
        block = block if rope is None else functools.partial(block, rope=rope)
        run = functools.partial(self._attend, number, grid, block)
        trained = torch.is_grad_enabled() and number >= self.frozen_stages
        if not (self.activation_checkpointing and trained):
            return run(tokens_NTD)
        # `run` itself enters the mode of attention, so that the second computation does too.
        output_NTD: Tensor = recomputed(run, tokens_NTD, use_reentrant=False)
        return output_NTD

    def _attend(
        self,
        number: int,
        grid: tuple[int, int],
        block: Callable[[Tensor], Tensor],
        tokens_NTD: Tensor,
    ) -> Tensor:
        window_size = 0 if number in self.global_blocks else self.window_size
        table_RH = relative_table(self.vit, number)
        if not window_size and table_RH is None:
            return block(tokens_NTD)
        bias = None
        if table_RH is not None:
            bias = RelativeBias(resample_relative(table_RH, grid=grid), grid)
        attention = MapAttention(
            grid,
            num_prefix_tokens=self.vit.num_prefix_tokens,
            window_size=window_size,
            bias=bias,
        )
        return attention.run(block, tokens_NTD)

    def _freeze(self) -> None:
        if self._positions.fixed:
            self.vit.pos_embed.requires_grad_(False)
        if self.frozen_stages >= 0:
            for parameter in self.vit.parameters(recurse=False):
                parameter.requires_grad_(False)
        for module in self._frozen_modules():
            module.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stem = [child for name, child in self.vit.named_children() if name not in _ABOVE_THE_STEM]
        frozen = [*stem, *self.vit.blocks[: self.frozen_stages]]
        return [*frozen, self.vit.norm] if self.frozen_stages >= len(self.vit.blocks) else frozen


def _chosen_blocks(out_blocks: Sequence[int] | None, depth: int, num_maps: int) -> list[int]:
    if out_blocks is None:
        out_blocks = _last_of_each_part(depth, num_maps)
    blocks = sorted(set(out_blocks))
    if len(blocks) != num_maps or not 0 <= blocks[0] <= blocks[-1] < depth:
        raise InputError(
            f"out_blocks {list(out_blocks)} must name {num_maps} different blocks, one for each "
            f"stride, of the {depth} (0 to {depth - 1}) there are"
        )
    return blocks


def _global_blocks(chosen: Sequence[int] | None, depth: int, window_size: int) -> list[int]:
    if window_size < 0:
        raise InputError(f"window_size is {window_size}; 0 (no windows) or more patches are needed")
    if window_size == 0 and chosen is not None:
        raise InputError(
            "global_blocks says nothing without windows; set window_size or leave it out"
        )
    if chosen is None:
        chosen = _last_of_each_part(depth, _QUARTERS)
    if not all(0 <= number < depth for number in chosen):
        raise InputError(f"global_blocks {list(chosen)} are not all of the blocks 0 to {depth - 1}")
    return sorted(set(chosen))


def _last_of_each_part(depth: int, parts: int) -> list[int]:
    return [math.ceil(depth * part / parts) - 1 for part in range(1, parts + 1)]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model below `DistributedDataParallel` and its like."""
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    return inner


def micl_vits(model: nn.Module) -> dict[str, MiCLViT]:
    """Every `MiCLViT` of a model by the beginning of its parameters' names: `backbone.`, or empty."""
    return {
        f"{name}." if name else "": module
        for name, module in model.named_modules()
        if isinstance(module, MiCLViT)
    }
