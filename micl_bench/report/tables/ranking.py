"""Which number of a column is the best, from which a test shows no difference, what they gain.

Only numbers of one protocol, the same images and one architecture are held against each other. A
difference counts as none only where a test says so: overlapping intervals are no test.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from micl_bench.records.result import Result
from micl_bench.records.statistics import holm
from micl_bench.report.compare.difference import (
    SIGNIFICANT,
    Difference,
    on_images,
    over_runs,
)
from micl_bench.report.compare.kept import evidence_of
from micl_bench.report.frame.entries import Entry
from micl_bench.report.frame.identity import network_of
from micl_bench.runtime.errors import InputError

_UNKNOWN = (
    "how these files of one method relate is not known, whether seeds of one pre-training or several; "
    "--pretrain-seed and --pretrain-name state it"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """How one number stands among those that it can be held against."""

    best: bool = False
    tied: bool = False
    test: str = ""
    """How it was told from the best, in words: the test and how many, or why there is none."""
    p: float | None = None
    """Against the best, adjusted by Holm's method over the column."""
    delta: str = ""
    """The difference from a baseline, `+1.2`."""
    against: str = ""
    """Its unit, and the baseline."""


def standings(
    entries: Mapping[int, Entry],
    studies: Sequence[str],
    baselines: Sequence[Mapping[int, str]],
) -> dict[int, Standing]:
    """Of the numbers of one column, by row.

    Args:
        studies: of each row; only rows of one are held against each other.
        baselines: rows, and what to call each; the first group with exactly one number in a contest is
            its baseline.
    """
    contests: dict[object, dict[int, Entry]] = {}
    for row, entry in entries.items():
        contests.setdefault((studies[row], *entry.contest), {})[row] = entry
    found: dict[int, Standing] = {}
    pairs: dict[int, Difference] = {}
    for rivals in contests.values():
        best = _best(rivals)
        found |= {row: Standing(best=row in best) for row in rivals}
        if best:
            pairs |= {
                row: _tested(entry, rivals[best[0]])
                for row, entry in rivals.items()
                if row not in best and not math.isnan(entry.mean)
            }
        for row, (delta, against) in _deltas(rivals, baselines).items():
            found[row] = dataclasses.replace(found[row], delta=delta, against=against)
    for row, one in _judged(pairs).items():
        delta, against = found[row].delta, found[row].against
        found[row] = dataclasses.replace(one, delta=delta, against=against)
    return found


def _best(rivals: dict[int, Entry]) -> list[int]:
    """The rows with the best value, where at least two compete."""
    way = next(iter(rivals.values())).number.direction
    values = {row: e.mean * way for row, e in rivals.items() if math.isfinite(e.mean)}
    if not way or len(values) < 2:
        return []
    best = max(values.values())
    return [row for row, value in values.items() if value == best]


def _judged(pairs: dict[int, Difference]) -> dict[int, Standing]:
    """Holm's method over all tests of the column."""
    p_values = {row: pair.p for row, pair in pairs.items() if pair.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    found = {}
    for row, pair in pairs.items():
        if row not in adjusted:
            reason = f": {pair.note}" if pair.note else ""
            found[row] = Standing(test=f"not tested against the best{reason}")
            continue
        count = len(adjusted)
        words = "one test" if count == 1 else f"Holm's method over {count} tests"
        tied = adjusted[row] > SIGNIFICANT
        found[row] = Standing(
            tied=tied,
            test=f"no difference from the best is shown: {pair.test}, {words}" if tied else "",
            p=adjusted[row],
        )
    return found


def _tested(entry: Entry, best: Entry) -> Difference:
    """The difference of a number from the best, by the test that its evidence allows."""
    bare = Difference(
        task=entry.first.task,
        data=entry.first.data,
        protocol=entry.first.protocol,
        fingerprint=entry.first.fingerprint,
        metric=entry.metric,
        ours=entry,
        theirs=best,
        letters=("this", "the best"),
    )
    if _are_unrelated(entry.first, best.first):
        return dataclasses.replace(bare, note=_UNKNOWN)
    if len(entry.values) > 1 or len(best.values) > 1:
        return over_runs(bare)
    try:
        kept = [evidence_of(one.runs[0]) for one in (entry, best)]
    except InputError:
        # Another evaluation into the same folder may have taken the file's place.
        return dataclasses.replace(
            bare, note="a file of predictions is damaged or not its record's"
        )
    return on_images(bare, *kept)


def _are_unrelated(one: Result, other: Result) -> bool:
    """Whether they are of two files of one method, of which nobody says how these relate."""
    pair = (network_of(one), network_of(other))
    return (
        pair[0].method == pair[1].method
        and pair[0].digest != pair[1].digest
        and not all(network.training for network in pair)
    )


def _deltas(
    rivals: dict[int, Entry], baselines: Sequence[Mapping[int, str]]
) -> dict[int, tuple[str, str]]:
    """By row: the signed difference, and its unit with what it is from."""
    for group in baselines:
        rows = [row for row in group if row in rivals]
        if len(rows) == 1:
            base, number = rivals[rows[0]].mean, rivals[rows[0]].number
            unit = "points " if number.is_percentage else ""
            against = f"{unit}against {group[rows[0]]}"
            return {
                row: (number.signed(entry.mean - base), against)
                for row, entry in rivals.items()
                if row != rows[0] and math.isfinite(entry.mean - base)
            }
    return {}
