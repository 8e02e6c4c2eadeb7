"""DINOv2 (Oquab et al. 2024), with and without registers (Darcet et al. 2024)."""

import re
from typing import Any

from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from micl_bench.backbone import Arch
from micl_bench.checkpoints._converted import Converted, PositionRule
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._rules import drop, first_key, tensors_of
from micl_bench.checkpoints._timm_names import chosen, empty_model, filtered_by_timm
from micl_bench.runtime.errors import InputError

_TELLTALE = {"mask_token", "cls_token", "pos_embed", "blocks.0.ls1.gamma"}
_WIDTHS = (384, 768, 1024, 1536)
_DROPPED = (
    drop(r"mask_token", "mask token"),
    drop(r"(dino|ibot)_head\..+", "projection head"),
)


def recognise(content: dict[str, Any]) -> bool:
    """timm's names with layer scale and a mask token, bare or in a table `teacher`."""
    return set(map(_short, tensors_of(content, _key(content)))) >= _TELLTALE


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """timm's filter, which adds the class token's position to it where there are registers.

    Positions are interpolated as in the published models: with an offset of 0.1 and without
    antialiasing, or, with registers, antialiased and without offset.

    Raises:
        InputError: unknown tensors, another branch, or no ViT.
    """
    key = _key(content)
    known = ["teacher"] if key == "teacher" else []
    name = chosen(branch, known, "teacher") if known or branch else ""
    tensors = {_short(stored): tensor for stored, tensor in tensors_of(content, key).items()}
    sizes, registers = _sizes(tensors, arch), "register_tokens" in tensors
    state, fates = filtered_by_timm(
        content,
        checkpoint_filter_fn,
        empty_model(sizes),
        _DROPPED,
        layout="dinov2",
        shorten=_short,
        key=key,
    )
    return Converted(
        arch=sizes,
        state=state,
        method="DINOv2 with registers" if registers else "DINOv2",
        pool="token",
        num_classes=0,
        fates=fates,
        positions=PositionRule(antialias=registers, offset=0.0 if registers else 0.1),
        branch=name,
        guesses=assumed(sizes, arch, widths=_WIDTHS),
    )


def _key(content: dict[str, Any]) -> str:
    return first_key(content, "teacher", "model", "state_dict")


def _short(name: str) -> str:
    """Without prefixes, and without the chunks that blocks of sharded training lie in."""
    name = re.sub(r"^(module\.)?(backbone\.)?", "", name)
    return re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)


def _sizes(tensors: dict[str, Tensor], arch: str | None) -> Arch:
    """The architecture of timm's model, before its filter, which needs that model, has run."""
    view = dict(tensors)
    if "register_tokens" in view:
        view["reg_token"] = view.pop("register_tokens")
        three = [view.get(name) for name in ("reg_token", "cls_token", "pos_embed")]
        if any(value is None or value.ndim != 3 for value in three):
            raise InputError("the tensors are no DINOv2's: tokens or positions are misshapen")
        view["pos_embed"] = view["pos_embed"][:, 1:]
    if arch is None and "blocks.0.mlp.w12.weight" in view:
        # Gated MLPs: the published giant alone has them.
        part = "_reg4" if "reg_token" in view else ""
        arch = f"vit_giant_patch14{part}_dinov2"
    return infer_arch(view, arch=arch)
