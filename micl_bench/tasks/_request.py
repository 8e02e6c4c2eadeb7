"""The request of an evaluation, and the way from it to its records. Torch is imported by use alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from micl_bench.records.declared import Task
from micl_bench.records.provenance import Measurement, Subject
from micl_bench.records.result import DataSet, Result, name_part

if TYPE_CHECKING:
    import torch

    from micl_bench.checkpoints import Checkpoint, Statement
    from micl_bench.data.source import Source
    from micl_bench.engine.frozen.stored import Features
    from micl_bench.records.evidence.evidence import Evidence

_NONE: Mapping[str, Any] = MappingProxyType({})


R = TypeVar("R")


@dataclasses.dataclass(kw_only=True)
class Request:
    """One evaluation, asked for by `micl-bench eval` or in Python, and the means to carry it out."""

    checkpoint: "str | Checkpoint"
    """A file, `timm:NAME`, `public:NAME` or `random:ARCH`; or a module in memory, as a checkpoint."""
    arch: str | None = None
    """Architecture, where the file's shapes do not show it."""
    layout: str | None = None
    """Checkpoint format, where the keys fit several."""
    branch: str | None = None
    """Which of several networks in the file."""
    pixels: str | None = None
    """Mean and std of the pixels, where the file does not state them; as `load_checkpoint` has it."""
    strict: bool = False
    """Refuse a checkpoint about which anything would be assumed."""
    data: Path
    out: Path
    recipe: Path | None = None
    """None for the task's own defaults."""
    overrides: tuple[str, ...] = ()
    method: str = ""
    """Row name in tables; empty for the checkpoint's own."""
    command: str = ""
    statement: "Statement | None" = None
    """The pre-training that the weights come from, where the user states it."""
    device: "torch.device" = None  # type: ignore[assignment]
    """Device of this process, as `distributed.process_group` gives it; None for the CPU."""
    loaded: "Checkpoint" = dataclasses.field(init=False, repr=False)
    """The checkpoint, once `open` has read it."""
    resolved: Any = dataclasses.field(default=None, init=False, repr=False)
    """The recipe that `open` returned."""
    measurement: Measurement = dataclasses.field(init=False, repr=False)
    """The clock, which `open` starts."""

    def open(self, kind: type[R]) -> R:
        """Resolve the recipe, start the clock, read the checkpoint; returns the recipe, read as the
        dataclass `kind` with `pixels` and `seed`, with the size of the input in it.

        Raises:
            InputError: a recipe or checkpoint that cannot be used.
        """
        import torch

        from micl_bench.checkpoints import load_checkpoint, stated
        from micl_bench.runtime.config import resolve

        self.device = self.device or torch.device("cpu")
        recipe: Any = resolve(kind, self.recipe, self.overrides)
        self.measurement = Measurement(command=self.command)
        loaded = self.checkpoint
        if isinstance(loaded, str):
            loaded = load_checkpoint(
                loaded,
                arch=self.arch,
                layout=self.layout,
                branch=self.branch,
                pixels=self.pixels,
                seed=recipe.seed,
            )
        self.loaded = stated(loaded, self.statement)
        size = self.loaded.input_size(recipe.pixels.img_size)
        pixels = dataclasses.replace(recipe.pixels, img_size=size)
        self.resolved = opened = dataclasses.replace(recipe, pixels=pixels)
        if self.strict:
            self.loaded.refuse_guesses(size)
        return opened

    def _opened(self) -> Any:
        """The recipe; for a task that has opened none, one of the reading of images alone."""
        from micl_bench.tasks._frozen import PlainRecipe

        return self.resolved or self.open(PlainRecipe)

    def features(
        self, images: "str | Source" = "val", *, beside: "Source | None" = None
    ) -> "Features":
        """Return features by the frozen backbone of every image of `<data>/<split>` or of a source,
        computed once for all tasks. The images `beside`, whose features are wanted next, are looked at
        before these are computed.

        Raises:
            InputError: as `cached_features`.
        """
        from micl_bench.data.checked import look_at
        from micl_bench.data.source import open_source
        from micl_bench.engine.frozen.cache import cached_features
        from micl_bench.runtime.files import writable_cache

        recipe = self._opened()
        source = open_source(self.data / images) if isinstance(images, str) else images
        return cached_features(
            self.loaded,
            source,
            recipe.pixels,
            device=self.device,
            precision=recipe.precision,
            batch_size=recipe.batch_size,
            num_workers=recipe.num_workers,
            folder=writable_cache("features"),
            label=f"features of {source.root.name}",
            before=lambda: look_at(*(one for one in (source, beside) if one is not None)),
        )

    def measure(
        self,
        task: Task,
        metrics: Mapping[str, float] = _NONE,
        *,
        settings: Mapping[str, Any] = _NONE,
        guesses: tuple[str, ...] = (),
        protocol: str = "",
        data: DataSet | None = None,
        evidence: "Evidence | None" = None,
        intervals: Mapping[str, Sequence[float]] = _NONE,
        artifacts: Mapping[str, str] = _NONE,
        seconds: float | None = None,
        device_seconds: float | None = None,
        **fields: Any,
    ) -> list[Result]:
        """Make the record of a measurement, and write its evidence: the one builder of records.

        Data, checkpoint, recipe, digests, time and environment come from this request.

        Args:
            metrics: by name; those that the evidence gives need not be among them.
            settings: all that moves the number; the reading of images is added here.
            guesses: assumptions about the checkpoint beside its own.
            protocol: one line for a table's caption; the input's size if empty.
            data: the images that were measured on; those of `<data>/val` if None.
            evidence: kept for each image; its metrics that the task declares, with their intervals,
                are the record's where `metrics` does not give them.
            intervals: both ends of the 95 % interval of each of `metrics`.
            artifacts: other files beside the record, by name.
            seconds: the share of a record whose call makes several; None for all since the start.
            fields: others that `Measurement.result` takes.

        Raises:
            InputError: a metric that the task does not declare.
        """
        from micl_bench.data.pixels import evaluation_settings
        from micl_bench.data.source import open_source
        from micl_bench.records.evidence.evidence import write_named_arrays
        from micl_bench.runtime.config import to_dict
        from micl_bench.runtime.distributed import rank, world_size
        from micl_bench.runtime.files import digest_file

        recipe, data = self._opened(), data or open_source(self.data / "val").describe()
        took = self.measurement.elapsed if seconds is None else seconds
        known = self.loaded.described_at(recipe.pixels.img_size)
        kept, digests, undefined = dict(artifacts), {}, {}
        if evidence is not None:
            given = {
                name: value for name, value in evidence.metrics().items() if task.declares(name)
            }
            metrics, undefined = given | {**metrics}, dict.fromkeys(given, evidence.undefined)
            intervals = evidence.intervals(seed=recipe.seed) | {**intervals}
            kept["evidence"] = f"{evidence.kind}-{task.name}-{name_part(data.name)}"
            if rank() == 0:
                path = write_named_arrays(self.out, kept["evidence"], evidence.arrays())
                kept["evidence"], digests["evidence"] = path.name, digest_file(path)
        subject = Subject(
            method=self.method or self.loaded.method,
            arch=self.loaded.arch.name,
            checkpoint=dataclasses.replace(known, guesses=(*known.guesses, *guesses)),
            recipe=to_dict(recipe),
            seed=recipe.seed,
        )
        one = self.measurement.result(
            task,
            subject,
            metrics,
            settings={**evaluation_settings(recipe.pixels), **settings},
            intervals=intervals,
            undefined=undefined,
            protocol=protocol or f"{recipe.pixels.img_size} px",
            data=data,
            artifacts=kept,
            evidence=evidence.kind if evidence else "",
            digests=digests,
            seconds=took,
            device_seconds=took * world_size() if device_seconds is None else device_seconds,
            **fields,
        )
        return [one]

    def keep_classifier(
        self,
        task: Task,
        result: Result,
        model: Any,
        *,
        made: str,
        classes: tuple[str, ...],
        epochs: float,
    ) -> None:
        """Write the classifier that a task leaves, on the first process. Later measurements of it repeat
        how it was `made`; no seed is in that."""
        from micl_bench.checkpoints import save_checkpoint
        from micl_bench.runtime.distributed import rank

        if rank() != 0:
            return
        save_checkpoint(
            self.out / task.leaves,
            model,
            dataclasses.replace(self.loaded.arch, img_size=self.resolved.pixels.img_size),
            method=result.method,
            provenance={
                "task": task.name,
                "protocol": result.protocol,
                "classifier": made,
                "parent": self.loaded.info.digest,
                "command": self.command,
                "recipe": result.recipe,
                "classes": list(classes),
            },
            stage=result.as_stage(epochs=epochs),
            start=self.loaded,
        )
