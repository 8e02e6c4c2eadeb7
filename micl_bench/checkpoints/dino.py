"""DINO (Caron et al. 2021): full checkpoints with student and teacher, or one of them alone."""

import re
from typing import Any

from micl_bench.checkpoints import solo_learn
from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._distilled import convert_distilled, is_ibot, names_of


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there is DINO's loss, or its head's last layer, beside a ViT, and no sign of iBOT.

    The published backbones alone have timm's names and nothing else: they are read as timm's,
    unless the layout is given.
    """
    names = names_of(content)
    if "blocks.0.norm1.weight" not in names or is_ibot(content, names):
        return False
    head = any(re.match(r"head\.last_layer\.", name) for name in names)
    return (head or "dino_loss" in content) and not solo_learn.recognise(content)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the teacher's ViT; `branch` is `teacher` or `student`."""
    return convert_distilled(content, arch=arch, branch=branch, layout="dino", method="DINO")
