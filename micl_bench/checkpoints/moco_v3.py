"""MoCo v3 (Chen et al. 2021): a base encoder and its momentum copy, with heads and a predictor."""

from typing import Any

from torch import Tensor

from micl_bench.backbone import PositionRule
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import PLAIN, Network, convert_network, width_of
from micl_bench.checkpoints._rules import drop, first_key
from micl_bench.runtime.errors import InputError

# The method's own ViT-S (of width 384) has 12 heads (`vit_small` in vits.py of its authors' code),
# timm's has 6. That and its ViT-B are all that this code builds.
_SMALL, _BASE, _HEADS_OF_SMALL = 384, 768, 12
_RULES = (
    *PLAIN,
    drop(r"head\..+", "projection head"),
    drop(r"(base_encoder|momentum_encoder)\..+", "another branch"),
    drop(r"predictor\..+", "predictor"),
)


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there are a ViT's blocks under `base_encoder` or `momentum_encoder`."""
    return bool(_networks(content))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the base encoder, which the authors fine-tune and probe, or the `momentum` branch.

    Positions are a fixed sin-cos table that the method's code computes for the size it is built
    for.

    Raises:
        InputError: `arch` gives a ViT-S other heads than the method's own.
    """
    converted = convert_network(
        content,
        _RULES,
        _networks(content),
        layout="moco_v3",
        arch=arch,
        branch=branch,
        known_arch=_heads,
        widths=(_SMALL, _BASE),
        method="MoCo v3",
        pool="token",
        positions=PositionRule(kind="sincos"),
    )
    if converted.arch.width == _SMALL and converted.arch.num_heads != _HEADS_OF_SMALL:
        raise InputError(
            f"MoCo v3's ViT-S has {_HEADS_OF_SMALL} heads, {arch} has {converted.arch.num_heads}; leave "
            "--arch out"
        )
    return converted


def _heads(state: dict[str, Tensor]) -> str | None:
    return f"heads={_HEADS_OF_SMALL}" if width_of(state) == _SMALL else None


def _networks(content: dict[str, Any]) -> list[Network]:
    key = first_key(content, "state_dict", "model")
    networks = [Network(name, key, rf"{name}_encoder\.") for name in ("base", "momentum")]
    return [one for one in networks if one.has_blocks(content)]
