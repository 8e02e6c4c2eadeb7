"""What every layout converts to, and what became of every tensor of the file."""

import dataclasses
import math
from typing import Any, Literal

from torch import Tensor

from micl_bench.backbone import Arch, Pool, PositionRule
from micl_bench.checkpoints._told import IMAGENET, Pixels
from micl_bench.records.result import Stage
from micl_bench.runtime.errors import InputError


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


Guess = Literal["heads", "pixels", "norm_eps", "grid", "positions"]
"""What no tensor tells: heads, mean and std of the pixels, the norms' epsilon, how positions lie on
the input, and how they come to another grid."""


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
    origin: tuple[Stage, ...] = ()
    """The trainings behind the weights, oldest first; empty where the file does not tell."""
    told_seed: int | None = None
    """That the file says its training had, where it is no file of ours; None where it does not say."""
    maker: str = ""
    """How the head came to be (`linear probe on [CLS]`); empty where the file does not tell."""
    fates: tuple[Fate, ...] = ()
    """Every tensor of the file, in its order; made by `account`."""
    positions: PositionRule = PositionRule()
    branch: str = ""
    """Which of several networks in the file: `teacher`, `student`, `momentum encoder`, ..."""
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    """Of the pixels (0 to 1) that the network was trained on."""
    guesses: tuple[Guess, ...] = ()
    """What was assumed, as neither the file nor the caller states it."""
    proven: bool = True
    """Its content shows that this layout's own code wrote the file. Where it does not, and the caller
    does not say so, what this code has by default is assumed too, and made the weights nobody knows."""
    untold_pixels: str = ""
    """Why mean and std cannot even be assumed, and what would tell; empty where they can."""

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(map(_is_number, values)):
                raise InputError(f"{name} {values!r} of the pixels; needed are three numbers")
        if min(self.std) <= 0:
            raise InputError(f"std {self.std!r} of the pixels; needed are numbers above 0")

    def with_pixels(self, pixels: Pixels) -> "Converted":
        """The same with mean and std that somebody states."""
        mean, std = pixels
        return dataclasses.replace(self.settled("pixels"), mean=mean, std=std)

    def settled(self, guess: Guess) -> "Converted":
        """The same where that is no guess."""
        return dataclasses.replace(self, guesses=tuple(one for one in self.guesses if one != guess))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
