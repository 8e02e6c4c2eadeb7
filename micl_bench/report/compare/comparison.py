"""Are two methods different? Paired tests on the same images, or tests over seeds, for every pair."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from micl_bench.records.evidence.evidence import Evidence
from micl_bench.records.result import Record
from micl_bench.records.statistics import holm
from micl_bench.report.compare.contenders import Contender, Place
from micl_bench.report.compare.difference import (
    Difference,
    on_images,
    over_runs,
)
from micl_bench.report.compare.kept import evidence_of
from micl_bench.report.compare.not_compared import places_apart
from micl_bench.report.frame.entries import entry_of
from micl_bench.runtime.errors import InputError


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
    for ours, theirs in itertools.combinations(contenders, 2):
        shared = [place for place in ours.runs if place in theirs.runs]
        for place in shared:
            differences += _at(place, ours, theirs)
        not_compared += places_apart(ours, theirs)
    if not differences:
        reasons = "; ".join(not_compared) or "no task and data set is in both"
        raise InputError(f"nothing to compare: {reasons}")
    return Comparison(differences=_adjusted(differences), not_compared=not_compared)


def _adjusted(differences: list[Difference]) -> list[Difference]:
    tested = [difference for difference in differences if difference.p is not None]
    adjusted = iter(holm([difference.p for difference in tested if difference.p is not None]))
    return [
        dataclasses.replace(difference, adjusted_p=next(adjusted))
        if difference.p is not None
        else difference
        for difference in differences
    ]


def _at(place: Place, ours: Contender, theirs: Contender) -> list[Difference]:
    ours_runs, theirs_runs = ours.runs[place], theirs.runs[place]
    metrics = [m for m in ours_runs[0].metrics if m in theirs_runs[0].metrics]
    several = max(len(ours_runs), len(theirs_runs)) > 1
    pair = [None if several else evidence_of(runs[0]) for runs in (ours_runs, theirs_runs)]
    found: list[Difference] = []
    for metric in metrics:
        bare = Difference(
            task=place.task,
            data=place.data,
            protocol=ours_runs[0].protocol,
            fingerprint=place.fingerprint,
            metric=metric,
            ours=entry_of(metric, ours_runs),
            theirs=entry_of(metric, theirs_runs),
            letters=(ours.letter, theirs.letter),
        )
        if reason := _undefined(metric, [*ours_runs, *theirs_runs]):
            found.append(dataclasses.replace(bare, note=reason))
            continue
        twins = [other.number.title for other in found if _is_same(other, bare, pair)]
        if twins:
            found.append(dataclasses.replace(bare, note=f"it is {twins[0]}"))
        elif several:
            found.append(over_runs(bare))
        else:
            found.append(on_images(bare, *pair))
    return found


def _undefined(metric: str, runs: list[Record]) -> str:
    """Why a metric has no value in one of some runs, or nothing."""
    numbers = [run.metrics[metric] for run in runs if metric in run.metrics]
    reasons = dict.fromkeys(one.undefined for one in numbers if one.undefined)
    return f"{numbers[0].title} is undefined: {'; '.join(reasons)}" if reasons else ""


def _is_same(earlier: Difference, bare: Difference, kept: Sequence[Evidence | None]) -> bool:
    """Whether a metric is an earlier one by another name, as `top1_k20` is the `top1` of a 20-NN.

    To test it again would only raise all p-values.
    """
    for side, other in ((earlier.ours, bare.ours), (earlier.theirs, bare.theirs)):
        if any(run.values[side.metric] != run.values[other.metric] for run in other.runs):
            return False
    columns = [[one.column(d.metric) for d in (earlier, bare)] for one in kept if one]
    return all(
        np.array_equal(first, second)
        for first, second in columns
        if first is not None and second is not None
    )
