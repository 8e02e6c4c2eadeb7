"""One measured number, of a run or of several that differ in seeds alone."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable

from micl_bench.records.declared import Number
from micl_bench.records.result import DataSet, Record, Result
from micl_bench.records.statistics import t_interval
from micl_bench.report.frame.identity import weights_of
from micl_bench.report.frame.protocols import Protocol, protocol_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One measured number: a metric of a run, or of several that differ in seeds alone."""

    metric: str
    runs: tuple[Record, ...]
    """Newest first."""
    values: tuple[float, ...]
    """One of each run, or of each checkpoint, over its runs, where there are several."""
    interval: tuple[float, float] | None
    """Over the images for one value, over the values (Student's t) for several."""

    @property
    def first(self) -> Record:
        """The newest record."""
        return self.runs[0]

    @property
    def number(self) -> Number:
        """The newest record's number, with all that its metric states of itself."""
        return self.first.metrics[self.metric]

    @functools.cached_property
    def mean(self) -> float:
        """Over the values."""
        return math.fsum(self.values) / len(self.values)

    @functools.cached_property
    def deviation(self) -> float | None:
        """Of the values, with n - 1; None for one value."""
        if len(self.values) < 2:
            return None
        mean = self.mean
        total = math.fsum((value - mean) ** 2 for value in self.values)
        return math.sqrt(total / (len(self.values) - 1))

    @property
    def text(self) -> str:
        """The mean as tables print it."""
        return self.number.text(self.mean)

    @property
    def checkpoints(self) -> int:
        """How many different ones the runs are of."""
        return len(set(map(weights_of, self.runs)))

    @property
    def seeds(self) -> str:
        """What the values differ in, in words; empty for one."""
        if len(self.values) < 2:
            return ""
        return f"{len(self.values)} seeds" + ("" if self.checkpoints > 1 else " of one checkpoint")

    @property
    def contest(self) -> tuple[DataSet, Protocol, str]:
        """Entries of one column can be held against each other where this is equal."""
        return (self.first.data, protocol_of(self.first), self.first.arch)


def entry_of(metric: str, runs: Iterable[Record]) -> Entry:
    """The number that runs, newest first, give; what another seed did not change counts once."""
    kept = tuple(reversed(distinct(reversed(list(runs)))))
    values = values_of(kept, lambda run: run.values.get(metric, math.nan))
    newest = kept[0].metrics[metric].interval
    ends = t_interval(values) if len(values) > 1 else newest
    return Entry(
        metric=metric,
        runs=kept,
        values=values,
        interval=(ends[0], ends[1]) if ends and all(map(math.isfinite, ends)) else None,
    )


def distinct(runs: Iterable[Record]) -> list[Record]:
    """Runs without those in which another seed changed nothing; of equal ones the last."""
    return list({found_by(run): run for run in runs}.values())


def found_by(result: Result) -> tuple[object, ...]:
    """Equal for runs of one network in which another seed changed nothing."""
    return (weights_of(result), tuple(result.metrics.items()), tuple(result.digests.items()))


def values_of(results: Iterable[Result], number: Callable[[Result], float]) -> tuple[float, ...]:
    """What a number is the mean of: one value of each run, or, of several checkpoints, one of each.

    Runs of one checkpoint are no independent trainings of it: of several, each counts with its mean.
    """
    by_weights: dict[object, list[float]] = {}
    for result in results:
        by_weights.setdefault(weights_of(result), []).append(number(result))
    if len(by_weights) > 1:
        return tuple(math.fsum(found) / len(found) for found in by_weights.values())
    return tuple(next(iter(by_weights.values())))
