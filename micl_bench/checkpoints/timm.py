"""A plain state dict with timm's VisionTransformer names, with or without a head."""

import math
from typing import Any

from torch import Tensor

from micl_bench.backbone import Arch, named_arch
from micl_bench.checkpoints._convert import Converted
from micl_bench.errors import InputError

_TELLTALE = {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.norm1.weight"}


def recognise(content: dict[str, Any]) -> bool:
    """Whether a file's content is of this layout, bare or under `model` or `state_dict`."""
    return set(_state(content)) >= _TELLTALE


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Infer the sizes from the shapes; heads are width / 64 unless `arch` tells.

    Raises:
        InputError: shapes that are no plain square ViT.
    """
    state = _state(content)
    head = state.get("head.weight")
    pooled = "fc_norm.weight" in state
    return Converted(
        arch=named_arch(arch) if arch else _infer(state),
        state=state,
        method="",
        pool="avg" if pooled else "token",
        num_classes=0 if head is None else head.shape[0],
    )


def _state(content: dict[str, Any]) -> dict[str, Tensor]:
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _infer(state: dict[str, Tensor]) -> Arch:
    try:
        width, channels, patch, _ = state["patch_embed.proj.weight"].shape
        grid = math.isqrt(state["pos_embed"].shape[1] - 1)
        hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise InputError(f"the tensors are no plain ViT: {error}") from error
    if channels != 3 or grid * grid + 1 != state["pos_embed"].shape[1] or width % 64:
        raise InputError(
            f"the tensors are no plain square ViT ({channels} channels, "
            f"{state['pos_embed'].shape[1]} positions, width {width}); give arch if they are"
        )
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    return Arch(
        name=f"vit_w{width}_d{len(blocks)}_patch{patch}_{grid * patch}",
        img_size=grid * patch,
        patch_size=patch,
        width=width,
        depth=len(blocks),
        num_heads=width // 64,
        mlp_ratio=hidden / width,
    )
