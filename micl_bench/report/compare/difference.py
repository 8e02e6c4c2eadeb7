"""The difference of two numbers, tested: on the same images, or over runs of several seeds."""

import dataclasses
import math
from typing import Any

from numpy.typing import NDArray

from micl_bench.records.declared import Number
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.records.result import DataSet, Result
from micl_bench.records.statistics import (
    mcnemar,
    paired_bootstrap,
    paired_difference_interval,
    welch,
)
from micl_bench.report.compare.bootstrapped import Kept, Redrawn, paired_redrawn
from micl_bench.report.compare.per_image_checks import (
    corrupted_scores,
    on_same_images,
    same_order,
)
from micl_bench.report.frame.entries import Entry
from micl_bench.runtime.errors import InputError

SIGNIFICANT = 0.05

Bounds = tuple[float, float] | None
Evidence = tuple[Result, Kept]


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


def on_images(bare: Difference, ours: Evidence, theirs: Evidence) -> Difference:
    """The same, tested on what is kept of each image of its sides' only runs."""
    (_, one), (_, other) = ours, theirs
    if one is None or other is None:
        missing = [
            letter for letter, kept in zip(bare.letters, (one, other), strict=True) if kept is None
        ]
        note = f"{' and '.join(missing)} without per-image predictions"
        return dataclasses.replace(bare, note=note)
    try:
        if isinstance(one, Redrawn) and isinstance(other, Redrawn):
            return _redrawn(bare, one, other)
        if isinstance(one, Redrawn) or isinstance(other, Redrawn):
            raise InputError("of one record other things are kept than of the other")
        if all(bare.metric in predictions.correct for predictions in (one, other)):
            return _mcnemar(bare, one, other)
        return _bootstrapped(bare, (ours[0], one), (theirs[0], other))
    except InputError as error:
        return dataclasses.replace(bare, note=str(error))


def _mcnemar(bare: Difference, ours: Predictions, theirs: Predictions) -> Difference:
    right_M, other_M = on_same_images(ours, theirs, bare.metric)
    only_ours, only_theirs = int((right_M > other_M).sum()), int((right_M < other_M).sum())
    if not len(right_M):
        return dataclasses.replace(bare, note="no image counts")
    return dataclasses.replace(
        bare,
        interval=paired_difference_interval(only_ours, only_theirs, len(right_M)),
        test="McNemar",
        p=mcnemar(only_ours, only_theirs),
        only_ours=only_ours,
        only_theirs=only_theirs,
    )


def _redrawn(bare: Difference, ours: Redrawn, theirs: Redrawn) -> Difference:
    """mIoU and AP, as they were measured, not as the records round them."""
    low, high, p = paired_redrawn(ours, theirs, bare.metric)
    return dataclasses.replace(
        bare,
        ours=dataclasses.replace(bare.ours, values=(ours.metrics[bare.metric],)),
        theirs=dataclasses.replace(bare.theirs, values=(theirs.metrics[bare.metric],)),
        interval=(low, high),
        test="bootstrap",
        p=p,
    )


def _bootstrapped(
    bare: Difference, ours: tuple[Result, Predictions], theirs: tuple[Result, Predictions]
) -> Difference:
    """What is not one proportion, but made of what was predicted for each image."""
    one, other = ours[1], theirs[1]
    parts = ("clean_top1", "top1")
    if bare.metric == "drop" and all(m in p.correct for p in (one, other) for m in parts):
        # Clean and shifted images are independent samples; both methods saw the same of each.
        pairs = [on_same_images(one, other, metric) for metric in parts]
        samples: list[list[NDArray[Any]]] = [[pair[side] for pair in pairs] for side in (0, 1)]
    else:
        scores, others = (corrupted_scores(*side, bare.metric) for side in (ours, theirs))
        if scores is None or others is None:
            return bare
        samples = [[scores / 100], [others[same_order(one, other)] / 100]]
    low, high, p = paired_bootstrap(_first_less_second, *samples, seed=0)
    return dataclasses.replace(bare, interval=(low, high), test="bootstrap", p=p)


def _first_less_second(first: NDArray[Any], *second: NDArray[Any]) -> float:
    return 100 * float(first.mean() - sum(sample.mean() for sample in second))
