"""The sentence under a table: where MiCL leads and by how much, or plainly that it does not."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from micl_bench.naming import arch_label
from micl_bench.report.difference import SIGNIFICANT
from micl_bench.report.layout import Entry
from micl_bench.report.metrics import OURS, direction, format_p, format_value, is_headline
from micl_bench.report.ranking import Standing

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

    @property
    def lead(self) -> float:
        """Points by which we are ahead; negative when we are behind."""
        return (self.ours.mean - self.rival.mean) * (direction(self.ours.metric) or 1)


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
        if is_headline(entry.metric) and math.isfinite(entry.mean):
            contests.setdefault(entry.contest, []).append(row)
    several = len({entries[rows[0]].first.arch for rows in contests.values()}) > 1
    comparisons = []
    for rows in contests.values():
        ours = [row for row in rows if entries[row].first.method == OURS]
        rivals = [row for row in rows if entries[row].first.method != OURS]
        if ours and rivals:
            # The newest, not the luckiest, speaks for us.
            one = max(ours, key=lambda row: entries[row].first.start)
            other = max(rivals, key=lambda r: entries[r].mean * direction(entries[r].metric))
            p = _tested_against(one, other, found)
            place = f"{where}, {arch_label(entries[one].first.arch)}" if several else where
            comparisons.append(
                Comparison(where=place, ours=entries[one], rival=entries[other], p=p)
            )
    return comparisons


def _tested_against(one: int, other: int, found: Mapping[int, Standing]) -> float | None:
    """The tests of a column are against its best: only where that is one of the two is there one."""
    if found[one].best:
        return found[other].p
    return found[one].p if found[other].best else None


def verdict(comparisons: Sequence[Comparison]) -> str:
    """A few plain sentences; none where nothing can be compared."""
    wins = [comparison for comparison in comparisons if comparison.lead > _SAME]
    others = [comparison for comparison in comparisons if comparison.lead <= _SAME]
    sentences = []
    if wins:
        sentences.append(f"{OURS} leads in {_clauses([_win(one) for one in wins])}.")
    if others:
        sentences.append(f"{OURS} does not lead in {_clauses([_no_win(one) for one in others])}.")
    return " ".join(sentences)


def _clauses(clauses: list[str]) -> str:
    more = len(clauses) - _MOST_CLAUSES
    return "; ".join([*clauses[:_MOST_CLAUSES], *([f"and {more} more"] if more > 0 else [])])


def _win(one: Comparison) -> str:
    rival = one.rival.first.method
    return f"{one.where}: {_points(one.lead)} over {rival} ({_scores(one)}){_tested(one)}"


def _no_win(one: Comparison) -> str:
    rival = one.rival.first.method
    if abs(one.lead) <= _SAME:
        score = format_value(one.ours.metric, one.ours.mean)
        return f"{one.where}: a tie with {rival} at {score}"
    return f"{one.where}: {rival} is {_points(-one.lead)} ahead ({_scores(one)}){_tested(one)}"


def _scores(one: Comparison) -> str:
    ours, rival = (format_value(e.metric, e.mean) for e in (one.ours, one.rival))
    return f"{ours} against {rival}"


def _points(difference: float) -> str:
    return "less than 0.1 points" if difference < 0.05 else f"{difference:.1f} points"


def _tested(one: Comparison) -> str:
    if one.p is None:
        return ", not tested"
    word = "significant" if one.p <= SIGNIFICANT else "not significant"
    return f", {word}, p = {format_p(one.p)}"
