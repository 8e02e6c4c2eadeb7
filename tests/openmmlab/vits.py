"""Small checkpoints of every class of ViT that can be loaded, with numbers in every tensor."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from micl_bench.backbone import Arch, Vit
from micl_bench.checkpoints import save_checkpoint


def _arch(
    name: str, side: int, patch: int, width: int, depth: int, heads: int, **more: Any
) -> Arch:
    sizes = {"img_size": side, "patch_size": patch, "width": width, "depth": depth}
    return Arch(name=name, num_heads=heads, **sizes, **more)


_TINY = (32, 8, 64, 4, 2)
_ARCHS = (
    _arch("plain", *_TINY),
    _arch("registers", *_TINY, num_registers=3, layer_scale=True, patch_positions_only=True),
    _arch("no-class-token", *_TINY, class_token=False),
    _arch("beit", *_TINY, relative_positions="block", absolute_positions=False, layer_scale=True),
    _arch("beit-shared", *_TINY, relative_positions="shared", layer_scale=True),
    # A token of distillation, which is no register.
    _arch(
        "distilled",
        32,
        16,
        192,
        12,
        3,
        num_registers=1,
        timm_name="deit_tiny_distilled_patch16_224",
    ),
    # A norm in front of the blocks.
    _arch("clip", 32, 16, 256, 10, 4, timm_name="vit_xsmall_patch16_clip_224"),
    # Rotary positions as tables of one grid, with absolute ones.
    _arch("eva", 56, 14, 192, 12, 3, timm_name="eva02_tiny_patch14_224"),
    # Rotary positions by coordinates from -1 to 1, and registers.
    _arch(
        *("dinov3", 64, 16, 384, 12, 6),
        num_registers=4,
        absolute_positions=False,
        timm_name="vit_small_patch16_dinov3",
    ),
    # Rotary positions whose frequencies are learned, other ones in each block.
    _arch(
        *("mixed", 64, 16, 384, 12, 6),
        absolute_positions=False,
        timm_name="vit_small_patch16_rope_mixed_224",
    ),
)
ARCHS = {arch.name: arch for arch in _ARCHS}
# One of each way to attend.
ATTENTIONS = ("plain", "registers", "no-class-token", "beit", "beit-shared", "eva")


@functools.cache
def _model(name: str) -> Vit:
    generator = torch.Generator().manual_seed(0)
    model = ARCHS[name].build_any()
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator) * 0.05
    return model


def saved(folder: Path, name: str) -> str:
    """A file with the ViT of that name in `ARCHS`."""
    path = folder / f"{name}.pt"
    if not path.exists():
        save_checkpoint(path, _model(name), ARCHS[name], method="any", provenance={})
    return str(path)


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """Random ones of this shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
