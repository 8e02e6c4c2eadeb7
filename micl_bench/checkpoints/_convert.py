"""What every layout converts to, and what became of every tensor of the file."""

import dataclasses
from typing import Literal

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from micl_bench.backbone import Arch, Pool


@dataclasses.dataclass(frozen=True)
class Fate:
    """What became of one tensor of a file."""

    name: str
    """As the file calls it."""
    kind: Literal["used", "renamed", "left out"]
    target: str = ""
    """timm's name; empty where the tensor was left out."""
    reason: str = ""
    """Why it was left out, or changed on the way: `decoder`, `split into q, k, v`, ..."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionRule:
    """How a method's own code brings absolute positions to another grid."""

    kind: Literal["bicubic", "sincos"] = "bicubic"
    """`bicubic`: interpolate; `sincos`: compute the fixed table anew (MoCo v3)."""
    antialias: bool = True
    """timm does; MAE, DINO and their descendants do not."""
    offset: float = 0.0
    """Added to the number of patches a side before the scale factor is taken (DINO: 0.1)."""

    def __str__(self) -> str:
        if self.kind == "sincos":
            return "sin-cos computed anew"
        words = ["bicubic", "antialiased" if self.antialias else "not antialiased"]
        return ", ".join([*words, f"offset {self.offset:g}"] if self.offset else words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """Tensors under timm's names, and the sizes they need."""

    arch: Arch
    state: dict[str, Tensor]
    """Fills every parameter of `arch.build_any()`; `head.*` (and `fc_norm.*`) where there is one."""
    method: str
    """What made the weights, as tables print it; empty where neither keys nor file tell."""
    pool: Pool
    """What the stored head reads; for a backbone alone, what the method's authors read."""
    num_classes: int
    """0 where the file holds no head."""
    classes: tuple[str, ...] = ()
    """Names in the order of the head's outputs; empty where the file does not tell."""
    fates: tuple[Fate, ...] = ()
    """Every tensor of the file, in its order; made by `account`."""
    positions: PositionRule = PositionRule()
    branch: str = ""
    """Which of several networks in the file: `teacher`, `student`, `momentum encoder`, ..."""
    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD
    """Of the pixels (0 to 1) that the network was trained on."""
