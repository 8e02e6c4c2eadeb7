"""iBOT (Zhou et al. 2022): DINO's files with a mask token and a second head for patches."""

from typing import Any

from micl_bench.checkpoints._converted import Converted
from micl_bench.checkpoints._distilled import convert_distilled, is_ibot, names_of


def recognise(content: dict[str, Any]) -> bool:
    """Return whether there is iBOT's loss, head or mask token beside a ViT.

    Published backbones alone are as DINO's.
    """
    names = names_of(content)
    return "blocks.0.norm1.weight" in names and is_ibot(content, names)


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert the teacher's ViT; `branch` is `teacher` or `student`."""
    return convert_distilled(content, arch=arch, branch=branch, layout="ibot", method="iBOT")
