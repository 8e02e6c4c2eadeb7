"""Training state on disk: always the whole of one step, old or new, never a part."""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from micl_bench.checkpoints import read_safely
from micl_bench.errors import InputError
from micl_bench.files import atomic_path


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a run has come: steps done, and seconds spent on them over all its processes."""

    step: int = 0
    seconds: float = 0.0


def save_training(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Write weights, optimiser and position; random numbers are functions of the position."""
    content = {
        "step": position.step,
        "seconds": position.seconds,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def restore_training(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Load the last saved state in place, if there is one.

    Raises:
        InputError: the file is damaged or of another model.
    """
    if not path.exists():
        return Position()
    content = read_safely(path)
    try:
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        return Position(step=content["step"], seconds=content["seconds"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} does not fit this run ({reason}); remove it to start over"
        ) from error
