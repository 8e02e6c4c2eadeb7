"""The difference of two numbers, tested: on the same images, or over runs of several seeds."""

import dataclasses
import math

from micl_bench.records.declared import Number
from micl_bench.records.evidence.evidence import Evidence
from micl_bench.records.result import DataSet
from micl_bench.records.statistics import (
    welch,
)
from micl_bench.report.frame.entries import Entry
from micl_bench.runtime.errors import InputError

SIGNIFICANT = 0.05

Bounds = tuple[float, float] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One contender's number less another's, in the metric's unit."""

    task: str
    data: DataSet
    protocol: str
    fingerprint: str
    metric: str
    ours: Entry
    theirs: Entry
    letters: tuple[str, str]
    """What the contenders are called."""
    interval: Bounds = None
    """Of the difference, at 95 %."""
    test: str = ""
    """`McNemar`, `bootstrap` or `Welch`; empty where nothing was tested."""
    p: float | None = None
    adjusted_p: float | None = None
    """By Holm's method, over all tests of the call."""
    only_ours: int | None = None
    """Images that ours alone gets right; `only_theirs` likewise."""
    only_theirs: int | None = None
    note: str = ""
    """Why it was not tested."""

    @property
    def number(self) -> Number:
        """What the metric states of itself."""
        return self.ours.number

    @property
    def sides(self) -> tuple[tuple[str, Entry], tuple[str, Entry]]:
        """Both contenders' letters and numbers."""
        return (self.letters[0], self.ours), (self.letters[1], self.theirs)

    @property
    def estimate(self) -> float:
        """Ours less theirs."""
        return self.ours.mean - self.theirs.mean

    @property
    def verdict(self) -> str:
        """In words."""
        if self.adjusted_p is None:
            return f"not tested{f': {self.note}' if self.note else ''}"
        if self.adjusted_p > SIGNIFICANT:
            return "no difference shown"
        way = self.number.direction
        better = self.letters[0 if self.estimate * (way or 1) > 0 else 1]
        return f"{better} is {'better' if way else 'higher'}"


def over_runs(bare: Difference) -> Difference:
    """The same, tested over its sides' values."""
    few = [letter for letter, side in bare.sides if len(side.values) < 2]
    if few:
        return dataclasses.replace(bare, note=f"{few[0]} has a single run")
    low, high, p = welch(bare.ours.values, bare.theirs.values)
    if math.isnan(p):
        return dataclasses.replace(bare, note="the runs do not vary, or are not numbers")
    return dataclasses.replace(bare, interval=(low, high), test="Welch", p=p)


def on_images(bare: Difference, ours: Evidence | None, theirs: Evidence | None) -> Difference:
    """The same, tested on what is kept of each image of its sides' only runs."""
    if ours is None or theirs is None:
        pairs = zip(bare.letters, (ours, theirs), strict=True)
        missing = " and ".join(letter for letter, kept in pairs if kept is None)
        return dataclasses.replace(bare, note=f"{missing} without per-image predictions")
    if ours.kind != theirs.kind:
        return dataclasses.replace(
            bare, note="of one record other things are kept than of the other"
        )
    try:
        found = ours.paired(theirs, bare.metric)
    except InputError as error:
        return dataclasses.replace(bare, note=str(error))
    # As they were measured, not as a library rounds them.
    values = [evidence.metrics()[bare.metric] for evidence in (ours, theirs)]
    return dataclasses.replace(
        bare,
        ours=dataclasses.replace(bare.ours, values=(values[0],)),
        theirs=dataclasses.replace(bare.theirs, values=(values[1],)),
        interval=found.interval,
        test=found.test,
        p=found.p,
        only_ours=found.only_first,
        only_theirs=found.only_second,
    )
