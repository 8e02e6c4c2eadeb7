"""One measured number, of a run or of several that differ in seeds alone."""

import dataclasses
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
    """The newest comes first."""
    values: tuple[float, ...]
    """One value per run; where there are several checkpoints, the mean over the runs of each."""
    interval: tuple[float, float] | None
    """The 95 % interval: over the images for one value, Student's t over several values."""

    @property
    def first(self) -> Record:
        """The newest record."""
        return self.runs[0]

    @property
    def number(self) -> Number:
        """The newest record's number, with everything that its metric declares."""
        return self.first.metrics[self.metric]

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return math.fsum(self.values) / len(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of the values, with n - 1; None for one value."""
        if len(self.values) < 2:
            return None
        return math.sqrt(
            math.fsum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1)
        )

    @property
    def text(self) -> str:
        """The mean as tables print it."""
        return self.number.text(self.mean)

    @property
    def checkpoints(self) -> int:
        """The number of different checkpoints."""
        return len(set(map(weights_of, self.runs)))

    @property
    def seeds(self) -> str:
        """The words `3 seeds`, or `3 seeds of one checkpoint`; empty for one value."""
        if len(self.values) < 2:
            return ""
        return f"{len(self.values)} seeds" + ("" if self.checkpoints > 1 else " of one checkpoint")

    @property
    def contest(self) -> tuple[DataSet, Protocol, str]:
        """Equal for entries of one column that may be compared: images, protocol and architecture."""
        return (self.first.data, protocol_of(self.first), self.first.arch)


def _stated(run: Record, metric: str) -> float | None:
    return run.values.get(metric)


def entry_of(
    metric: str,
    runs: Iterable[Record],
    value_of: Callable[[Record, str], float | None] = _stated,
) -> Entry:
    """Return the number that runs, newest first, give; runs that another seed did not change count once.

    Args:
        value_of: returns a run's number of that metric; None counts as NaN.
    """
    kept = distinct(reversed(list(runs)))[::-1]
    numbers = [value_of(run, metric) for run in kept]
    values = values_of(kept, [math.nan if one is None else one for one in numbers])
    stated = kept[0].metrics.get(metric)
    ends = t_interval(values) if len(values) > 1 else stated.interval if stated else None
    return Entry(
        metric=metric,
        runs=tuple(kept),
        values=values,
        interval=ends if ends and all(map(math.isfinite, ends)) else None,
    )


def distinct(runs: Iterable[Record]) -> list[Record]:
    """Leave out runs in which another seed changed nothing; of equal runs the last one stays."""
    return list({_found_by(run): run for run in runs}.values())


def _found_by(result: Result) -> tuple[object, ...]:
    """Return a key that is equal for runs of one network in which another seed changed nothing."""
    return (weights_of(result), tuple(result.metrics.items()), tuple(result.digests.items()))


def values_of(runs: Iterable[Result], numbers: Iterable[float]) -> tuple[float, ...]:
    """Return the values that a number is the mean of: one per run, or one per checkpoint where there are
    several. Runs of one checkpoint are no independent trainings: their mean counts.
    """
    by_weights: dict[object, list[float]] = {}
    for run, number in zip(runs, numbers, strict=True):
        by_weights.setdefault(weights_of(run), []).append(number)
    if len(by_weights) > 1:
        return tuple(math.fsum(found) / len(found) for found in by_weights.values())
    return tuple(*by_weights.values())
