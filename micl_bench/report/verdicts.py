"""The sentence under a table: where MiCL leads and by how much, or plainly that it does not."""

import dataclasses
import math

from micl_bench.record import Result
from micl_bench.report.metrics import (
    OURS,
    direction,
    format_value,
    headline_metrics,
    interval,
    metric_name,
)
from micl_bench.report.tables import Group, Table

_SAME = 1e-9
"""Scores that differ by less are a tie: they differ by rounding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Our score against the best rival's, on one data set and metric."""

    where: str
    metric: str
    ours: Result
    rival: Result

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
    def within_error(self) -> bool:
        """Whether both scores have an interval and these overlap."""
        ours, rival = interval(self.ours, self.metric), interval(self.rival, self.metric)
        return bool(ours and rival and ours[0] <= rival[1] and rival[0] <= ours[1])

    @property
    def same_protocol(self) -> bool:
        """Whether words and fingerprints are the same."""
        return _protocol(self.ours) == _protocol(self.rival)


def compare(table: Table) -> list[Comparison]:
    """Every headline metric of every data set on which we and a rival were measured."""
    found = []
    for group in table.groups:
        results = [row.results[group.data] for row in table.rows if group.data in row.results]
        for metric in headline_metrics(group.metrics):
            scored = [r for r in results if math.isfinite(r.metrics.get(metric, math.nan))]
            found += [
                Comparison(where=where, metric=metric, ours=ours, rival=rival)
                for ours, where in _ours(scored, table, group)
                if (rival := _best_rival(scored, ours, metric))
            ]
    return found


def verdict(table: Table) -> str:
    """One or two plain sentences, computed from the table's numbers."""
    comparisons = compare(table)
    if not comparisons:
        return _nothing_to_compare(table)
    wins = [comparison for comparison in comparisons if comparison.wins]
    others = [comparison for comparison in comparisons if not comparison.wins]
    sentences = []
    if wins:
        sentences.append(f"{OURS} leads " + "; ".join(map(_win, wins)) + ".")
    if others:
        sentences.append(f"{OURS} does not lead here: " + "; ".join(map(_no_win, others)) + ".")
    return " ".join(sentences)


def _protocol(result: Result) -> tuple[str, str]:
    return (result.protocol, result.fingerprint)


def _ours(scored: list[Result], table: Table, group: Group) -> list[tuple[Result, str]]:
    """Our newest record under each protocol, and how sentences call the place."""
    newest: dict[tuple[str, str], Result] = {}
    for result in scored:
        if result.method == OURS:
            kept = newest.setdefault(_protocol(result), result)
            newest[_protocol(result)] = max(kept, result, key=lambda record: record.start)
    return [
        (result, group.label + (f" [{table.mark(result)}]" if len(newest) > 1 else ""))
        for result in newest.values()
    ]


def _best_rival(scored: list[Result], ours: Result, metric: str) -> Result | None:
    """The best of all rivals, each under our protocol or, where it has none, under another."""
    rivals = []
    for method in dict.fromkeys(r.method for r in scored if r.method != OURS):
        rows = [r for r in scored if r.method == method]
        rivals += [r for r in rows if _protocol(r) == _protocol(ours)] or rows
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
    caveats = []
    if comparison.within_error:
        caveats.append("within the sampling error")
    if not comparison.same_protocol:
        caveats.append("under another protocol")
    return "".join(f", {caveat}" for caveat in caveats)


def _nothing_to_compare(table: Table) -> str:
    methods = {result.method for row in table.rows for result in row.results.values()}
    if OURS not in methods:
        return f"{OURS} has no record here, so there is nothing to compare."
    if len(methods) == 1:
        return f"Only {OURS} was measured here, so there is nothing to compare."
    if not any(headline_metrics(group.metrics) for group in table.groups):
        return "No verdict: for none of these metrics does the report know which way is better."
    return f"{OURS} and the other methods share no data set here, so nothing is compared."
