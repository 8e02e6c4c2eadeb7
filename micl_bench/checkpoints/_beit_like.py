"""ViTs with relative positions under the names of BEiT's code, which timm's `Beit` shares."""

import dataclasses
from collections.abc import Set
from typing import Any

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._network import PLAIN, Network, convert_network
from micl_bench.checkpoints._rules import Rule, drop, keep
from micl_bench.runtime.errors import InputError

_RULES = (
    *PLAIN,
    keep(r"blocks\.\d+\.(gamma_[12]|attn\.([qv]_bias|relative_position_bias_table))"),
    keep(r"rel_pos_bias\.relative_position_bias_table|(fc_norm|head)\.(weight|bias)"),
    drop(r"(.+\.)?relative_position_index", "table of offsets, computed anew"),
    drop(r"mask_token", "mask token"),
)


def is_beit_like(names: Set[str]) -> bool:
    """Return whether there are blocks, and tables of offsets, which the authors' code saves."""
    offsets = any(name.split(".")[-1] == "relative_position_index" for name in names)
    return offsets and "blocks.0.attn.qkv.weight" in names


def convert_beit(
    content: dict[str, Any],
    dropped: tuple[Rule, ...],
    networks: list[Network],
    *,
    layout: str,
    **options: Any,
) -> Converted:
    """Convert a network as `convert_network` does; `dropped` is for tensors beside the ViT.

    Raises:
        InputError: the network has no relative positions.
    """
    converted = convert_network(content, (*_RULES, *dropped), networks, layout=layout, **options)
    if not converted.arch.relative_positions:
        raise InputError(f"the tensors are no {layout}'s: there are no relative positions")
    reads_class_token = {"head.weight", "norm.weight"} <= converted.state.keys()
    return dataclasses.replace(converted, pool="token" if reads_class_token else "avg")
