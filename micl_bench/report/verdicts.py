"""The sentence under a table: where MiCL leads and by how much, or plainly that it does not."""

import dataclasses
import math
from collections.abc import Callable

from micl_bench.record import Result
from micl_bench.report.metrics import (
    OURS,
    direction,
    format_value,
    headline_metrics,
    interval,
    metric_name,
)
from micl_bench.report.protocols import Protocol, protocol_of
from micl_bench.report.task_table import Group, Table

Tester = Callable[[Result, Result, str], str]
"""What a paired test says of two records' metric, in words; nothing where there is none."""

_SAME = 1e-9
"""Scores that differ by less are a tie: they differ by rounding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Our score against the best rival's, on one data set and metric."""

    where: str
    metric: str
    ours: Result
    rival: Result
    tested: str = ""
    """What a paired test on the same images says; nothing where there is none."""

    @property
    def lead(self) -> float:
        """Points by which we are ahead; negative when we are behind."""
        difference = self.ours.metrics[self.metric] - self.rival.metrics[self.metric]
        return difference * (direction(self.metric) or 1)

    @property
    def wins(self) -> bool:
        """Whether we lead, by however little."""
        return self.lead > _SAME

    @property
    def caveat(self) -> str:
        """How sure the difference is: the paired test, or else whether the two intervals overlap."""
        if self.tested:
            return self.tested
        ours, rival = interval(self.ours, self.metric), interval(self.rival, self.metric)
        if not ours or not rival:
            return ""
        overlap = ours[0] <= rival[1] and rival[0] <= ours[1]
        return f"intervals {'overlap' if overlap else 'do not overlap'}"


def compare(table: Table, test: Tester = lambda ours, rival, metric: "") -> list[Comparison]:
    """Every headline metric of every data set on which we and a rival have one protocol."""
    found = []
    for group in table.groups:
        results = [row.results[group.data] for row in table.rows if group.data in row.results]
        for metric in headline_metrics(group.metrics):
            scored = [r for r in results if math.isfinite(r.metrics.get(metric, math.nan))]
            found += [
                Comparison(
                    where=where,
                    metric=metric,
                    ours=ours,
                    rival=rival,
                    tested=test(ours, rival, metric),
                )
                for ours, where in _ours(scored, table, group)
                if (rival := _best_rival(scored, ours, metric))
            ]
    return found


def verdict(table: Table, comparisons: list[Comparison]) -> str:
    """A few plain sentences on what `compare` found in the table."""
    apart = _apart(table)
    if not comparisons and not apart:
        return _nothing_to_compare(table)
    wins = [comparison for comparison in comparisons if comparison.wins]
    others = [comparison for comparison in comparisons if not comparison.wins]
    sentences = []
    if wins:
        sentences.append(f"{OURS} leads " + "; ".join(map(_win, wins)) + ".")
    if others:
        sentences.append(f"{OURS} does not lead here: " + "; ".join(map(_no_win, others)) + ".")
    if apart:
        sentences.append("No rival under the same protocol: " + "; ".join(apart) + ".")
    return " ".join(sentences)


def _apart(table: Table) -> list[str]:
    """Where only other protocols have rivals of ours: their numbers are not held against ours."""
    found = []
    for group in table.groups:
        results = [row.results[group.data] for row in table.rows if group.data in row.results]
        for metric in headline_metrics(group.metrics)[:1]:
            scored = [r for r in results if math.isfinite(r.metrics.get(metric, math.nan))]
            rivals = dict.fromkeys(r.method for r in scored if r.method != OURS)
            found += [
                f"on {where} {' and '.join(rivals)} under another protocol, not compared"
                for ours, where in _ours(scored, table, group)
                if rivals and not _best_rival(scored, ours, metric)
            ]
    return found


def _ours(scored: list[Result], table: Table, group: Group) -> list[tuple[Result, str]]:
    """Our newest record under each protocol, and how sentences call the place."""
    newest: dict[Protocol, Result] = {}
    for result in scored:
        if result.method == OURS:
            kept = newest.setdefault(protocol_of(result), result)
            newest[protocol_of(result)] = max(kept, result, key=lambda record: record.start)
    return [
        (result, group.label + (f" [{table.mark(result)}]" if len(newest) > 1 else ""))
        for result in newest.values()
    ]


def _best_rival(scored: list[Result], ours: Result, metric: str) -> Result | None:
    """The best rival under our protocol."""
    rivals = [r for r in scored if r.method != OURS and protocol_of(r) == protocol_of(ours)]
    return max(rivals, key=lambda r: r.metrics[metric] * (direction(metric) or 1), default=None)


def _win(comparison: Comparison) -> str:
    return (
        f"on {comparison.where} by {_points(comparison.lead)} of {metric_name(comparison.metric)} "
        f"over {comparison.rival.method} ({_scores(comparison)}){_caveats(comparison)}"
    )


def _no_win(comparison: Comparison) -> str:
    metric, rival = metric_name(comparison.metric), comparison.rival.method
    if abs(comparison.lead) <= _SAME:
        score = format_value(comparison.metric, comparison.rival.metrics[comparison.metric])
        text = f"on {comparison.where} it ties with {rival} in {metric} at {score}"
    else:
        text = (
            f"on {comparison.where} {rival} is ahead by {_points(-comparison.lead)} of {metric} "
            f"({_scores(comparison)})"
        )
    return text + _caveats(comparison)


def _scores(comparison: Comparison) -> str:
    values = [r.metrics[comparison.metric] for r in (comparison.ours, comparison.rival)]
    ours, rival = (format_value(comparison.metric, value) for value in values)
    return f"{ours} against {rival}"


def _points(difference: float) -> str:
    return "less than 0.1 points" if difference < 0.05 else f"{difference:.1f} points"


def _caveats(comparison: Comparison) -> str:
    return f", {comparison.caveat}" if comparison.caveat else ""


def _nothing_to_compare(table: Table) -> str:
    methods = {result.method for row in table.rows for result in row.results.values()}
    if OURS not in methods:
        return f"{OURS} has no record here, so there is nothing to compare."
    if len(methods) == 1:
        return f"Only {OURS} was measured here, so there is nothing to compare."
    if not any(headline_metrics(group.metrics) for group in table.groups):
        return "No verdict: for none of these metrics does the report know which way is better."
    return f"{OURS} and the other methods share no data set here, so nothing is compared."
