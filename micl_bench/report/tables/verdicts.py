"""The sentences under a table: where MiCL leads, and over whom, or plainly that it does not.

A lead is one over every row of the same images and metric, or the sentence says over which rows it is,
and what the best of the others has. A difference that a test does not show is no difference.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from micl_bench.records.names import arch_label
from micl_bench.report.compare.difference import SIGNIFICANT
from micl_bench.report.frame.entries import Entry
from micl_bench.report.frame.metrics import OURS, format_p
from micl_bench.report.tables.ranking import Standing

_SAME = 1e-9
"""Scores that differ by less are a tie: they differ by rounding."""
_MOST_CLAUSES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Our newest number against the best rival's, where they can be held against each other."""

    where: str
    ours: Entry
    rival: Entry
    p: float | None
    """Of the test between the two, adjusted by Holm's method over the column; None for no test."""
    above: Entry | None = None
    """The best rival of the column on the same images that ours is behind and that it cannot be held
    against: of another protocol or network."""

    @property
    def lead(self) -> float:
        """Points by which we are ahead; negative when we are behind."""
        return (self.ours.mean - self.rival.mean) * (self.ours.number.direction or 1)


def compare(
    where: str, entries: Mapping[int, Entry], found: Mapping[int, Standing]
) -> list[Comparison]:
    """What one column says, a comparison for each protocol and network that we and a rival share.

    Args:
        where: what the column is of.
        entries, found: its numbers and how they stand, by row.
    """
    contests: dict[object, list[int]] = {}
    for row, entry in entries.items():
        if entry.number.quoted and math.isfinite(entry.mean):
            contests.setdefault(entry.contest, []).append(row)
    several = len({entries[rows[0]].first.arch for rows in contests.values()}) > 1
    comparisons = []
    for rows in contests.values():
        ours = [row for row in rows if entries[row].first.method == OURS]
        rivals = [row for row in rows if entries[row].first.method != OURS]
        if ours and rivals:
            # The newest, not the luckiest, speaks for us.
            one = max(ours, key=lambda row: entries[row].first.start)
            other = max(rivals, key=lambda r: entries[r].mean * entries[r].number.direction)
            p = _tested_against(one, other, found)
            above = _best_above(entries[one], entries.values())
            place = f"{where}, {arch_label(entries[one].first.arch)}" if several else where
            comparisons.append(
                Comparison(where=place, ours=entries[one], rival=entries[other], p=p, above=above)
            )
    return comparisons


def _best_above(ours: Entry, column: Iterable[Entry]) -> Entry | None:
    """The best rival of a column on the images of ours, of another contest, that ours is behind."""
    way = ours.number.direction
    ahead = [
        entry
        for entry in column
        if entry.first.method != OURS
        and entry.first.data == ours.first.data
        and entry.contest != ours.contest
        and (entry.mean - ours.mean) * way > _SAME
    ]
    return max(ahead, key=lambda entry: entry.mean * way, default=None)


def _tested_against(one: int, other: int, found: Mapping[int, Standing]) -> float | None:
    """The tests of a column are against its best: only where that is one of the two is there one."""
    if found[one].best:
        return found[other].p
    return found[one].p if found[other].best else None


def verdict(comparisons: Sequence[Comparison]) -> str:
    """A few plain sentences; none where nothing can be compared."""
    parts = (
        (f"{OURS} leads in", [_win(one) for one in comparisons if _is_won(one) and not one.above]),
        (
            f"Among rows of one protocol and network alone, {OURS} leads in",
            [_win(one) for one in comparisons if _is_won(one) and one.above],
        ),
        (f"{OURS} does not lead in", [_no_win(one) for one in comparisons if _is_lost(one)]),
        ("No difference is shown in", [_open(one) for one in comparisons if _is_open(one)]),
        ("No test was possible in", [_open(one) for one in comparisons if _is_untested(one)]),
    )
    return " ".join(f"{words} {_clauses(clauses)}." for words, clauses in parts if clauses)


def _is_tie(one: Comparison) -> bool:
    return abs(one.lead) <= _SAME


def _is_untested(one: Comparison) -> bool:
    return one.p is None and not _is_tie(one)


def _is_open(one: Comparison) -> bool:
    return one.p is not None and one.p > SIGNIFICANT and not _is_tie(one)


def _is_won(one: Comparison) -> bool:
    return one.p is not None and one.p <= SIGNIFICANT and one.lead > _SAME


def _is_lost(one: Comparison) -> bool:
    return _is_tie(one) or (one.p is not None and one.p <= SIGNIFICANT and one.lead < 0)


def _clauses(clauses: list[str]) -> str:
    more = len(clauses) - _MOST_CLAUSES
    return "; ".join([*clauses[:_MOST_CLAUSES], *([f"and {more} more"] if more > 0 else [])])


def _win(one: Comparison) -> str:
    rival = one.rival.first.method
    return f"{one.where}: {_points(one.lead)} over {rival} ({_scores(one)}){_p(one)}{_above(one)}"


def _no_win(one: Comparison) -> str:
    rival = one.rival.first.method
    if _is_tie(one):
        score = one.ours.text
        return f"{one.where}: a tie with {rival} at {score}"
    return f"{one.where}: {rival} is {_points(-one.lead)} ahead ({_scores(one)}){_p(one)}"


def _open(one: Comparison) -> str:
    """Two numbers between which nothing is decided."""
    ours, rival = one.ours.text, one.rival.text
    return f"{one.where}: {OURS} {ours}, {one.rival.first.method} {rival}{_p(one)}{_above(one)}"


def _above(one: Comparison) -> str:
    """What a rival has that ours cannot be held against, and is behind."""
    if one.above is None:
        return ""
    rival, ours = one.above.first, one.ours.first
    score = one.above.text
    other = "with another network" if rival.arch != ours.arch else "under another protocol"
    return f", while {rival.method} has {score} {other}"


def _scores(one: Comparison) -> str:
    ours, rival = one.ours.text, one.rival.text
    return f"{ours} against {rival}"


def _points(difference: float) -> str:
    return "less than 0.1 points" if difference < 0.05 else f"{difference:.1f} points"


def _p(one: Comparison) -> str:
    return "" if one.p is None else f", p = {format_p(one.p)}"
