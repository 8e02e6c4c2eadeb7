"""Converted checkpoints: tensors under timm's names, and the fate of every tensor of the file."""

import dataclasses
import math
from typing import Any, Literal

from torch import Tensor

from micl_bench.backbone import Arch, Pool, PositionRule
from micl_bench.checkpoints._options import IMAGENET, Pixels
from micl_bench.records.weights import Stage
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True)
class Fate:
    """The fate of one tensor of a file."""

    name: str
    """The tensor's name in the file."""
    kind: Literal["used", "renamed", "left out"]
    target: str = ""
    """timm's name; empty where the tensor was left out."""
    reason: str = ""
    """The reason why it was left out or changed: `decoder`, `split into q, k, v`, ..."""


Guess = Literal["heads", "pixels", "norm_eps", "grid", "positions"]
"""No tensor shows these: heads, mean and std of the pixels, the norms' epsilon, the grid that positions
lie on, and their resampling to another grid."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Converted:
    """Tensors under timm's names, and the sizes they need."""

    arch: Arch
    state: dict[str, Tensor]
    """Fills every parameter of `arch.build_any()`; `head.*` (and `fc_norm.*`) where there is one."""
    method: str
    """The method that made the weights, as tables print it; empty where it is not known."""
    pool: Pool
    """The stored head reads this; of a backbone alone the method's authors read it."""
    num_classes: int
    """0 where the file holds no head."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the head's outputs; empty where the file does not state them."""
    origin: tuple[Stage, ...] = ()
    """The trainings behind the weights, oldest first; empty where the file does not state them."""
    own_seed: int | None = None
    """The seed of training that a file of other code states; None where it does not."""
    maker: str = ""
    """The making of the head (`linear probe on [CLS]`); empty where the file does not state it."""
    fates: tuple[Fate, ...] = ()
    """Every tensor of the file, in its order; made by `account`."""
    beside: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Tensors beside the backbone that the caller asked for, under the names that it gave them."""
    beside_fates: frozenset[str] = frozenset()
    """The names that those have in `fates`."""
    positions: PositionRule = PositionRule()
    branch: str = ""
    """The name of one of several networks in the file: `teacher`, `student`, ..."""
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    """Mean and std of the pixels, from 0 to 1, that the network was trained on."""
    guesses: tuple[Guess, ...] = ()
    """The assumptions, as neither the file nor the caller states these."""
    proven: bool = True
    """The content shows that this layout's own code wrote the file. Where it does not, and the caller
    does not say so, the defaults of this code are assumptions too, and the method is not known."""
    unknown_pixels: str = ""
    """The reason why mean and std cannot even be assumed, with the way out; empty where they can."""

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(map(_is_number, values)):
                raise InputError(f"{name} {values!r} of the pixels; needed are three numbers")
        if min(self.std) <= 0:
            raise InputError(f"std {self.std!r} of the pixels; needed are numbers above 0")

    def with_pixels(self, pixels: Pixels) -> "Converted":
        """Return a copy with a mean and std that somebody states."""
        mean, std = pixels
        return dataclasses.replace(self.settled("pixels"), mean=mean, std=std)

    def settled(self, guess: Guess) -> "Converted":
        """Return a copy in which that is no longer assumed."""
        return dataclasses.replace(self, guesses=tuple(one for one in self.guesses if one != guess))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
