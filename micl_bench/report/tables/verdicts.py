"""The sentences under a table: where MiCL leads, and over whom, or plainly that it does not.

A lead is one over every row of the same images and metric; otherwise the sentence says over which rows
it is, and names the best score of the others. A difference that no test shows is no difference.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from micl_bench.records.names import arch_label
from micl_bench.report.compare.difference import SIGNIFICANT
from micl_bench.report.frame.entries import Entry
from micl_bench.report.frame.naming import OURS, format_p
from micl_bench.report.tables.ranking import Standing

_SAME = 1e-9
"""Scores that differ by less are a tie: they differ by rounding."""
_MOST_CLAUSES = 12
_LEADS, _LEADS_ALIKE = (
    f"{OURS} leads in",
    f"Among rows of one protocol and network alone, {OURS} leads in",
)
_BEHIND = f"{OURS} does not lead in"
_OPEN, _UNTESTED = "No difference is shown in", "No test was possible in"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Our newest number and the best rival's, where they may be compared."""

    where: str
    ours: Entry
    rival: Entry
    p: float | None
    """The p-value of the test between the two, adjusted over the column; None for no test."""
    above: Entry | None = None
    """The best rival on the same images that ours is behind, and that it may not be compared with: it is
    of another protocol or network."""

    @property
    def lead(self) -> float:
        """Points by which we are ahead; negative when we are behind."""
        return (self.ours.mean - self.rival.mean) * (self.ours.number.direction or 1)

    @property
    def finding(self) -> str:
        """The beginning of the sentence that it belongs to."""
        if abs(self.lead) <= _SAME:
            return _BEHIND
        if self.p is None:
            return _UNTESTED
        if self.p > SIGNIFICANT:
            return _OPEN
        if self.lead < 0:
            return _BEHIND
        return _LEADS_ALIKE if self.above else _LEADS

    @property
    def clause(self) -> str:
        """Its clause in that sentence."""
        rival, p = self.rival.first.method, "" if self.p is None else f", p = {format_p(self.p)}"
        scores = f"({self.ours.text} against {self.rival.text})"
        if abs(self.lead) <= _SAME:
            return f"{self.where}: a tie with {rival} at {self.ours.text}"
        if self.finding == _BEHIND:
            return f"{self.where}: {rival} is {_points(-self.lead)} ahead {scores}{p}"
        if self.finding in (_LEADS, _LEADS_ALIKE):
            return f"{self.where}: {_points(self.lead)} over {rival} {scores}{p}{self._above}"
        return f"{self.where}: {OURS} {self.ours.text}, {rival} {self.rival.text}{p}{self._above}"

    @property
    def _above(self) -> str:
        """Words on a better rival of another protocol or network; empty where there is none."""
        if self.above is None:
            return ""
        is_other = self.above.first.arch != self.ours.first.arch
        other = "with another network" if is_other else "under another protocol"
        return f", while {self.above.first.method} has {self.above.text} {other}"


def compare(
    where: str, contests: Iterable[Mapping[int, Entry]], found: Mapping[int, Standing]
) -> list[Comparison]:
    """Compare our number of a column with the best rival's, in each contest that both are in.

    Args:
        where: name of the column.
        contests: its numbers by row, as `contests_of` splits them.
        found: the standing of each row.
    """
    quoted = [
        {row: one for row, one in own.items() if one.number.quoted and math.isfinite(one.mean)}
        for own in contests
    ]
    column = {row: entry for own in quoted for row, entry in own.items()}
    several = len({entry.first.arch for entry in column.values()}) > 1
    comparisons = []
    # In the order of the rows.
    for entries in sorted(filter(None, quoted), key=min):
        ours = [row for row, entry in entries.items() if entry.first.method == OURS]
        rivals = [row for row, entry in entries.items() if entry.first.method != OURS]
        if ours and rivals:
            # The newest, not the luckiest, speaks for us.
            one = max(ours, key=lambda row: entries[row].first.start)
            other = max(rivals, key=lambda r: entries[r].mean * entries[r].number.direction)
            # The tests of a column are against its best: only where that is one of the two is there one.
            p = found[other].p if found[one].best else found[one].p if found[other].best else None
            comparisons.append(
                Comparison(
                    where=f"{where}, {arch_label(entries[one].first.arch)}" if several else where,
                    ours=entries[one],
                    rival=entries[other],
                    p=p,
                    above=_best_above(entries[one], [column[row] for row in sorted(column)]),
                )
            )
    return comparisons


def _best_above(ours: Entry, column: Iterable[Entry]) -> Entry | None:
    """Return the best rival on the same images, of another contest, that ours is behind."""
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


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Return sentences on all comparisons of a table; empty where there are none."""
    sentences = []
    for finding in (_LEADS, _LEADS_ALIKE, _BEHIND, _OPEN, _UNTESTED):
        clauses = [one.clause for one in comparisons if one.finding == finding]
        more = len(clauses) - _MOST_CLAUSES
        shown = [*clauses[:_MOST_CLAUSES], *([f"and {more} more"] if more > 0 else [])]
        sentences += [f"{finding} {'; '.join(shown)}."] if clauses else []
    return " ".join(sentences)


def _points(difference: float) -> str:
    return "less than 0.1 points" if difference < 0.05 else f"{difference:.1f} points"
