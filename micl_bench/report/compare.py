"""Are two methods different? Paired tests on the same images, or tests over seeds, for every pair."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.errors import InputError
from micl_bench.predictions import Predictions
from micl_bench.record import DataSet, Result
from micl_bench.report.contenders import Contender, Place, Run
from micl_bench.report.evidence import (
    corrupted_scores,
    on_same_images,
    same_order,
)
from micl_bench.report.identity import weights_of
from micl_bench.report.metrics import direction, format_p, interval, metric_name
from micl_bench.report.not_compared import places_apart
from micl_bench.report.redrawn import Kept, Redrawn, paired_redrawn, read_kept
from micl_bench.statistics import (
    holm,
    mcnemar,
    paired_bootstrap,
    paired_difference_interval,
    t_interval,
    welch,
)

SIGNIFICANT = 0.05

Bounds = tuple[float, float] | None
_Evidence = tuple[Result, Kept]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One contender's number."""

    letter: str
    values: list[float]
    """One of each run."""
    interval: Bounds
    """Over the images for one run, over the runs (Student's t) for several."""
    checkpoints: int = 1
    """How many different ones the runs are of."""

    @property
    def mean(self) -> float:
        """Over the runs."""
        return math.fsum(self.values) / len(self.values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """One contender's number less another's, in the metric's unit."""

    task: str
    data: DataSet
    protocol: str
    fingerprint: str
    metric: str
    ours: Side
    theirs: Side
    interval: Bounds = None
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
    def estimate(self) -> float:
        """Ours less theirs."""
        return self.ours.mean - self.theirs.mean

    @property
    def verdict(self) -> str:
        """In words."""
        if self.adjusted_p is None:
            return f"not tested{f': {self.note}' if self.note else ''}"
        if self.adjusted_p > SIGNIFICANT:
            return "not significantly different"
        ahead = self.estimate * (direction(self.metric) or 1) > 0
        better = (self.ours if ahead else self.theirs).letter
        return f"{better} is {'better' if direction(self.metric) else 'higher'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """All pairs of a call, and why others are not compared."""

    differences: list[Difference]
    not_compared: list[str]


def compare_all(contenders: list[Contender]) -> Comparison:
    """Compare every pair on every metric that both have in the same place.

    Raises:
        InputError: nothing can be compared, or predictions are damaged or not their record's.
    """
    differences: list[Difference] = []
    not_compared: list[str] = []
    read: dict[Path, Kept] = {}
    for ours, theirs in itertools.combinations(contenders, 2):
        shared = [place for place in ours.runs if place in theirs.runs]
        for place in shared:
            differences += _at(place, ours, theirs, read)
        not_compared += places_apart(ours, theirs)
    if not differences:
        reasons = "; ".join(not_compared) or "no task and data set is in both"
        raise InputError(f"nothing to compare: {reasons}")
    return Comparison(differences=_adjusted(differences), not_compared=not_compared)


def paired_verdict(ours: Run, theirs: Run, metric: str) -> str:
    """What the paired test on per-image predictions says of two records, or "" without these."""
    place = Difference(
        task=ours[1].task,
        data=ours[1].data,
        protocol=ours[1].protocol,
        fingerprint=ours[1].fingerprint,
        metric=metric,
        ours=_side("A", [ours], metric),
        theirs=_side("B", [theirs], metric),
    )
    try:
        read = [(result, read_kept(path, result)) for path, result in (ours, theirs)]
    except InputError:
        # Another evaluation into the same folder may have taken the file's place.
        return "not tested: a file of predictions is not its record's"
    if (p := _on_images(place, *read).p) is None:
        return ""
    word = "significant" if p <= SIGNIFICANT else "not significantly different"
    return f"{word}, p = {format_p(p)}"


def _adjusted(differences: list[Difference]) -> list[Difference]:
    tested = [difference for difference in differences if difference.p is not None]
    adjusted = iter(holm([difference.p for difference in tested if difference.p is not None]))
    return [
        dataclasses.replace(difference, adjusted_p=next(adjusted))
        if difference.p is not None
        else difference
        for difference in differences
    ]


def _at(
    place: Place, ours: Contender, theirs: Contender, read: dict[Path, Kept]
) -> list[Difference]:
    ours_runs, theirs_runs = ours.runs[place], theirs.runs[place]
    metrics = [m for m in ours_runs[0][1].metrics if m in theirs_runs[0][1].metrics]
    if max(len(ours_runs), len(theirs_runs)) == 1:
        for path, result in (*ours_runs, *theirs_runs):
            if path not in read:
                read[path] = read_kept(path, result)
    pair = [(runs[0][1], read.get(runs[0][0])) for runs in (ours_runs, theirs_runs)]
    found: list[Difference] = []
    for metric in metrics:
        bare = Difference(
            task=place.task,
            data=place.data,
            protocol=ours_runs[0][1].protocol,
            fingerprint=place.fingerprint,
            metric=metric,
            ours=_side(ours.letter, ours_runs, metric),
            theirs=_side(theirs.letter, theirs_runs, metric),
        )
        twins = [other.metric for other in found if _is_same(other, bare, pair)]
        if twins:
            found.append(dataclasses.replace(bare, note=f"it is {metric_name(twins[0])}"))
        elif max(len(ours_runs), len(theirs_runs)) > 1:
            found.append(_over_runs(bare))
        else:
            found.append(_on_images(bare, *pair))
    return found


def _is_same(earlier: Difference, bare: Difference, pair: list[_Evidence]) -> bool:
    """Whether a metric is an earlier one by another name, as `top1_k20` is the `top1` of a 20-NN.

    To test it again would only raise all p-values.
    """
    first, second = earlier.metric, bare.metric
    redrawn = [kept.draws for _, kept in pair if isinstance(kept, Redrawn)]
    if redrawn:
        # These are not rounded as the sides' values are.
        return all(
            first in draws and second in draws and np.array_equal(draws[first], draws[second])
            for draws in redrawn
        )
    sides = [(one.ours.values, one.theirs.values) for one in (earlier, bare)]
    evidence = [kept.correct for _, kept in pair if isinstance(kept, Predictions)]
    return sides[0] == sides[1] and all(
        np.array_equal(correct[first], correct[second])
        for correct in evidence
        if first in correct and second in correct
    )


def _side(letter: str, runs: list[Run], metric: str) -> Side:
    values = [result.metrics.get(metric, math.nan) for _, result in runs]
    bounds = interval(runs[0][1], metric) if len(runs) == 1 else t_interval(values)
    checkpoints = len({weights_of(result) for _, result in runs})
    return Side(letter=letter, values=values, interval=bounds, checkpoints=checkpoints)


def _over_runs(bare: Difference) -> Difference:
    few = [side.letter for side in (bare.ours, bare.theirs) if len(side.values) < 2]
    if few:
        return dataclasses.replace(bare, note=f"{few[0]} has a single run")
    low, high, p = welch(bare.ours.values, bare.theirs.values)
    if math.isnan(p):
        return dataclasses.replace(bare, note="the runs do not vary, or are not numbers")
    return dataclasses.replace(bare, interval=(low, high), test="Welch", p=p)


def _on_images(bare: Difference, ours: _Evidence, theirs: _Evidence) -> Difference:
    (_, one), (_, other) = ours, theirs
    if one is None or other is None:
        missing = [
            side.letter
            for side, evidence in ((bare.ours, one), (bare.theirs, other))
            if evidence is None
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
        ours=dataclasses.replace(bare.ours, values=[ours.metrics[bare.metric]]),
        theirs=dataclasses.replace(bare.theirs, values=[theirs.metrics[bare.metric]]),
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
