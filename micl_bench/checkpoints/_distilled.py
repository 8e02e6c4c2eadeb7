"""Files of DINO's training loop and its descendants: a student, its teacher, their heads."""

import re
from collections.abc import Iterator
from typing import Any

from micl_bench.checkpoints._converted import Converted, PositionRule
from micl_bench.checkpoints._infer import WIDTHS, assumed, infer_arch
from micl_bench.checkpoints._rules import account, drop, first_key, tensors_of
from micl_bench.checkpoints._timm_names import PLAIN, chosen

_PREFIX = r"(module\.)?(backbone\.)?"
_RULES = (
    *PLAIN,
    drop(r"head\..+", "projection head"),
    drop(r"masked_embed", "mask token"),
)
_BESIDE = {
    "teacher": "the teacher, another branch",
    "student": "the student, another branch",
    "dino_loss": "centre of the loss",
    "ibot_loss": "centre of the loss",
}


def names_of(content: dict[str, Any]) -> set[str]:
    """Names of all tensors of student and teacher, or of the file itself, without prefixes."""
    return {re.sub(f"^{_PREFIX}", "", name) for name in _all_names(content)}


def _all_names(content: dict[str, Any]) -> Iterator[str]:
    for key in ("teacher", "student", "state_dict", ""):
        yield from tensors_of(content, key)


def convert_distilled(
    content: dict[str, Any], *, arch: str | None, branch: str | None, layout: str, method: str
) -> Converted:
    """The teacher, unless `branch` asks for the student; a backbone saved alone has no branches.

    Positions are interpolated as in DINO's `interpolate_pos_encoding`: bicubic, by a scale factor
    of (new side + 0.1) / old side.
    """
    known = [name for name in ("teacher", "student") if tensors_of(content, name)]
    name = chosen(branch, known, "teacher") if known or branch else ""
    state, fates = account(
        content,
        _RULES,
        layout=layout,
        key=name or first_key(content, "state_dict", "model"),
        prefix=_PREFIX,
        beside=_BESIDE,
    )
    sizes = infer_arch(state, arch=arch)
    return Converted(
        arch=sizes,
        guesses=assumed(sizes, arch, widths=WIDTHS),
        state=state,
        method=method,
        pool="token",
        num_classes=0,
        fates=fates,
        positions=PositionRule(antialias=False, offset=0.1),
        branch=name,
    )
