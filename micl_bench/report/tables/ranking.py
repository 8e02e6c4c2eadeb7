"""The best number of a column, those that a test does not distinguish from it, and differences.

Only numbers of one protocol, the same images and one architecture are compared. A
difference counts as none only where a test says so: overlapping intervals are no test.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from micl_bench.records.result import Result
from micl_bench.records.statistics import holm
from micl_bench.report.compare.difference import SIGNIFICANT, Difference
from micl_bench.report.frame.entries import Entry
from micl_bench.report.frame.identity import network_of
from micl_bench.runtime.errors import InputError

_UNKNOWN = (
    "how these files of one method relate is not known, whether seeds of one pre-training or several; "
    "--pretrain-seed and --pretrain-name state it"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """The standing of a number among those that it may be compared with."""

    best: bool = False
    tied: bool = False
    test: str = ""
    """Words on the comparison with the best: the test and the number of tests, or why there is none."""
    p: float | None = None
    """The p-value against the best, adjusted by Holm's method over the column."""
    delta: str = ""
    """The difference from a baseline, `+1.2`."""
    against: str = ""
    """The unit of that difference, and the baseline."""


def contests_of(entries: Mapping[int, Entry], studies: Sequence[str]) -> list[dict[int, Entry]]:
    """Split the numbers of one column, by row, into those that may be compared.

    Args:
        studies: the study of each row; only rows of one study are compared.
    """
    contests: dict[object, dict[int, Entry]] = {}
    for row, entry in entries.items():
        contests.setdefault((studies[row], *entry.contest), {})[row] = entry
    return list(contests.values())


def standings(
    contests: Iterable[Mapping[int, Entry]], baselines: Sequence[Mapping[int, str]]
) -> dict[int, Standing]:
    """Rank the numbers of one column, by row.

    Args:
        contests: the column's numbers as `contests_of` splits them.
        baselines: rows, each with its name; the first group with exactly one number in a contest is
            its baseline.
    """
    found, pairs = dict[int, Standing](), dict[int, Difference]()
    for rivals in contests:
        found |= dict.fromkeys(rivals, Standing())
        best = _best(rivals)
        found |= dict.fromkeys(best, Standing(best=True))
        pairs |= {
            row: _tested(entry, rivals[best[0]])
            for row, entry in rivals.items()
            if best and row not in best and not math.isnan(entry.mean)
        }
    found |= _judged(pairs)
    for rivals in contests:
        for row, (delta, against) in _deltas(rivals, baselines).items():
            found[row] = dataclasses.replace(found[row], delta=delta, against=against)
    return found


def _best(rivals: Mapping[int, Entry]) -> list[int]:
    """Return the rows with the best value, where at least two compete."""
    way = next(iter(rivals.values())).number.direction
    values = {row: e.mean * way for row, e in rivals.items() if math.isfinite(e.mean)}
    if not way or len(values) < 2:
        return []
    return [row for row, value in values.items() if value == max(values.values())]


def _judged(pairs: Mapping[int, Difference]) -> dict[int, Standing]:
    """Holm's method over all tests of the column."""
    p_values = {row: pair.p for row, pair in pairs.items() if pair.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    words = "one test" if len(adjusted) == 1 else f"Holm's method over {len(adjusted)} tests"
    found = {}
    for row, pair in pairs.items():
        if (p := adjusted.get(row)) is None:
            reason = f": {pair.note}" if pair.note else ""
            found[row] = Standing(test=f"not tested against the best{reason}")
        elif p > SIGNIFICANT:
            test = f"no difference from the best is shown: {pair.test}, {words}"
            found[row] = Standing(tied=True, test=test, p=p)
        else:
            found[row] = Standing(p=p)
    return found


def _tested(entry: Entry, best: Entry) -> Difference:
    """Return the difference of a number from the best, by the test that its evidence allows."""
    bare = Difference(ours=entry, theirs=best, letters=("this", "the best"))
    if _are_unrelated(entry.first, best.first):
        return dataclasses.replace(bare, note=_UNKNOWN)
    try:
        return bare.tested()
    except InputError:
        # Another evaluation into the same folder may have taken the file's place.
        note = "a file of predictions is damaged or not its record's"
        return dataclasses.replace(bare, note=note)


def _are_unrelated(one: Result, other: Result) -> bool:
    """Return whether they are of two files of one method whose relation nobody states."""
    ours, theirs = network_of(one), network_of(other)
    is_known = ours.training and theirs.training
    return ours.method == theirs.method and ours.digest != theirs.digest and not is_known


def _deltas(
    rivals: Mapping[int, Entry], baselines: Sequence[Mapping[int, str]]
) -> dict[int, tuple[str, str]]:
    """Return, by row, the signed difference, and its unit with the baseline."""
    for group in baselines:
        rows = [row for row in group if row in rivals]
        if len(rows) == 1:
            base, number = rivals[rows[0]].mean, rivals[rows[0]].number
            unit = "points " if number.is_percentage else ""
            return {
                row: (number.signed(entry.mean - base), f"{unit}against {group[rows[0]]}")
                for row, entry in rivals.items()
                if row != rows[0] and math.isfinite(entry.mean - base)
            }
    return {}
