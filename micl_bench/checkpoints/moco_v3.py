"""MoCo v3 (Chen et al. 2021): a base encoder and its momentum copy, with heads and a predictor."""

import dataclasses
import re
from typing import Any

from torch import Tensor

from micl_bench.backbone import Arch
from micl_bench.checkpoints._converted import Converted, PositionRule
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._rules import account, drop, first_key, tensors_of
from micl_bench.checkpoints._timm_names import PLAIN, chosen
from micl_bench.runtime.errors import InputError

_ENCODERS = {"base": "base_encoder", "momentum": "momentum_encoder"}
# The method's own ViT-S (of width 384) has 12 heads (`vit_small` in vits.py of its authors' code),
# timm's has 6.
_SMALL, _HEADS_OF_SMALL = 384, 12
# That and its ViT-B are all that this code builds.
_WIDTHS = (_SMALL, 768)
_RULES = (
    *PLAIN,
    drop(r"head\..+", "projection head"),
    drop(r"(module\.)?(base_encoder|momentum_encoder)\..+", "another branch"),
    drop(r"(module\.)?predictor\..+", "predictor"),
)


def recognise(content: dict[str, Any]) -> bool:
    """A ViT's blocks under `base_encoder` or `momentum_encoder`."""
    return bool(_branches(content, _key(content)))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The base encoder, which the authors fine-tune and probe; `branch`: `base` or `momentum`.

    Positions are a fixed sin-cos table that the method's code computes for the size it is built
    for.

    Raises:
        InputError: unknown tensors, another branch, no ViT, or a ViT-S with another `arch` than the
            method's own.
    """
    key = _key(content)
    name = chosen(branch, _branches(content, key), "base")
    prefix = rf"(module\.)?{_ENCODERS[name]}\."
    state, fates = account(content, _RULES, layout="moco_v3", key=key, prefix=prefix)
    sizes = _sizes(state, arch)
    return Converted(
        arch=sizes,
        guesses=assumed(sizes, arch, widths=_WIDTHS),
        state=state,
        method="MoCo v3",
        pool="token",
        num_classes=0,
        fates=fates,
        positions=PositionRule(kind="sincos"),
        branch=name,
    )


def _sizes(state: dict[str, Tensor], arch: str | None) -> Arch:
    found = infer_arch(state, arch=arch)
    if found.width != _SMALL or found.num_heads == _HEADS_OF_SMALL:
        return found
    if arch:
        raise InputError(
            f"MoCo v3's ViT-S has {_HEADS_OF_SMALL} heads, {arch} has {found.num_heads}; leave "
            "--arch out"
        )
    return dataclasses.replace(found, num_heads=_HEADS_OF_SMALL)


def _key(content: dict[str, Any]) -> str:
    return first_key(content, "state_dict", "model")


def _branches(content: dict[str, Any], key: str) -> list[str]:
    names = tensors_of(content, key)
    return [
        branch
        for branch, encoder in _ENCODERS.items()
        if any(re.match(rf"(module\.)?{encoder}\.blocks\.", name) for name in names)
    ]
