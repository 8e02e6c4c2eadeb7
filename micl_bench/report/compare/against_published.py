"""Measured against published: a verdict where the ledger's mapping names the protocol of both.

A published number has a verdict where `results/published/protocols.yaml` says what its protocol is, and
a record of the same method, network, task, metric and public set has each of those settings; else it
stands beside the measured ones without. A verdict is about the number, not about which is better:
`below` says that the whole measured interval lies under what the printed number stands for (83.6: from
83.55 to 83.65). `consistent` says that the two overlap, not that they are equal.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal

from micl_bench.records.names import PUBLIC_SETS, family, is_called
from micl_bench.records.published import Reference, arch_label, measures, same_method
from micl_bench.records.result import Result
from micl_bench.records.statistics import t_interval
from micl_bench.report.frame.entries import found_by, values_of
from micl_bench.report.frame.identity import network_of, seeds_of
from micl_bench.report.frame.lineage import hardware_of, pretraining_stage

Word = Literal["consistent", "below", "above"]
_PRETRAIN = "pretrain."
_IMAGENET_TRAIN = 1_281_167
_OPEN = "if of its pre-training"
_ABSENT = object()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One measured number, of one run or of several seeds, against one published one."""

    word: Word
    condition: str
    """What it takes for granted: `if of its pre-training`, where the checkpoint does not tell it."""
    reference: Reference
    results: tuple[Result, ...]
    """The runs that differ in their seeds alone; one where there is one."""
    values: tuple[float, ...]
    """In the published number's unit: one of each run, or, of several checkpoints, one of each."""
    interval: tuple[float, float]
    """At 95 %: over images for one value, Student's t over the values for several."""

    @property
    def value(self) -> float:
        """The mean."""
        return math.fsum(self.values) / len(self.values)

    @property
    def over(self) -> str:
        """What it is the mean of, in words; empty for one run."""
        number, runs = len(self.values), f"{len(self.results)} runs"
        if number < 2:
            return ""
        return runs if number == len(self.results) else f"{number} checkpoints over {runs}"

    def describe(self) -> str:
        """In a line: the word, both numbers, and how sure each is."""
        text = self.reference.text or f"{self.reference.value:g}"
        low, high = self.reference.bounds
        over = f", mean of {self.over}" if self.over else ""
        condition = f", {self.condition}" if self.condition else ""
        return (
            f"{self.word}{condition}: measured {self.value:.2f} [{self.interval[0]:.2f}, "
            f"{self.interval[1]:.2f}]{over}; published {text} {self.reference.unit} (from "
            f"{low:.15g} to {high:.15g})"
        )


def verdicts(results: Iterable[Result], references: list[Reference]) -> list[Verdict]:
    """All pairs of a measured and a published number of one protocol.

    Records of one network and protocol that differ in their seeds alone are runs of one number; of
    equal seeds the newest counts, and a seed that changes nothing is no run.

    Args:
        results: oldest first.
    """
    by_place: dict[tuple[str, str, str], list[Reference]] = {}
    for reference in references:
        place = (same_method(reference.method), reference.arch, measures(reference)[0])
        by_place.setdefault(place, []).append(reference)
    found = []
    for runs in _runs(results):
        newest = runs[-1]
        place = (same_method(newest.method), arch_label(newest.arch), newest.task)
        found += [_verdict(runs, reference) for reference in by_place.get(place, ())]
    return [verdict for verdict in found if verdict]


def _runs(results: Iterable[Result]) -> list[list[Result]]:
    """Groups of runs of one number, in the order of their first."""
    groups: dict[object, dict[object, Result]] = {}
    for result in results:
        number = (
            result.task,
            result.data,
            result.train,
            result.protocol,
            result.fingerprint,
            # What a pre-training makes is another network each time.
            result.arch if result.task == "pretrain" else network_of(result),
            result.method,
        )
        groups.setdefault(number, {})[seeds_of(result)] = result
    return [
        list({found_by(one): one for one in runs.values()}.values()) for runs in groups.values()
    ]


def _verdict(runs: list[Result], reference: Reference) -> Verdict | None:
    """None where they are not of one protocol, or the measured number has no interval."""
    metric = measures(reference)[2]
    told = {one.id: value for one in runs if (value := _measured(one, metric)) is not None}
    runs = [one for one in runs if one.id in told]
    pretraining = _is_of_its_pretraining(runs[-1], reference) if runs else False
    if pretraining is False or not _is_of_its_protocol(runs[-1], reference):
        return None
    values = values_of(runs, lambda one: told[one.id])
    bounds = t_interval(values) if len(values) > 1 else _interval(runs[0], metric)
    if bounds is None or not all(map(math.isfinite, (*values, *bounds))):
        return None
    low, high = reference.bounds
    return Verdict(
        word="below" if bounds[1] < low else "above" if bounds[0] >= high else "consistent",
        condition="" if pretraining else _OPEN,
        reference=reference,
        results=tuple(runs),
        values=values,
        interval=bounds,
    )


def _measured(result: Result, metric: str) -> float | None:
    """A record's number; of a pre-training also what it took."""
    if result.task == "pretrain" and metric in ("wall_hours", "gpu_hours"):
        return result.seconds / 3600 if metric == "wall_hours" else result.device_hours
    return result.values.get(metric)


def _interval(result: Result, metric: str) -> tuple[float, float] | None:
    number = result.metrics.get(metric)
    return number.interval if number else None


def _is_of_its_protocol(result: Result, reference: Reference) -> bool:
    """Whether the ledger names the protocol, and the record's images and settings are of it."""
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
        own["labels"] = f"{100 * result.train.images / _IMAGENET_TRAIN:.0f} %"
    return all(
        _agrees(_at(own, name), stated)
        for name, stated in named.items()
        if not name.startswith(_PRETRAIN)
    )


def _is_of_its_pretraining(result: Result, reference: Reference) -> bool | None:
    """Whether the weights had the published pre-training; None where one of the two does not tell."""
    if reference.settings.get("checkpoint.format") == "random":
        return True
    if result.task == "pretrain":
        settings, epochs = result.settings, result.settings.get("epochs")
    elif stage := pretraining_stage(result):
        stages = [one for one in result.checkpoint.origin if one.task == "pretrain"]
        settings, epochs = stage.settings, math.fsum(one.epochs for one in stages)
        is_imagenet = reference.pretrain_data == "ImageNet-1K" and is_called(stage.data, "imagenet")
        if not is_imagenet and stage.data != reference.pretrain_data:
            return False
    else:
        return None
    stated = {
        name.removeprefix(_PRETRAIN): value
        for name, value in reference.settings.items()
        if name.startswith(_PRETRAIN)
    }
    found = {name: _at(settings, name) for name in stated} | {"epochs": epochs}
    stated["epochs"] = reference.pretrain_epochs
    known = [name for name in stated if stated[name] is not None and found[name] is not _ABSENT]
    if not all(_agrees(found[name], stated[name]) for name in known):
        return False
    return True if len(known) == len(stated) else None


def _at(node: Any, name: str) -> Any:
    """The value at a dotted name, or `_ABSENT`."""
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return _ABSENT
        node = node[part]
    return node


def _agrees(ours: Any, stated: Any) -> bool:
    """Whether a record's value is the ledger's; of a text, or of each of a list, the beginning."""
    if ours is _ABSENT:
        return stated is False
    if isinstance(stated, str):
        return all(str(one).startswith(stated) for one in (ours if type(ours) is list else [ours]))
    if isinstance(stated, float | int) and isinstance(ours, float | int):
        return math.isclose(ours, stated)
    return bool(ours == stated)
