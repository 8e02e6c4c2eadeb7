"""Measured against published: an automatic verdict for each pair that is of one method and metric.

A verdict is about the number, not about which is better: `below` says that the whole measured interval
lies under what the printed number stands for (83.6: from 83.55 to 83.65), which is good for an error
such as mCE and bad for an accuracy. `consistent` says that the two overlap, not that they are equal.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Literal

from micl_bench.records.names import PUBLIC_SETS, family, is_called
from micl_bench.records.published import Reference, arch_label, measures, same_method
from micl_bench.records.result import Result
from micl_bench.records.statistics import t_interval
from micl_bench.report.compare.protocol_differences import VAGUE_SET, held_against
from micl_bench.report.frame.entries import found_by, values_of
from micl_bench.report.frame.identity import network_of, seeds_of

Word = Literal["consistent", "below", "above", "not comparable"]
_SECONDS = {"wall_hours": 3600.0, "wall_days": 86400.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """One measured number, of one run or of several seeds, against one published one."""

    word: Word
    reasons: tuple[str, ...]
    """Why it is not comparable: what differs, ours and published."""
    caveats: tuple[str, ...]
    """What is not stated in the text read, or not known of the checkpoint."""
    reference: Reference
    results: tuple[Result, ...]
    """The runs that differ in their seeds alone; one where there is one."""
    values: tuple[float, ...]
    """In the published number's unit: one of each run, or, of several checkpoints, one of each."""
    interval: tuple[float, float] | None
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
        reference = self.reference
        low, high = reference.bounds
        between = (
            f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]"
            if self.interval
            else " without an interval"
        )
        over = f", mean of {self.over}" if self.over else ""
        text = reference.text or f"{reference.value:g}"
        stands_for = f" (from {low:.15g} to {high:.15g})"
        return (
            f"{self.word}: measured {self.value:.2f}{between}{over}; published {text} "
            f"{reference.unit}{stands_for}"
        )


def verdicts(results: list[Result], references: list[Reference]) -> list[Verdict]:
    """All pairs of a measured and a published number of one method, architecture, task and metric.

    Each published number has its own verdict. Records of one network and protocol that differ in
    their seeds alone are runs of one number; of equal seeds the newest counts, and a seed that
    changes nothing is no run.

    Args:
        results: oldest first.
    """
    runs = _runs(results)
    by_place: dict[tuple[str, str, str], list[Reference]] = {}
    for reference in references:
        place = (same_method(reference.method), reference.arch, measures(reference)[0])
        by_place.setdefault(place, []).append(reference)
    found = []
    for group in runs:
        newest = group[-1]
        place = (same_method(newest.method), arch_label(newest.arch), newest.task)
        for reference in by_place.get(place, ()):
            _, data, metric = measures(reference)
            if _may_be(newest, data) and measured(newest, metric) is not None:
                found.append(_verdict(group, reference, metric))
    return found


def measured(result: Result, metric: str) -> float | None:
    """A record's number of a metric as the ledger has it, also of those that follow from others."""
    if metric in _SECONDS and result.task == "pretrain":
        return result.seconds / _SECONDS[metric]
    if metric == "gpu_hours" and result.task == "pretrain" and "gpus" in result.environment:
        return result.device_hours
    if metric == "1-mCE":
        return 100 - result.values["mCE"] if "mCE" in result.metrics else None
    return result.values.get(metric)


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
    return [_distinct(list(runs.values())) for runs in groups.values()]


def _distinct(runs: list[Result]) -> list[Result]:
    """Without those in which another seed changed nothing: the same number twice is not two runs."""
    return list({found_by(one): one for one in runs}.values())


def _may_be(result: Result, public: str) -> bool:
    """Whether a record is of a public set, or of images that are used like it."""
    data = result.data
    ours = family(data)
    if data.stands_for:
        return is_called(data.stands_for, public)
    if ours in PUBLIC_SETS:
        return ours == public or (public == VAGUE_SET and ours.startswith(public))
    return result.about.public_set != "" or is_called(data.name, public)


def _verdict(runs: list[Result], reference: Reference, metric: str) -> Verdict:
    found = held_against(runs[-1], reference)
    told = {one.id: value for one in runs if (value := measured(one, metric)) is not None}
    runs = [one for one in runs if one.id in told]
    values = values_of(runs, lambda one: told[one.id])
    bounds = _bounds(runs, values, metric)
    word: Word = "not comparable"
    if bounds is None:
        found.reasons.append("the measured number has no interval: one run, and none over images")
    elif not found.reasons:
        low, high = reference.bounds
        word = "below" if bounds[1] < low else "above" if bounds[0] >= high else "consistent"
    return Verdict(
        word=word,
        reasons=tuple(found.reasons),
        caveats=tuple(found.caveats),
        reference=reference,
        results=tuple(runs),
        values=values,
        interval=bounds,
    )


def _bounds(
    runs: list[Result], values: tuple[float, ...], metric: str
) -> tuple[float, float] | None:
    if len(values) > 1:
        return t_interval(values) if all(map(math.isfinite, values)) else None
    if metric == "1-mCE":
        ends = runs[0].metrics["mCE"].interval
        return (100 - ends[1], 100 - ends[0]) if ends else None
    return runs[0].metrics[metric].interval if metric in runs[0].metrics else None
