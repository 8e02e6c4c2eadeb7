"""The table that a terminal shows when a run of several tasks ends."""

from micl_bench.record import Result
from micl_bench.report.metrics import (
    format_value,
    higher_is_better,
    method_rank,
    metric_header,
    task_rank,
)


def summary_table(results: list[Result]) -> str:
    """One row for each task, data set and metric, one column for each method; `*` marks the best.

    Of several records for one cell the newest counts.
    """
    methods = sorted({result.method for result in results}, key=method_rank)
    rows = [["task", "data", "metric", *methods]]
    newest = _newest(results)
    for task, data in sorted(newest, key=lambda key: (task_rank(key[0]), key[1])):
        cells = newest[task, data]
        metrics = dict.fromkeys(metric for result in cells.values() for metric in result.metrics)
        rows += [
            [task, data, metric_header(metric), *_numbers(cells, methods, metric)]
            for metric in metrics
        ]
    rows = [[_printable(text) for text in row] for row in rows]
    return "\n".join([*_aligned(rows), *_stand_ins(results)])


def _newest(results: list[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    """By task and data set, then by method."""
    newest: dict[tuple[str, str], dict[str, Result]] = {}
    for result in sorted(results, key=lambda result: result.start):
        newest.setdefault((result.task, result.data.name), {})[result.method] = result
    return newest


def _numbers(cells: dict[str, Result], methods: list[str], metric: str) -> list[str]:
    values = {
        method: result.metrics[metric]
        for method, result in cells.items()
        if metric in result.metrics
    }
    ranked = higher_is_better(metric) and len(values) > 1
    best = max((value for value in values.values() if value == value), default=None)
    return [
        format_value(metric, values[method]) + ("*" if ranked and values[method] == best else " ")
        if method in values
        else ""
        for method in methods
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Words to the left, numbers to the right, a rule below the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "─" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def _stand_ins(results: list[Result]) -> list[str]:
    pairs = {result.data.name: result.data.stands_for for result in results}
    named = [f"{name} for {public}" for name, public in sorted(pairs.items()) if public]
    if not named:
        return []
    return ["", _printable("Stand-ins, no benchmark numbers: " + ", ".join(named) + ".")]


def _printable(text: str) -> str:
    """Text without control characters, which could rewrite the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
