"""What every task does with a request first and last."""

import dataclasses
from typing import Any, Protocol, TypeVar

import torch

from micl_bench.checkpoints import Checkpoint, load_checkpoint, stated
from micl_bench.data.pixels import Pixels, evaluation_settings
from micl_bench.records.evidence.per_image import write_named_arrays
from micl_bench.records.evidence.predictions import Predictions, arrays_of
from micl_bench.records.provenance import Measurement
from micl_bench.records.result import DataSet, Result, name_part
from micl_bench.records.statistics import wilson
from micl_bench.runtime.config import resolve, to_dict
from micl_bench.runtime.distributed import rank, world_size
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.values import Count, Precision, Seed, Values, Workers
from micl_bench.tasks import Task, running
from micl_bench.tasks._request import Request


class TaskRecipe(Protocol):
    """What the recipes of all tasks share."""

    @property
    def seed(self) -> int:
        """Of weights that are drawn and of the order of images."""


T = TypeVar("T", bound=TaskRecipe)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainRecipe(Values):
    """How images are read, of a task that has no recipe of its own."""

    pixels: Pixels = Pixels()
    precision: Precision = "fp32"
    """Of the backbone: fp32 or bf16."""
    batch_size: Count = 128
    """Images that are read at a time; moves no number."""
    num_workers: Workers = 0
    seed: Seed = 0


def recipe_kind(task: str) -> type[Any]:
    """The dataclass that `--recipe` and `--set` of a task are read as."""
    kind: type[Any] = getattr(running(task), "RECIPE", PlainRecipe)
    return kind


class Session:
    """A request under way: the recipe resolved, the checkpoint read, the clock running."""

    def __init__(self, request: Request, kind: type[T]) -> None:
        """Resolve and read.

        Raises:
            InputError: a wrong recipe, override or checkpoint.
        """
        self.request, self.device = request, request.device or torch.device("cpu")
        recipe: Any = resolve(kind, request.recipe, request.overrides)
        self.measurement = Measurement(command=request.command)
        loaded = load_checkpoint(
            request.checkpoint,
            arch=request.arch,
            layout=request.layout,
            branch=request.branch,
            pixels=request.pixels,
            seed=recipe.seed,
        )
        self.checkpoint: Checkpoint = stated(loaded, request.statement)
        size = self.checkpoint.input_size(recipe.pixels.img_size)
        pixels = dataclasses.replace(recipe.pixels, img_size=size)
        self.recipe: Any = dataclasses.replace(recipe, pixels=pixels)
        if request.strict:
            self.checkpoint.refuse_guesses(size)

    def result(
        self,
        *,
        task: Task,
        protocol: str,
        data: DataSet,
        settings: dict[str, Any],
        train: DataSet | None = None,
        predictions: Predictions | None = None,
        evidence: Predictions | None = None,
        metrics: dict[str, float] | None = None,
        intervals: dict[str, list[float]] | None = None,
        details: dict[str, Any] | None = None,
        artifacts: dict[str, str] | None = None,
        undefined: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> Result:
        """The record of a number measured since the checkpoint was opened.

        Args:
            train: the labelled images that were fitted or trained on.
            settings: what moves the number, beside how images are read, which is added here.
            predictions: written to the output folder; each of their metrics becomes an accuracy with
                its Wilson interval.
            evidence: the same where `metrics` are made of them in another way.
            metrics: others; `intervals` are theirs.
            undefined: why one of `metrics` is NaN.
            seconds: of a record that shares its call with others; else all since the start.
        """
        metrics, intervals = dict(metrics or {}), dict(intervals or {})
        took = self.measurement.elapsed if seconds is None else seconds
        artifacts, pixels = dict(artifacts or {}), self.recipe.pixels
        digests: dict[str, str] = {}
        kept = predictions or evidence
        undefined = dict(undefined or {})
        if predictions:
            accuracies = {name: predictions.accuracy(name) for name in predictions.correct}
            metrics = accuracies | metrics
            undefined |= {
                name: "no image counts for it"
                for name in accuracies
                if not predictions.counted(name)
            }
            intervals |= {
                name: list(wilson(value, predictions.counted(name)))
                for name, value in accuracies.items()
            }
        if kept:
            name = f"predictions-{task.name}-{name_part(data.name)}"
            if rank() == 0:
                path = write_named_arrays(self.request.out, name, arrays_of(kept))
                digests["predictions"] = digest_file(path)
            artifacts["predictions"] = path.name if rank() == 0 else name
        return self.measurement.result(
            task=task,
            protocol=protocol,
            method=self.request.method or self.checkpoint.method,
            arch=self.checkpoint.arch.name,
            metrics=metrics,
            data=data,
            checkpoint=self.checkpoint.described_at(pixels.img_size),
            recipe=to_dict(self.recipe),
            seed=self.recipe.seed,
            settings={"task": task.name, **evaluation_settings(pixels), **settings},
            train=train,
            intervals=intervals,
            details=details,
            artifacts=artifacts,
            digests=digests,
            undefined=undefined,
            seconds=took,
            device_seconds=took * world_size(),
        )
