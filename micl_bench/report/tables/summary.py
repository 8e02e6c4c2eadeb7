"""The table that a terminal shows when a run of several tasks ends."""

from collections.abc import Mapping, Sequence

from micl_bench.records.declared import Number
from micl_bench.records.result import DataSet, Result
from micl_bench.report.frame.naming import assumed_words, data_label, data_order, method_rank
from micl_bench.report.frame.protocols import captions
from micl_bench.runtime.log import printable
from micl_bench.runtime.terminal import table_text


def summary_table(results: Sequence[Result]) -> str:
    """One row for each task, data set and metric, one column for each method.

    `*` marks the best of a protocol, the 95 % interval follows where the record has one. Of several
    records for one cell the newest counts. Where the protocols of a row differ, each number carries
    the mark of a note below the table.
    """
    methods = sorted({result.method for result in results}, key=method_rank)
    newest: dict[tuple[tuple[int, str], DataSet], dict[str, Result]] = {}
    for result in sorted(results, key=lambda result: result.start):
        newest.setdefault((result.place, result.data), {})[result.method] = result
    rows, notes = list[list[str]](), dict[str, str]()
    for place, data in sorted(newest, key=lambda key: (key[0], data_order(key[1]))):
        cells = newest[place, data]
        label = data_label(data, [other for kind, other in newest if kind == place])
        words = captions(list(cells.values()))
        protocols = {method: words[result.id] for method, result in cells.items()}
        marks = _marks(cells, protocols, notes)
        for metric in dict.fromkeys(name for result in cells.values() for name in result.metrics):
            numbers = {m: r.metrics[metric] for m, r in cells.items() if metric in r.metrics}
            texts = _texts(numbers, protocols, marks)
            header = next(iter(numbers.values())).header
            rows.append([place[1], label, header, *(texts.get(method, "") for method in methods)])
    lines = [table_text(["task", "data", "metric", *methods], rows, words=range(3))]
    lines += (
        ["", *(printable(f"[{mark}] {words}") for words, mark in notes.items())] if notes else []
    )
    return "\n".join([*lines, *_stand_ins(results)])


def _marks(
    cells: Mapping[str, Result], protocols: Mapping[str, str], notes: dict[str, str]
) -> dict[str, str]:
    """By method, the marks of its notes: its protocol, where several stand in a row, and what was
    assumed of its checkpoint. New ones are added to `notes`."""
    several = len(set(protocols.values())) > 1
    texts = [(method, protocols[method]) for method in cells if several]
    texts += [(method, words) for method, one in cells.items() for words in assumed_words([one])]
    found: dict[str, list[str]] = {method: [] for method in cells}
    for method, words in texts:
        found[method].append(notes.setdefault(words, str(len(notes) + 1)))
    return {method: f" [{','.join(marks)}]" if marks else "" for method, marks in found.items()}


def _texts(
    numbers: Mapping[str, Number], protocols: Mapping[str, str], marks: Mapping[str, str]
) -> dict[str, str]:
    """By method, its number with the sign of the best of its protocol, interval and marks."""
    texts = {}
    for method, number in numbers.items():
        values = [
            one.value * one.direction
            for other, one in numbers.items()
            if protocols[other] == protocols[method] and not one.undefined
        ]
        is_ranked = number.direction and not number.undefined and len(values) > 1
        is_best = is_ranked and number.value * number.direction == max(values)
        interval = f" {number.interval_text(number.interval)}" if number.interval else ""
        texts[method] = f"{number}{'*' if is_best else ' '}{interval}{marks[method]}"
    return texts


def _stand_ins(results: Sequence[Result]) -> list[str]:
    pairs = {(result.data.name, result.data.stands_for) for result in results}
    named = [f"{name} for {public}" for name, public in sorted(pairs) if public]
    if not named:
        return []
    return ["", printable("Stand-ins, no benchmark numbers: " + ", ".join(named) + ".")]
