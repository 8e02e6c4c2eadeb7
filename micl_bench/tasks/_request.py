"""What every task is asked for, and what every task does with it first and last."""

import dataclasses
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from micl_bench.checkpoints import Checkpoint, load_checkpoint
from micl_bench.config import load_recipe, override, to_dict
from micl_bench.provenance import Measurement
from micl_bench.record import DataSet, Result


class TaskRecipe(Protocol):
    """What the recipes of all tasks share."""

    @property
    def seed(self) -> int:
        """Of weights that are drawn and of the order of images."""


T = TypeVar("T", bound=TaskRecipe)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `micl-bench eval`."""

    checkpoint: str
    """A file, `timm:NAME` or `random:ARCH`."""
    data: Path
    out: Path
    recipe: Path | None
    """None for the task's own defaults."""
    overrides: tuple[str, ...]
    method: str
    """Row name in tables; empty for what the checkpoint says."""
    command: str


class Session:
    """A request under way: the recipe resolved, the checkpoint read, the clock running."""

    def __init__(self, request: Request, kind: type[T]) -> None:
        """Resolve and read.

        Raises:
            InputError: a wrong recipe, override or checkpoint.
        """
        self.request = request
        recipe = load_recipe(request.recipe, kind) if request.recipe else kind()
        self.recipe: Any = override(recipe, request.overrides)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.measurement = Measurement(command=request.command)
        self.checkpoint: Checkpoint = load_checkpoint(request.checkpoint, seed=self.recipe.seed)

    def result(
        self,
        *,
        task: str,
        protocol: str,
        metrics: dict[str, float],
        data: DataSet,
        artifacts: dict[str, str] | None = None,
    ) -> Result:
        """The record of a number measured since the checkpoint was opened."""
        return self.measurement.result(
            task=task,
            protocol=protocol,
            method=self.request.method or self.checkpoint.method,
            arch=self.checkpoint.arch.name,
            metrics=metrics,
            data=data,
            checkpoint=self.checkpoint.info,
            recipe=to_dict(self.recipe),
            seed=self.recipe.seed,
            artifacts=artifacts,
        )
