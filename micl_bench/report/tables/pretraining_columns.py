"""How a row's network came to be: its size, its pre-training, and what that took."""

import math
from collections.abc import Callable, Iterable, Sequence

from micl_bench.records.names import arch_label
from micl_bench.records.published import Reference
from micl_bench.records.result import Result
from micl_bench.report.frame.lineage import Lineage, hardware_of, pretraining_stage
from micl_bench.report.tables.model import Cell
from micl_bench.report.tables.specs._spec import Fact

MISSING = Cell(text="n/a", kind="missing")
"""Nothing was measured here, or nothing is known."""

COSTS: dict[Fact, tuple[str, ...]] = {
    "device_hours": ("gpu_hours",),
    "wall_hours": ("wall_hours",),
    "other_cost": ("wall_days", "tpu_days", "speedup_vs_MAE"),
}
"""The published metrics of each cost; only what has our own unit stands beside our numbers."""


def is_numeric(fact: Fact) -> bool:
    """Whether a column of it holds numbers."""
    return fact in ("epochs", "device_hours", "wall_hours")


def measured_fact(fact: Fact, results: Sequence[Result], lineage: Lineage) -> Cell:
    """Of a row's records, as they or the records of their pre-training say it."""
    if fact in _NUMBERS:
        return _number(_NUMBERS[fact], results, lineage)
    words = [_WORDS[fact](result, lineage) for result in results] if fact in _WORDS else []
    told = dict.fromkeys(word for word in words if word)
    return Cell(text=" / ".join(told), kind="words") if told else MISSING


def published_fact(fact: Fact, reference: Reference) -> Cell:
    """Of a published row, as its source says it; costs are numbers of their own."""
    if fact == "arch":
        return Cell(text=reference.arch, kind="words")
    if fact == "input" and reference.resolution:
        return Cell(text=str(reference.resolution), kind="words")
    if fact == "pretrain_data":
        return Cell(text=reference.pretrain_data, kind="words")
    if fact == "epochs" and reference.pretrain_epochs is not None:
        epochs = reference.pretrain_epochs
        return Cell(text=f"{epochs:g}", value=epochs, kind="published", records=(reference.id,))
    return MISSING


def _number(
    of: Callable[[Result, Lineage], tuple[float, str] | None],
    results: Iterable[Result],
    lineage: Lineage,
) -> Cell:
    """The mean over the trainings behind a row, each once."""
    told = {found[1]: found[0] for result in results if (found := of(result, lineage))}
    if not told:
        return MISSING
    mean = math.fsum(told.values()) / len(told)
    several = len(told) > 1 and len(set(told.values())) > 1
    return Cell(
        text=f"{mean:.4g}" if abs(mean) < 1000 else f"{mean:,.0f}",
        value=mean,
        kind="measured",
        details=(f"mean of {len(told)} trainings",) if several else (),
        records=tuple(told),
    )


def _epochs(result: Result, lineage: Lineage) -> tuple[float, str] | None:
    if stage := pretraining_stage(result):
        return stage.epochs, result.id
    if result.task == "pretrain" and isinstance(epochs := result.settings.get("epochs"), int):
        return float(epochs), result.id
    drawn = result.checkpoint.origin[:1]
    return (0.0, result.id) if drawn and drawn[0].task == "initialise" else None


def _device_hours(result: Result, lineage: Lineage) -> tuple[float, str] | None:
    record = lineage.pretraining(result)
    return (record.device_hours, record.id) if record else None


def _wall_hours(result: Result, lineage: Lineage) -> tuple[float, str] | None:
    record = lineage.pretraining(result)
    return (record.seconds / 3600, record.id) if record else None


def _arch(result: Result, lineage: Lineage) -> str:
    return arch_label(result.arch)


def _input(result: Result, lineage: Lineage) -> str:
    pixels = result.recipe.get("pixels")
    size = result.settings.get("img_size") or (
        pixels.get("img_size") if isinstance(pixels, dict) else None
    )
    return str(size) if isinstance(size, int) else ""


def _pretrain_data(result: Result, lineage: Lineage) -> str:
    if result.task == "pretrain":
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
_WORDS: dict[Fact, Callable[[Result, Lineage], str]] = {
    "arch": _arch,
    "input": _input,
    "pretrain_data": _pretrain_data,
    "hardware": _hardware,
}
