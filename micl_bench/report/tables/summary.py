"""The table that a terminal shows when a run of several tasks ends."""

from micl_bench.records.declared import Number
from micl_bench.records.result import DataSet, Result
from micl_bench.report.frame.assumed import assumed_words
from micl_bench.report.frame.data_set_names import data_label, data_order
from micl_bench.report.frame.metrics import method_rank
from micl_bench.report.frame.protocols import captions
from micl_bench.runtime.log import printable
from micl_bench.runtime.terminal import table_text

_Row = tuple[tuple[int, str], DataSet]
"""A task, with its place in a report, and a data set."""


def summary_table(results: list[Result]) -> str:
    """One row for each task, data set and metric, one column for each method.

    `*` marks the best of a protocol, the 95 % interval follows where the record has one. Of several
    records for one cell the newest counts. Where the protocols of a row differ, each number carries
    the mark of a note below the table.
    """
    methods = sorted({result.method for result in results}, key=method_rank)
    header, rows = ["task", "data", "metric", *methods], list[list[str]]()
    newest, notes = _newest(results), dict[str, str]()
    for place, data in sorted(newest, key=lambda key: (key[0], data_order(key[1]))):
        cells, task = newest[place, data], place[1]
        label = data_label(data, [other for kind, other in newest if kind == place])
        marks = _marks(cells, notes)
        metrics = {name: one for result in cells.values() for name, one in result.metrics.items()}
        assumed = _assumed(cells, notes)
        rows += [
            [task, label, one.header, *_numbers(cells, methods, metric, marks, assumed)]
            for metric, one in metrics.items()
        ]
    footnotes = [printable(f"[{mark}] {caption}") for caption, mark in notes.items()]
    lines = [
        table_text(header, rows, words=range(3)),
        *([""] if notes else []),
        *footnotes,
        *_stand_ins(results),
    ]
    return "\n".join(lines)


def _newest(results: list[Result]) -> dict[_Row, dict[str, Result]]:
    newest: dict[_Row, dict[str, Result]] = {}
    for result in sorted(results, key=lambda result: result.start):
        newest.setdefault((result.place, result.data), {})[result.method] = result
    return newest


def _marks(cells: dict[str, Result], notes: dict[str, str]) -> dict[str, str]:
    """By method; new ones are added to `notes`. Empty where all share a protocol."""
    found = captions(list(cells.values()))
    if len(set(found.values())) == 1:
        return {}
    return {
        method: notes.setdefault(found[result.id], str(len(notes) + 1))
        for method, result in cells.items()
    }


def _assumed(cells: dict[str, Result], notes: dict[str, str]) -> dict[str, str]:
    """By method, the mark of what was assumed of its checkpoint; new ones are added to `notes`."""
    return {
        method: notes.setdefault(words[0], str(len(notes) + 1))
        for method, result in cells.items()
        if (words := assumed_words([result]))
    }


def _numbers(
    cells: dict[str, Result],
    methods: list[str],
    metric: str,
    marks: dict[str, str],
    assumed: dict[str, str],
) -> list[str]:
    values = {
        method: result.metrics[metric]
        for method, result in cells.items()
        if metric in result.metrics
    }
    best = _best(values, marks)
    texts = []
    for method in methods:
        if method not in values:
            texts.append("")
            continue
        number = values[method]
        text = str(number) + ("*" if method in best else " ")
        if number.interval:
            text += f" {number.interval_text(number.interval)}"
        found = [mark for mark in (marks.get(method), assumed.get(method)) if mark]
        texts.append(text + (f" [{','.join(found)}]" if found else ""))
    return texts


def _best(numbers: dict[str, Number], marks: dict[str, str]) -> set[str]:
    """The methods with the best value of their protocol, where at least two compete."""
    best: set[str] = set()
    way = next(iter(numbers.values())).direction
    for mark in {marks.get(method, "") for method in numbers}:
        rivals = {
            method: way * one.value
            for method, one in numbers.items()
            if marks.get(method, "") == mark and not one.undefined
        }
        if way and len(rivals) > 1:
            target = max(rivals.values())
            best |= {method for method, value in rivals.items() if value == target}
    return best


def _stand_ins(results: list[Result]) -> list[str]:
    pairs = {result.data.name: result.data.stands_for for result in results}
    named = [f"{name} for {public}" for name, public in sorted(pairs.items()) if public]
    if not named:
        return []
    return ["", printable("Stand-ins, no benchmark numbers: " + ", ".join(named) + ".")]
