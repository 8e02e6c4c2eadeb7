"""The cost of each pre-training method: speed, FLOP, tokens and memory of a step, in one run.

Every objective that is found, of plug-ins too, with its default values, the published ones, on one ViT,
without [CLS] where the method has none. What one image takes is counted; speed is that of the step which
`micl-bench pretrain` takes, with its batch in memory and with batches read from a packed store; all in
turn, medians of rounds, for which all models are in memory together.

Peak memory is that of a process of its own for each, on a CPU and on a GPU: weights, optimiser state,
gradients and activations of two steps, after which there is nothing new to allocate; not what the
process had before, which is Python, its libraries and the batch.

An objective that cannot be measured so says why, and the others are measured.
"""

import contextlib
import dataclasses
import functools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch

from micl_bench.backbone import Arch, named_arch
from micl_bench.bench.machine import Peak, in_own_process, in_turn
from micl_bench.bench.training import (
    images_per_second,
    photograph_store,
    training_batches,
    training_step,
)
from micl_bench.data.packed.store import Store, open_store
from micl_bench.data.visible import Visible
from micl_bench.objectives import Objective, find_objective
from micl_bench.runtime import plugins
from micl_bench.runtime.config import to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress
from micl_bench.runtime.values import LARGEST, Count, Precision, Values, Within

BASELINE = "micl"
"""The objective that the others are compared with."""
_LAYOUTS = ("patch", "image")
"""Stores that an objective's batches come from: the first that it takes."""
_RATIOS = ("images_per_second", "images_per_second_with_data", "flop_per_image", "peak_memory_mib")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectivesSettings(Values):
    """The training that is measured, and for how long."""

    arch: str = "vit_small_patch16_224"
    objectives: tuple[str, ...] = ()
    """Names of those that are measured beside MiCL; empty for all that are found."""
    batch: Annotated[int, Within(2, LARGEST)] = 64
    precision: Precision = "fp32"
    compile: bool = False
    steps: Count = 1
    """Steps of each objective in each round, without data and with."""
    rounds: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        named_arch(self.arch)
        for name in self.objectives:
            find_objective(name)

    def vit_for(self, objective: Objective) -> Arch:
        """The architecture, without [CLS] for an objective whose backbone has none."""
        plain = self.arch.removesuffix("_nocls")
        return named_arch(plain if objective.class_token else f"{plain}_nocls")

    @property
    def names(self) -> list[str]:
        """Names of the objectives, MiCL first."""
        others = self.objectives or plugins.usable("objectives", find_objective)
        return list(dict.fromkeys([BASELINE, *others]))


def bench_objectives(settings: ObjectivesSettings, device: torch.device) -> list[dict[str, Any]]:
    """Measure each objective; one that fails has its `error` in place of figures.

    A result has the objective's `name`, its `method`, `objective` (its values) and `arch`, the `layout`
    of its store, `images_per_second`, `images_per_second_with_data`, `flop_per_image`, `student_tokens`
    and `teacher_tokens` per image, `peak_memory_mib`, and `x_micl`, the ratios of these to MiCL's.

    Raises:
        InputError: sizes that do not go together, or too little disk.
    """
    results: list[dict[str, Any]] = [{"name": name} for name in settings.names]
    with tempfile.TemporaryDirectory(prefix="micl-bench-objectives-") as name:
        folder, arch = Path(name), named_arch(settings.arch)
        stores = {
            layout: photograph_store(folder, arch, layout=layout, number=2 * settings.batch)
            for layout in _LAYOUTS
        }
        with Progress("bench objectives: memory", total=len(results)) as progress:
            for result in results:
                result |= _counted(settings, result["name"], folder, device)
                progress.step(result["name"])
        with contextlib.ExitStack() as closing:
            ways: dict[str, Callable[[], float]] = {}
            for result in results:
                if "error" not in result:
                    store = stores[result["layout"]]
                    ways |= _ways(settings, result["name"], store, device, closing)
            found = in_turn("bench objectives", ways, rounds=settings.rounds)
    for result in results:
        if "error" not in result:
            for key in ("images_per_second", "images_per_second_with_data"):
                result[key] = round(statistics.median(found[f"{result['name']} {key}"]), 3)
    for result in results:
        if "error" not in result and "error" not in results[0]:
            result["x_micl"] = {
                key: round(result[key] / results[0][key], 4) for key in _RATIOS if results[0][key]
            }
    return results


def _counted(
    settings: ObjectivesSettings, name: str, folder: Path, device: torch.device
) -> dict[str, Any]:
    """What is counted, and the peak of memory, found in a process of its own; or why there is none."""
    try:
        return in_own_process(_count, settings, name, folder, device)
    except InputError as error:
        return {"error": " ".join(str(error).split())}


def _count(
    settings: ObjectivesSettings, name: str, folder: Path, device: torch.device
) -> dict[str, Any]:
    objective = find_objective(name).Config().build()
    arch = settings.vit_for(objective)
    student, teacher = objective.tokens_per_image(arch, batch_size=settings.batch)
    flop = objective.flop_per_image(arch, batch_size=settings.batch)
    layout, batch = _first_batch(objective, settings, folder, device)
    peak = Peak(device)
    step = _step(objective, settings, device)
    for _ in range(2):
        step(batch)
    return {
        "method": objective.name,
        "objective": to_dict(objective.config),
        "arch": arch.name,
        "layout": layout,
        "flop_per_image": flop,
        "student_tokens": round(student, 1),
        "teacher_tokens": round(teacher, 1),
        "peak_memory_mib": peak.mib(),
    }


def _first_batch(
    objective: Objective, settings: ObjectivesSettings, folder: Path, device: torch.device
) -> tuple[str, Visible]:
    """A batch from the first store that the objective takes, and the layout of that."""
    *others, last = _LAYOUTS
    for layout in others:
        with contextlib.suppress(InputError):
            return layout, _batch_of(objective, settings, folder / layout, device)
    return last, _batch_of(objective, settings, folder / last, device)


def _batch_of(
    objective: Objective, settings: ObjectivesSettings, store: Path, device: torch.device
) -> Visible:
    arch = settings.vit_for(objective)
    batches = training_batches(
        objective, arch, open_store(store), batch=settings.batch, device=device
    )
    with contextlib.closing(batches):
        return next(batches)


def _step(
    objective: Objective, settings: ObjectivesSettings, device: torch.device
) -> Callable[[Visible], object]:
    return training_step(
        objective,
        settings.vit_for(objective),
        device,
        precision=settings.precision,
        compile_blocks=settings.compile,
    )


def _ways(
    settings: ObjectivesSettings,
    name: str,
    store: Store,
    device: torch.device,
    closing: contextlib.ExitStack,
) -> dict[str, Callable[[], float]]:
    """The two ways to run an objective, by `<name> <figure>`; one model for both."""
    objective = find_objective(name).Config().build()
    arch = settings.vit_for(objective)
    batches = training_batches(objective, arch, store, batch=settings.batch, device=device)
    closing.enter_context(contextlib.closing(batches))
    step, batch = _step(objective, settings, device), next(batches)
    takes = {
        "images_per_second": lambda: step(batch),
        "images_per_second_with_data": lambda: step(next(batches)),
    }
    return {
        f"{name} {figure}": functools.partial(
            images_per_second, take, steps=settings.steps, batch=settings.batch, device=device
        )
        for figure, take in takes.items()
    }
