"""The comparison of methods: paired tests on the same images, or tests over seeds, for every pair."""

import dataclasses
import itertools

import numpy as np

from micl_bench.records.result import Record
from micl_bench.records.statistics import holm
from micl_bench.report.compare.artefact_files import evidence_of
from micl_bench.report.compare.contenders import Contender, Place
from micl_bench.report.compare.difference import Difference
from micl_bench.report.frame.entries import entry_of
from micl_bench.report.frame.naming import data_words, training_words
from micl_bench.report.frame.protocols import settings_apart
from micl_bench.runtime.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The differences of all pairs, and lines on the places that are not compared."""

    differences: list[Difference]
    not_compared: list[str]


def compare_all(contenders: list[Contender]) -> Comparison:
    """Compare every pair on every metric that both have in the same place, with adjusted p-values.

    Raises:
        InputError: nothing can be compared, or predictions are damaged or not their record's.
    """
    found: list[Difference] = []
    not_compared: list[str] = []
    for ours, theirs in itertools.combinations(contenders, 2):
        for place in ours.runs:
            if place in theirs.runs:
                found += _at(place, ours, theirs)
        not_compared += _places_apart(ours, theirs)
    if not found:
        reasons = "; ".join(not_compared) or "no task and data set is in both"
        raise InputError(f"nothing to compare: {reasons}")
    adjusted = iter(holm([one.p for one in found if one.p is not None]))
    differences = [
        one if one.p is None else dataclasses.replace(one, adjusted_p=next(adjusted))
        for one in found
    ]
    return Comparison(differences=differences, not_compared=not_compared)


def _at(place: Place, ours: Contender, theirs: Contender) -> list[Difference]:
    runs = (ours.runs[place], theirs.runs[place])
    found: list[Difference] = []
    for metric in (name for name in runs[0][0].metrics if name in runs[1][0].metrics):
        one, other = (entry_of(metric, own) for own in runs)
        bare = Difference(ours=one, theirs=other, letters=(ours.letter, theirs.letter))
        note = _undefined(metric, [*runs[0], *runs[1]])
        twins = [] if note else [earlier for earlier in found if _is_same(earlier, bare)]
        if note or twins:
            note = note or f"it is {twins[0].number.title}"
            found.append(dataclasses.replace(bare, note=note))
        else:
            found.append(bare.tested())
    return found


def _undefined(metric: str, runs: list[Record]) -> str:
    """Return why a metric is undefined in some of the runs; empty where it is defined in all."""
    numbers = [run.metrics[metric] for run in runs if metric in run.metrics]
    reasons = dict.fromkeys(one.undefined for one in numbers if one.undefined)
    return f"{numbers[0].title} is undefined: {'; '.join(reasons)}" if reasons else ""


def _is_same(earlier: Difference, bare: Difference) -> bool:
    """Return whether a metric is an earlier one by another name, as `top1_k20` is the `top1` of a 20-NN.

    To test it again would only raise all p-values.
    """
    for side in (bare.ours, bare.theirs):
        if any(run.values[earlier.metric] != run.values[bare.metric] for run in side.runs):
            return False
        kept = evidence_of(side.first) if len(side.runs) == 1 else None
        columns = [kept.column(d.metric) for d in (earlier, bare)] if kept else [None]
        if all(column is not None for column in columns) and not np.array_equal(*columns):
            return False
    return True


def _places_apart(ours: Contender, theirs: Contender) -> list[str]:
    """Return a line per place that the other has under other images or settings, or not at all."""
    alone = [
        [place for place in one.runs if place not in other.runs]
        for one, other in ((ours, theirs), (theirs, ours))
    ]
    matched = [
        (mine, other)
        for mine, other in itertools.product(*alone)
        if (mine.task, mine.data.name) == (other.task, other.data.name)
    ]
    lines = [_why(mine, other, ours, theirs) for mine, other in matched]
    for side, (one, without) in enumerate(((ours, theirs), (theirs, ours))):
        lines += [
            f"{place.task} on {place.data.name} (fingerprint {place.fingerprint[:12]}"
            f"{', ' + training_words(place.train) if place.train else ''}): {one.letter} has it, "
            f"{without.letter} does not"
            for place in alone[side]
            if place not in [pair[side] for pair in matched]
        ]
    return lines


def _why(mine: Place, other: Place, ours: Contender, theirs: Contender) -> str:
    reasons = []
    if mine.data != other.data:
        reasons.append(f"other images: {data_words(mine.data)} / {data_words(other.data)}")
    if mine.train != other.train:
        words = f"{training_words(mine.train)} / {training_words(other.train)}"
        reasons.append(f"other training images: {words}")
    if mine.fingerprint != other.fingerprint:
        records = [ours.runs[mine][0], theirs.runs[other][0]]
        reasons.append("another protocol: " + settings_apart(records))
    where = f"{mine.task} on {mine.data.name}, {ours.letter} and {theirs.letter}: "
    return where + "; ".join(reasons)
