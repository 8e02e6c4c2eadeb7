"""Columns on a row's network: its size, its pre-training, and the cost of that."""

import math
from collections.abc import Callable, Sequence

from micl_bench.records.names import arch_label
from micl_bench.records.published import Reference
from micl_bench.records.result import Result
from micl_bench.report.frame.lineage import PRETRAIN, Lineage, hardware_of, pretraining_stage
from micl_bench.report.tables.model import Cell
from micl_bench.report.tables.specs._spec import Fact

MISSING = Cell(text="n/a", kind="missing")
"""The cell of a number that was not measured, or of a fact that is not known."""

COSTS: dict[Fact, tuple[str, ...]] = {
    "device_hours": ("gpu_hours",),
    "wall_hours": ("wall_hours",),
    "other_cost": ("wall_days", "tpu_days", "speedup_vs_MAE"),
}
"""The published metrics of each cost; only those of our own unit stand beside our numbers."""


def is_numeric(fact: Fact) -> bool:
    """Return whether a column of this fact holds numbers."""
    return fact in _NUMBERS


def measured_fact(fact: Fact, results: Sequence[Result], lineage: Lineage) -> Cell:
    """Return the cell of a fact, from a row's records or the records of their pre-training.

    A number is the mean over the trainings behind the row, each once.
    """
    if fact in _WORDS:
        words = dict.fromkeys(_WORDS[fact](result, lineage) for result in results)
        text = " / ".join(filter(None, words))
        return Cell(text=text, kind="words") if text else MISSING
    if fact not in _NUMBERS:
        return MISSING
    found = [one for result in results if (one := _NUMBERS[fact](result, lineage))]
    numbers = {identity: number for number, identity in found}
    if not numbers:
        return MISSING
    mean, several = math.fsum(numbers.values()) / len(numbers), len(set(numbers.values())) > 1
    return Cell(
        text=f"{mean:.4g}" if abs(mean) < 1000 else f"{mean:,.0f}",
        value=mean,
        kind="measured",
        details=(f"mean of {len(numbers)} trainings",) if several else (),
        records=tuple(numbers),
    )


def published_fact(fact: Fact, reference: Reference) -> Cell:
    """Return the cell of a fact of a published row; its costs are published numbers of their own."""
    if fact == "epochs" and reference.pretrain_epochs is not None:
        epochs = reference.pretrain_epochs
        return Cell(text=f"{epochs:g}", value=epochs, kind="published", records=(reference.id,))
    words = {
        "arch": reference.arch,
        "input": str(reference.resolution or ""),
        "pretrain_data": reference.pretrain_data,
    }
    return Cell(text=words[fact], kind="words") if words.get(fact) else MISSING


def is_cost_of(cost: Reference, score: Reference) -> bool:
    """Return whether a published cost is of the same network, images and epochs as a score.

    Where the epochs are not stated, only a cost of the same source is known to be of the same training.
    """
    return (
        (cost.method, cost.arch, cost.pretrain_data, cost.pretrain_epochs)
        == (score.method, score.arch, score.pretrain_data, score.pretrain_epochs)
    ) and (score.pretrain_epochs is not None or cost.source == score.source)


def _epochs(result: Result, lineage: Lineage) -> tuple[float, str] | None:
    if stage := pretraining_stage(result):
        return stage.epochs, result.id
    if result.task == PRETRAIN and isinstance(epochs := result.settings.get("epochs"), int):
        return float(epochs), result.id
    drawn = result.checkpoint.origin[:1]
    return (0.0, result.id) if drawn and drawn[0].task == "initialise" else None


def _device_hours(result: Result, lineage: Lineage) -> tuple[float, str] | None:
    record = lineage.pretraining(result)
    return (record.device_hours, record.id) if record else None


def _wall_hours(result: Result, lineage: Lineage) -> tuple[float, str] | None:
    record = lineage.pretraining(result)
    return (record.seconds / 3600, record.id) if record else None


def _input(result: Result, lineage: Lineage) -> str:
    pixels = result.recipe.get("pixels")
    size = result.settings.get("img_size")
    size = size or (pixels.get("img_size") if isinstance(pixels, dict) else None)
    return str(size) if isinstance(size, int) else ""


def _pretrain_data(result: Result, lineage: Lineage) -> str:
    if result.task == PRETRAIN:
        return result.data.name
    stage = pretraining_stage(result)
    return stage.data if stage else ""


def _hardware(result: Result, lineage: Lineage) -> str:
    record = lineage.pretraining(result)
    return hardware_of(record.environment) if record else ""


_NUMBERS: dict[Fact, Callable[[Result, Lineage], tuple[float, str] | None]] = {
    "epochs": _epochs,
    "device_hours": _device_hours,
    "wall_hours": _wall_hours,
}
"""Each returns the number and the id of the record that holds it, or None where it is not known."""
_WORDS: dict[Fact, Callable[[Result, Lineage], str]] = {
    "arch": lambda result, lineage: arch_label(result.arch),
    "input": _input,
    "pretrain_data": _pretrain_data,
    "hardware": _hardware,
}
