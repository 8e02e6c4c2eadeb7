"""Small checkpoints of every class of ViT that can be loaded, with numbers in every tensor."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from micl_bench.backbone import Arch, Vit
from micl_bench.checkpoints import save_checkpoint

_TINY: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "width": 64,
    "depth": 4,
    "num_heads": 2,
}
_BEIT: dict[str, Any] = {"layer_scale": True, **_TINY}
ARCHS = {
    "plain": Arch(name="plain", **_TINY),
    "registers": Arch(
        name="registers", num_registers=3, layer_scale=True, patch_positions_only=True, **_TINY
    ),
    "no-class-token": Arch(name="no-class-token", class_token=False, **_TINY),
    # A token of distillation, which is no register.
    "distilled": Arch(
        name="distilled",
        img_size=32,
        patch_size=16,
        width=192,
        depth=12,
        num_heads=3,
        num_registers=1,
        timm_name="deit_tiny_distilled_patch16_224",
    ),
    # A norm in front of the blocks.
    "clip": Arch(
        name="clip",
        img_size=32,
        patch_size=16,
        width=256,
        depth=10,
        num_heads=4,
        timm_name="vit_xsmall_patch16_clip_224",
    ),
    "beit": Arch(name="beit", relative_positions="block", absolute_positions=False, **_BEIT),
    "beit-shared": Arch(name="beit-shared", relative_positions="shared", **_BEIT),
    # Rotary positions as tables of one grid, with absolute ones.
    "eva": Arch(
        name="eva",
        img_size=56,
        patch_size=14,
        width=192,
        depth=12,
        num_heads=3,
        timm_name="eva02_tiny_patch14_224",
    ),
    # Rotary positions by coordinates from -1 to 1, and registers.
    "dinov3": Arch(
        name="dinov3",
        img_size=64,
        patch_size=16,
        width=384,
        depth=12,
        num_heads=6,
        num_registers=4,
        absolute_positions=False,
        timm_name="vit_small_patch16_dinov3",
    ),
    # Rotary positions whose frequencies are learned, other ones in each block.
    "mixed": Arch(
        name="mixed",
        img_size=64,
        patch_size=16,
        width=384,
        depth=12,
        num_heads=6,
        absolute_positions=False,
        timm_name="vit_small_patch16_rope_mixed_224",
    ),
}
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
