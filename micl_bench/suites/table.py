"""The table that ends a suite: every run, its number, and which of an entry's values did best."""

from micl_bench.records.declared import Number
from micl_bench.records.result import Result
from micl_bench.report.frame.assumed import assumed_words
from micl_bench.report.tables.measured_cell import Notes
from micl_bench.runtime.log import printable
from micl_bench.runtime.terminal import table_text
from micl_bench.suites.runs import Outcome

_HEADER = ("entry", "method", "values", "seed", "data", "metric", "value", "95 % interval")
_LEFT = (0, 1, 2, 4, 5)


def table(outcomes: list[Outcome]) -> str:
    """One row a run and headline metric; a footnote says what the best of several is worth."""
    best, notes = _best(outcomes), Notes()
    rows: list[tuple[str, ...]] = []
    for outcome in outcomes:
        run = outcome.run
        values = " ".join(f"{key}={value}" for key, value in run.values)
        seed = "" if run.seed is None else str(run.seed)
        for result in outcome.results:
            for metric in result.quoted:
                mark = best.get((*_combination(outcome, result), metric), "")
                number = f"{result.metrics[metric]}{mark}"
                number += "".join(f" [{notes.mark(words)}]" for words in assumed_words([result]))
                row = (run.entry, run.method, values, seed, result.data.name, metric, number)
                rows.append((*row, _ends(result.metrics[metric])))
        if outcome.problem:
            word = "left out" if outcome.left_out else "failed"
            rows.append((run.entry, run.method, values, seed, "", "", word, ""))
    lines = [table_text(_HEADER, rows, words=_LEFT)]
    footnotes = [printable(f"[{mark}] {words}") for mark, words in notes.footnotes]
    return "\n".join([*lines, *([""] if footnotes else []), *footnotes, *_notes(best)])


def _ends(number: Number) -> str:
    return number.interval_text(number.interval) if number.interval else ""


def _combination(outcome: Outcome, result: Result) -> tuple[str, str, str, str]:
    """What all seeds of one combination of values share."""
    run = outcome.run
    return run.entry, run.method, result.data.name, str(run.values)


def _best(outcomes: list[Outcome]) -> dict[tuple[str, str, str, str, str], str]:
    """Marks by combination and metric; only where one entry measured a method with several.

    With several seeds the mean over them counts: choosing for each seed would choose more often.
    """
    found: dict[tuple[str, str, str, str, str], list[float]] = {}
    for outcome in outcomes:
        for result in outcome.results:
            for metric in result.quoted:
                value = result.metrics[metric].value * result.metrics[metric].direction
                found.setdefault((*_combination(outcome, result), metric), []).append(value)
    rivals: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for (entry, method, data, values, metric), seen in found.items():
        mean = sum(seen) / len(seen)
        if mean == mean:
            rivals.setdefault((entry, method, data, metric), {})[values] = mean
    return {
        (entry, method, data, values, metric): f" best of {len(means)}"
        for (entry, method, data, metric), means in rivals.items()
        for values, mean in means.items()
        if len(means) > 1 and mean == max(means.values())
    }


def _notes(best: dict[tuple[str, str, str, str, str], str]) -> list[str]:
    if not best:
        return []
    return [
        "",
        "best of N: tried on the evaluated images themselves, as papers do, which makes it look better",
        "than the same values would do on other images; report how many were tried, and the interval.",
    ]
