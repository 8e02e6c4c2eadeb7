"""iBOT (Zhou et al. 2022): DINO's files with a mask token and a second head for patches."""

import re
from typing import Any

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._distilled import convert_distilled, names_of


def recognise(content: dict[str, Any]) -> bool:
    """iBOT's loss, its second last layer or its mask token beside a ViT.

    The published backbones alone have timm's names and nothing else: they are read as timm's,
    unless the layout is given.
    """
    names = names_of(content)
    if "blocks.0.norm1.weight" not in names:
        return False
    head = any(re.match(r"head\.last_layer2\.", name) for name in names)
    return head or "masked_embed" in names or "ibot_loss" in content


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """The teacher's ViT; `branch`: `teacher` or `student`.

    Raises:
        InputError: unknown tensors, another branch, or no ViT.
    """
    return convert_distilled(content, arch=arch, branch=branch, layout="ibot", method="iBOT")
