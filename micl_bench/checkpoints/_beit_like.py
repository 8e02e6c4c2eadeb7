"""ViTs with relative positions under the names of BEiT's code, which timm's `Beit` shares."""

import dataclasses
import re
from typing import Any

from timm.models.beit import checkpoint_filter_fn
from torch import Tensor

from micl_bench.backbone import Arch
from micl_bench.checkpoints._converted import Fate
from micl_bench.checkpoints._infer import infer_arch
from micl_bench.checkpoints._rules import Rule, drop
from micl_bench.checkpoints._timm_names import empty_model, filtered_by_timm, num_classes_of
from micl_bench.runtime.errors import InputError

_DROPPED = (
    drop(r"(.+\.)?relative_position_index", "table of offsets, computed anew"),
    drop(r"mask_token", "mask token"),
)


def is_beit_like(names: set[str]) -> bool:
    """Blocks, and the tables of offsets that the authors' code saves (timm's does not)."""
    offsets = any(re.search(r"(^|\.)relative_position_index$", name) for name in names)
    return offsets and "blocks.0.attn.qkv.weight" in names


def convert_beit_like(
    content: dict[str, Any],
    tensors: dict[str, Tensor],
    *,
    arch: str | None,
    layout: str,
    key: str,
    dropped: tuple[Rule, ...],
    prefix: str = "",
    beside: dict[str, str] | None = None,
) -> tuple[Arch, dict[str, Tensor], tuple[Fate, ...]]:
    """Architecture, state and fates through timm's filter.

    Args:
        tensors: of the table `key`, without `prefix`.
        dropped: what the method has beside the ViT.
        beside: other entries of the file, as in `account`.
    """
    sizes = _sizes(tensors, arch)
    if not sizes.relative_positions:
        raise InputError(f"the tensors are no {layout}'s: there are no relative positions")
    model = empty_model(
        sizes,
        num_classes=num_classes_of(tensors),
        pooled="fc_norm.weight" in tensors,
    )
    state, fates = filtered_by_timm(
        content,
        checkpoint_filter_fn,
        model,
        (*_DROPPED, *dropped),
        layout=layout,
        shorten=lambda name: re.sub(f"^{prefix}", "", name),
        key=key,
        beside=beside,
    )
    return sizes, state, fates


def _sizes(tensors: dict[str, Tensor], arch: str | None) -> Arch:
    """From the shapes, which tell it all here; `arch` may only repeat it."""
    found = infer_arch(tensors)
    if arch is None:
        return found
    told = infer_arch(tensors, arch=arch)
    for field in ("width", "depth", "patch_size", "num_heads"):
        if getattr(told, field) != getattr(found, field):
            raise InputError(
                f"the file's {field} is {getattr(found, field)}, not the {getattr(told, field)} of "
                f"{arch}"
            )
    return dataclasses.replace(found, name=told.name)
