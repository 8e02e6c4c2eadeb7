"""`MiCLViT`: any checkpoint's ViT as a backbone of mmsegmentation and mmdetection.

Shapes: N images, H x W pixels, h x w patches of p x p pixels, L = h * w, D width.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import resample_abs_pos_embed
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.checkpoints import load_checkpoint
from micl_bench.errors import InputError
from micl_bench.openmmlab.pyramid import Rescale


@MODELS.register_module()
class MiCLViT(BaseModule):
    """Four maps of a ViT, at strides 4, 8, 16 and 32 unless told otherwise.

    Each map holds a block's patch tokens after the ViT's final norm, as timm's
    `forward_intermediates(norm=True)` gives them; [CLS] takes part in attention and is dropped.
    Registered in mmengine's root registry, where both libraries look.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        arch: str | None = None,
        seed: int = 0,
        img_size: int | None = None,
        drop_path: float = 0.1,
        out_blocks: Sequence[int] | None = None,
        strides: Sequence[int] = (4, 8, 16, 32),
        frozen: bool = False,
    ) -> None:
        """Load the ViT and fill every parameter of it.

        Args:
            checkpoint: a file of any supported layout, `timm:NAME` or `random:ARCH`.
            arch: architecture where the file's shapes do not tell it.
            seed: of `random:ARCH`.
            img_size: side for which positions are resampled, once and for all; other sizes
                are resampled from these as they come.
            drop_path: stochastic depth of the last block; it grows linearly from 0.
            out_blocks: blocks (from 0) whose tokens are taken; None for a quarter, half, three
                quarters and all of the depth, for four strides.
            strides: pixels between neighbours of each map.
            frozen: no gradient for the ViT, and no stochastic depth.

        Raises:
            InputError: as `load_checkpoint`, or blocks that do not fit depth or strides.
        """
        super().__init__()
        loaded = load_checkpoint(checkpoint, arch=arch, seed=seed)
        # Blocks differ only by their drop path, so 0 where nothing is trained.
        vit = loaded.backbone(img_size=img_size, drop_path=0.0 if frozen else drop_path)
        if not isinstance(vit, VisionTransformer):
            raise InputError(
                f"{checkpoint} is timm's {type(vit).__name__}, whose attention is made for one input "
                "size; maps of any size need absolute positions alone"
            )
        self.vit = vit
        self.frozen, self.strides = frozen, tuple(strides)
        self.patch_size = loaded.arch.patch_size
        self.out_blocks = _chosen_blocks(out_blocks, loaded.arch.depth, len(strides))
        self.rescale = nn.ModuleList(
            Rescale(loaded.arch.width, patch_size=self.patch_size, stride=stride)
            for stride in strides
        )
        if frozen:
            self.vit.requires_grad_(False)

    def init_weights(self) -> None:
        """Do nothing: mmengine's own would call timm's `init_weights` and lose the checkpoint."""

    def train(self, mode: bool = True) -> "MiCLViT":
        """Switch to training; a frozen ViT stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.vit.eval()
        return self

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, ...]:
        """One map (N, D, ceil(H / s), ceil(W / s)) for each stride s, for any H and W."""
        H, W = images_NCHW.shape[-2:]
        maps = []
        maps_at_patch_size = self.patch_maps(images_NCHW)
        for stride, rescale, map_NDhw in zip(
            self.strides, self.rescale, maps_at_patch_size, strict=True
        ):
            rows, columns = math.ceil(H / stride), math.ceil(W / stride)
            maps.append(rescale(map_NDhw)[..., :rows, :columns].contiguous())
        return tuple(maps)

    def patch_maps(self, images_NCHW: Tensor) -> list[Tensor]:
        """The chosen blocks' maps at the patch size; images are padded to whole patches."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            map_NDhw = self.vit.patch_embed.proj(self._pad(images_NCHW))
            tokens_NTD, maps = self._tokens(map_NDhw), []
            for number, block in enumerate(self.vit.blocks[: max(self.out_blocks) + 1]):
                tokens_NTD = block(tokens_NTD)
                if number in self.out_blocks:
                    patches_NLD = self.vit.norm(tokens_NTD)[:, self.vit.num_prefix_tokens :]
                    maps.append(patches_NLD.transpose(1, 2).reshape_as(map_NDhw))
        return maps

    def _tokens(self, map_NDhw: Tensor) -> Tensor:
        """[CLS], registers and patches with positions resampled to the map's grid as timm does."""
        vit, tokens_NTD = self.vit, map_NDhw.flatten(2).transpose(1, 2)
        assert vit.pos_embed is not None
        positions_1TD = resample_abs_pos_embed(
            vit.pos_embed,
            new_size=list(map_NDhw.shape[-2:]),
            num_prefix_tokens=0 if vit.no_embed_class else vit.num_prefix_tokens,
        )
        if vit.no_embed_class:
            tokens_NTD = tokens_NTD + positions_1TD
        prefix = [
            token_1PD.expand(len(tokens_NTD), -1, -1)
            for token_1PD in (vit.cls_token, vit.reg_token)
            if token_1PD is not None
        ]
        tokens_NTD = torch.cat([*prefix, tokens_NTD], dim=1)
        if not vit.no_embed_class:
            tokens_NTD = tokens_NTD + positions_1TD
        return vit.norm_pre(vit.pos_drop(tokens_NTD))

    def _pad(self, images_NCHW: Tensor) -> Tensor:
        H, W = images_NCHW.shape[-2:]
        return F.pad(images_NCHW, (0, -W % self.patch_size, 0, -H % self.patch_size))


def _chosen_blocks(out_blocks: Sequence[int] | None, depth: int, num_maps: int) -> list[int]:
    if out_blocks is None:
        out_blocks = [math.ceil(depth * part / num_maps) - 1 for part in range(1, num_maps + 1)]
    blocks = sorted(set(out_blocks))
    if len(blocks) != num_maps or not 0 <= blocks[0] <= blocks[-1] < depth:
        raise InputError(
            f"out_blocks {list(out_blocks)} must name {num_maps} different blocks, one for each "
            f"stride, of the {depth} (0 to {depth - 1}) there are"
        )
    return blocks
