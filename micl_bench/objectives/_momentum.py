"""Momentum twins: networks that follow trained ones as moving averages, and get no gradient.

A twin starts as a copy. After every update of the weights by the optimiser, each of its parameters
becomes m * twin + (1 - m) * trained, of the new weights; parameters that nobody trains, such as fixed
positions, stay equal. Buffers are the twin's own: they are not averaged. The momentum m is a function of
the share of the run's steps that are done, this one included: it ends at 1, where the twin stands still.

Twins are modules among an objective's added ones. So they are saved and restored with these bit for bit,
whole on every process or sharded as the trained ones are; each process then averages its own part, and
nothing is exchanged: the trained weights are the same everywhere.
"""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def twin_of(trained: Kind) -> Kind:
    """Return a frozen copy of a module, as a network that is to follow it."""
    return copy.deepcopy(trained).requires_grad_(False)


@torch.no_grad()
def follow_(twin: nn.Module, trained: nn.Module, *, momentum: float) -> None:
    """Move a twin in place: `momentum` times itself, and the rest of the trained module.

    Raises:
        ValueError: the two have other parameters.
    """
    ours, theirs = dict(twin.named_parameters()), dict(trained.named_parameters())
    if ours.keys() != theirs.keys():
        raise ValueError(f"no twin: {sorted(ours.keys() ^ theirs.keys())} are in one alone")
    # Shards are averaged as they lie: both modules are sharded alike.
    torch._foreach_lerp_(list(ours.values()), list(theirs.values()), 1 - momentum)


def cosine_momentum(start: float, progress: float) -> float:
    """Return the momentum that rises from `start` to 1 along a half cosine (BYOL, DINO, ExtreMA):
    1 - (1 - start) * (1 + cos(pi * progress)) / 2."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2


def linear_momentum(start: float, progress: float) -> float:
    """Return the momentum that rises evenly from `start` to 1 (I-JEPA)."""
    return start + (1 - start) * progress
