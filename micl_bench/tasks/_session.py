"""What every task does with a request first and last."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import torch

from micl_bench.checkpoints import Checkpoint, load_checkpoint, stated
from micl_bench.data.checked import look_at
from micl_bench.data.pixels import Pixels, evaluation_settings
from micl_bench.data.source import Source, open_source
from micl_bench.engine.frozen.feature_cache import Features, cached_features, default_folder
from micl_bench.records.declared import Task
from micl_bench.records.provenance import Measurement, Subject
from micl_bench.records.result import DataSet, Result
from micl_bench.runtime.config import resolve, to_dict
from micl_bench.runtime.distributed import world_size
from micl_bench.runtime.values import Count, Precision, Seed, Values, Workers
from micl_bench.tasks._asked import Asked
from micl_bench.tasks._record import record


class TaskRecipe(Protocol):
    """What the recipes of all tasks share."""

    @property
    def seed(self) -> int:
        """Of weights that are drawn and of the order of images."""

    @property
    def pixels(self) -> Pixels:
        """How images are read."""


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


class Session(Generic[T]):
    """A request under way: the recipe resolved, the checkpoint read, the clock running."""

    def __init__(self, request: Asked, kind: type[T]) -> None:
        """Resolve and read.

        Raises:
            InputError: a wrong recipe, override or checkpoint.
        """
        self.request, self.device = request, request.device or torch.device("cpu")
        recipe = resolve(kind, request.recipe, request.overrides)
        self.measurement = Measurement(command=request.command)
        loaded = request.checkpoint
        if isinstance(loaded, str):
            loaded = load_checkpoint(
                loaded,
                arch=request.arch,
                layout=request.layout,
                branch=request.branch,
                pixels=request.pixels,
                seed=recipe.seed,
            )
        self.checkpoint: Checkpoint = stated(loaded, request.statement)
        size = self.checkpoint.input_size(recipe.pixels.img_size)
        pixels = dataclasses.replace(recipe.pixels, img_size=size)
        self.recipe: T = dataclasses.replace(recipe, pixels=pixels)  # type: ignore[type-var]
        if request.strict:
            self.checkpoint.refuse_guesses(size)

    @property
    def subject(self) -> Subject:
        """What is measured, and by which recipe."""
        return Subject(
            method=self.request.method or self.checkpoint.method,
            arch=self.checkpoint.arch.name,
            checkpoint=self.checkpoint.described_at(self.recipe.pixels.img_size),
            recipe=to_dict(self.recipe),
            seed=self.recipe.seed,
        )

    def features(self, source: Source, *, beside: Source | None = None) -> Features:
        """Features of every image, computed once for all tasks; the recipe says how.

        Args:
            beside: whose features are wanted next: its images are looked at too before any are
                computed.

        Raises:
            InputError: as `cached_features`.
        """
        recipe: Any = self.recipe
        return cached_features(
            self.checkpoint,
            source,
            recipe.pixels,
            device=self.device,
            precision=recipe.precision,
            batch_size=recipe.batch_size,
            num_workers=recipe.num_workers,
            folder=default_folder(),
            label=f"features of {source.root.name}",
            before=lambda: look_at(*(one for one in (source, beside) if one is not None)),
        )

    def measure(
        self,
        task: Task,
        metrics: Mapping[str, float] = MappingProxyType({}),
        *,
        settings: Mapping[str, Any] = MappingProxyType({}),
        guesses: tuple[str, ...] = (),
        protocol: str = "",
        data: DataSet | None = None,
        seconds: float | None = None,
        device_seconds: float | None = None,
        **more: Any,
    ) -> list[Result]:
        """The record of what was measured since the checkpoint was read, as `measure.record` has it.

        Args:
            settings: what moves the number, beside how images are read, which is added here.
            guesses: what was assumed of the checkpoint beside what it says itself.
            protocol: one line for a table's caption; the input's size if empty.
            data: the images that were measured on; those of `<data>/val` if None.
            seconds: of a record that shares its call with others; else all since the start.
        """
        pixels, subject = self.recipe.pixels, self.subject
        known = dataclasses.replace(
            subject.checkpoint, guesses=(*subject.checkpoint.guesses, *guesses)
        )
        took = self.measurement.elapsed if seconds is None else seconds
        one = record(
            task,
            dataclasses.replace(subject, checkpoint=known),
            metrics,
            measurement=self.measurement,
            out=self.request.out,
            settings={**evaluation_settings(pixels), **settings},
            protocol=protocol or f"{pixels.img_size} px",
            data=data or open_source(self.request.data / "val").describe(),
            seconds=took,
            device_seconds=took * world_size() if device_seconds is None else device_seconds,
            **more,
        )
        return [one]
