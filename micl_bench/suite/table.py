"""The table that ends a suite: every run, its number, and which of an entry's values did best."""

from micl_bench.log import printable
from micl_bench.record import Result
from micl_bench.report.metrics import (
    direction,
    format_interval,
    format_value,
    headline_metrics,
    interval,
)
from micl_bench.report.summary import aligned
from micl_bench.suite.runs import Outcome

_HEADER = ("entry", "method", "values", "data", "metric", "value", "95 % interval")
_LEFT = range(5)


def table(outcomes: list[Outcome]) -> str:
    """One row a run and headline metric; a footnote says what the best of several is worth."""
    best = _best(outcomes)
    rows: list[tuple[str, ...]] = [_HEADER]
    problems = []
    for outcome in outcomes:
        run = outcome.run
        values = " ".join(f"{key}={value}" for key, value in run.values)
        for result in outcome.results:
            for metric in headline_metrics(list(result.metrics)):
                mark = best.get((run.name, result.id, metric), "")
                number = format_value(metric, result.metrics[metric]) + mark
                row = (run.entry, run.method, values, result.data.name, metric, number)
                rows.append((*row, _ends(result, metric)))
        if outcome.problem:
            rows.append((run.entry, run.method, values, "", "", "failed", ""))
            problems.append(f"{run.name}: {outcome.problem}")
    lines = aligned([[printable(cell) for cell in row] for row in rows], left=_LEFT)
    return "\n".join([*lines, *_notes(best), *([""] if problems else []), *problems])


def _ends(result: Result, metric: str) -> str:
    bounds = interval(result, metric)
    return format_interval(metric, bounds) if bounds else ""


def _best(outcomes: list[Outcome]) -> dict[tuple[str, str, str], str]:
    """Marks by run, record and metric; only where one entry measured a method more than once."""
    rivals: dict[tuple[str, str, str, str], list[tuple[float, str, str]]] = {}
    for outcome in outcomes:
        for result in outcome.results:
            for metric in headline_metrics(list(result.metrics)):
                value = result.metrics[metric] * direction(metric)
                group = (outcome.run.entry, outcome.run.method, result.data.name, metric)
                if value == value:
                    rivals.setdefault(group, []).append((value, outcome.run.name, result.id))
    marks: dict[tuple[str, str, str], str] = {}
    for (_, _, _, metric), found in rivals.items():
        highest = max(value for value, _, _ in found)
        for value, name, identity in found:
            if len(found) > 1 and value == highest:
                marks[name, identity, metric] = f" best of {len(found)}"
    return marks


def _notes(best: dict[tuple[str, str, str], str]) -> list[str]:
    if not best:
        return []
    return [
        "",
        "best of N: tried on the evaluated images themselves, as papers do, which makes it look better",
        "than the same values would do on other images; report how many were tried, and the interval.",
    ]
