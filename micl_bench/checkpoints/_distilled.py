"""Files of DINO's training loop and its descendants: a student, its teacher, their heads."""

import re
from collections.abc import Set
from typing import Any

from micl_bench.backbone import PositionRule
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._infer import WIDTHS
from micl_bench.checkpoints._network import PLAIN, Network, convert_network, one_table, tables
from micl_bench.checkpoints._rules import OTHER, drop

_PREFIX = r"(backbone\.)?"
_BRANCHES = ("teacher", "student")
_RULES = (
    *PLAIN,
    drop(r"head\..+", "projection head"),
    drop(r"masked_embed", "mask token"),
)
_BESIDE = {
    **dict.fromkeys(_BRANCHES, OTHER),
    **dict.fromkeys(("dino_loss", "ibot_loss"), "centre of the loss"),
}


def names_of(content: dict[str, Any]) -> set[str]:
    """Return the names of all tensors of student and teacher, or of the file, without prefixes."""
    networks = [Network(key, key, _PREFIX) for key in (*_BRANCHES, "state_dict", "")]
    return set().union(*(network.names(content) for network in networks))


def is_ibot(content: dict[str, Any], names: Set[str]) -> bool:
    """Return whether there is iBOT's loss, the second last layer of its head, or its mask token."""
    head = any(re.match(r"head\.last_layer2\.", name) for name in names)
    return head or "masked_embed" in names or "ibot_loss" in content


def convert_distilled(
    content: dict[str, Any], *, arch: str | None, branch: str | None, layout: str, method: str
) -> Converted:
    """Convert the teacher, or the student for that `branch`; a backbone saved alone has no branches.

    Positions are interpolated as in DINO's `interpolate_pos_encoding`: bicubic, by a scale factor
    of (new side + 0.1) / old side.
    """
    return convert_network(
        content,
        _RULES,
        tables(content, *_BRANCHES, prefix=_PREFIX)
        or [one_table(content, "state_dict", "model", prefix=_PREFIX)],
        layout=layout,
        arch=arch,
        branch=branch,
        beside=_BESIDE,
        widths=WIDTHS,
        method=method,
        pool="token",
        positions=PositionRule(antialias=False, offset=0.1),
    )
