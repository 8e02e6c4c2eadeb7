"""Verdicts on measured and published numbers, where the ledger's mapping names the protocol of both.

A published number has a verdict where `results/published/protocols.yaml` states its protocol, and
a record of the same method, network, task, metric and public set has each of those settings; else it
stands beside the measured ones without. A verdict is about the number, not about which is better:
`below` says that the whole measured interval lies below the values that are printed so (83.6: from
83.55 to 83.65). `consistent` says that the two overlap, not that they are equal.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd

from micl_bench.records.names import PUBLIC_SETS, arch_label, family, is_called, same_method
from micl_bench.records.published import Reference, measures
from micl_bench.records.result import Record, Result
from micl_bench.report.frame.entries import Entry, entry_of
from micl_bench.report.frame.lineage import PRETRAIN, hardware_of, pretraining_stage
from micl_bench.report.frame.long import grouped
from micl_bench.report.frame.protocols import IMAGENET_TRAIN

Word = Literal["consistent", "below", "above"]
_OF_PRETRAINING = "pretrain."
_OPEN = "if of its pre-training"
_ABSENT = object()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One measured number, of one run or of several seeds, against one published one."""

    word: Word
    condition: str
    """Its assumption: `if of its pre-training`, where the checkpoint does not name that; or empty."""
    reference: Reference
    entry: Entry
    """The measured number, in the published number's unit."""
    interval: tuple[float, float]
    """The interval of the entry: without one there is no verdict."""

    @property
    def over(self) -> str:
        """The number of runs or checkpoints that the mean is over, in words; empty for one run."""
        number, runs = len(self.entry.values), f"{len(self.entry.runs)} runs"
        if number < 2:
            return ""
        return runs if number == len(self.entry.runs) else f"{number} checkpoints over {runs}"

    def describe(self) -> str:
        """Return a line with the word, both numbers and their intervals."""
        low, high = self.reference.bounds
        over = f", mean of {self.over}" if self.over else ""
        condition = f", {self.condition}" if self.condition else ""
        return (
            f"{self.word}{condition}: measured {self.entry.mean:.2f} [{self.interval[0]:.2f}, "
            f"{self.interval[1]:.2f}]{over}; published {self.reference.shown} "
            f"{self.reference.unit} (from {low:.15g} to {high:.15g})"
        )


def verdicts(frame: pd.DataFrame, references: Iterable[Reference]) -> list[Verdict]:
    """Return a verdict for each measured and published number of one protocol.

    Records of one network and protocol that differ in their seeds alone are runs of one number; of
    equal seeds the newest counts, and a seed that changes nothing is no run.

    Args:
        frame: long table of the measured numbers, newest first, as `long_frame` makes it.
    """
    # What a pre-training makes is another network each time.
    network = frame["network"].where(frame["task"] != PRETRAIN, frame["arch"])
    number = ["task", "data_set", "protocol_read", "network", "method"]
    runs_of = frame.assign(network=network).drop_duplicates([*number, "seeds"])[::-1]
    named = [(_place(one), one) for one in references]
    found = []
    for runs in grouped(runs_of, *number).values():
        place = (same_method(runs[-1].method), arch_label(runs[-1].arch), runs[-1].task)
        found += [_verdict(runs, reference) for own, reference in named if own == place]
    return [verdict for verdict in found if verdict]


def _place(reference: Reference) -> tuple[str, str, str]:
    return (same_method(reference.method), reference.arch, measures(reference)[0])


def _verdict(runs: list[Record], reference: Reference) -> Verdict | None:
    """Return None where they are not of one protocol, or the measured number has no interval."""
    metric = measures(reference)[2]
    runs = [one for one in runs if _measured(one, metric) is not None]
    pretraining = _is_of_its_pretraining(runs[-1], reference) if runs else False
    if pretraining is False or not _is_of_its_protocol(runs[-1], reference):
        return None
    entry = entry_of(metric, reversed(runs), _measured)
    if entry.interval is None or not math.isfinite(entry.mean):
        return None
    low, high = reference.bounds
    is_below, is_above = entry.interval[1] < low, entry.interval[0] >= high
    return Verdict(
        word="below" if is_below else "above" if is_above else "consistent",
        condition="" if pretraining else _OPEN,
        reference=reference,
        entry=entry,
        interval=entry.interval,
    )


def _measured(result: Result, metric: str) -> float | None:
    """Return a record's number; a pre-training also has its wall hours and device-hours."""
    if result.task == PRETRAIN and metric in ("wall_hours", "gpu_hours"):
        return result.seconds / 3600 if metric == "wall_hours" else result.device_hours
    return result.values.get(metric)


def _is_of_its_protocol(result: Result, reference: Reference) -> bool:
    """Return whether the ledger names the protocol, and the record's images and settings are of it."""
    data = measures(reference)[1]
    is_fitted_on_all = result.train is None or family(result.train) in PUBLIC_SETS
    named = {name: value for name, value in reference.settings.items() if name != "task"}
    if family(result.data) != data or not named:
        return False
    if "labels" not in named and not is_fitted_on_all:
        return False
    if reference.resolution is not None and "img_size" in result.settings:
        named["img_size"] = reference.resolution
    own = result.recipe | result.settings
    own |= {"checkpoint": vars(result.checkpoint), "hardware": hardware_of(result.environment)}
    if result.train:
        own["labels"] = f"{100 * result.train.images / IMAGENET_TRAIN:.0f} %"
    return all(
        _agrees(_at(own, name), stated)
        for name, stated in named.items()
        if not name.startswith(_OF_PRETRAINING)
    )


def _is_of_its_pretraining(result: Result, reference: Reference) -> bool | None:
    """Return whether the weights had the published pre-training; None where that is not known."""
    if reference.settings.get("checkpoint.format") == "random":
        return True
    if result.task == PRETRAIN:
        settings, epochs = result.settings, result.settings.get("epochs")
    elif stage := pretraining_stage(result):
        stages = [one for one in result.checkpoint.origin if one.task == PRETRAIN]
        settings, epochs = stage.settings, math.fsum(one.epochs for one in stages)
        is_imagenet = reference.pretrain_data == "ImageNet-1K" and is_called(stage.data, "imagenet")
        if not is_imagenet and stage.data != reference.pretrain_data:
            return False
    else:
        return None
    stated = {
        name.removeprefix(_OF_PRETRAINING): value
        for name, value in reference.settings.items()
        if name.startswith(_OF_PRETRAINING)
    }
    found = {name: _at(settings, name) for name in stated} | {"epochs": epochs}
    stated["epochs"] = reference.pretrain_epochs
    known = [name for name in stated if stated[name] is not None and found[name] is not _ABSENT]
    if not all(_agrees(found[name], stated[name]) for name in known):
        return False
    return True if len(known) == len(stated) else None


def _at(node: Any, name: str) -> Any:
    """Return the value at a dotted name, or `_ABSENT`."""
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def _agrees(ours: Any, stated: Any) -> bool:
    """Return whether a record's value is the ledger's; a text, or each of a list, need only begin so."""
    if ours is _ABSENT:
        return stated is False
    if isinstance(stated, str):
        return all(str(one).startswith(stated) for one in (ours if type(ours) is list else [ours]))
    if isinstance(stated, float | int) and isinstance(ours, float | int):
        return math.isclose(ours, stated)
    return bool(ours == stated)
