"""The table that a terminal shows when a run of several tasks ends."""

from collections.abc import Iterable

import pandas as pd

from micl_bench.records.result import Record
from micl_bench.report.frame.long import long_frame
from micl_bench.report.frame.naming import assumed_words, data_label, data_order, method_rank
from micl_bench.report.frame.protocols import captions
from micl_bench.runtime.log import printable
from micl_bench.runtime.terminal import table_text

_ROWS = ["place", "data_set"]
_SIGNS = {"higher": 1.0, "lower": -1.0}


def summary_table(records: Iterable[Record]) -> str:
    """Return a text with one row for each task, data set and metric, and one column for each method.

    `*` marks the best of a protocol, the 95 % interval follows where the record has one. Of several
    records for one cell the newest counts. Where the protocols of a row differ, each number carries
    the mark of a note below the table.
    """
    frame = long_frame(sorted(records, key=lambda record: record.start))
    frame = long_frame(frame.groupby([*_ROWS, "method"], sort=False)["result"].last())
    methods = sorted(frame["method"].unique(), key=method_rank)
    rows, notes = list[list[str]](), dict[str, str]()
    groups = dict(iter(frame.groupby(_ROWS, sort=False)))
    for place, data in sorted(groups, key=lambda key: (key[0], data_order(key[1]))):
        own = groups[place, data]
        label = data_label(data, [other for kind, other in groups if kind == place])
        own = own.assign(caption=own["id"].map(captions(own["result"].tolist())))
        own = own.assign(text=_texts(own, _marks(own, notes)))
        for metric, line in own.groupby("metric", sort=False):
            texts = dict(zip(line["method"], line["text"], strict=True))
            header = line["result"].iloc[0].metrics[metric].header
            rows.append([place[1], label, header, *(texts.get(method, "") for method in methods)])
    lines = [table_text(["task", "data", "metric", *methods], rows, words=range(3))]
    lines += (
        ["", *(printable(f"[{mark}] {words}") for words, mark in notes.items())] if notes else []
    )
    return "\n".join([*lines, *_stand_ins(frame)])


def _marks(own: pd.DataFrame, notes: dict[str, str]) -> dict[str, str]:
    """Return, by method, the marks of its notes: its protocol, where several stand in a row, and
    assumptions on its checkpoint. New ones are added to `notes`."""
    each = own.drop_duplicates("method")
    several = each["caption"].nunique() > 1
    texts = list(zip(each["method"], each["caption"], strict=True)) if several else []
    texts += [(one.method, words) for one in each["result"] for words in assumed_words([one])]
    found: dict[str, list[str]] = {method: [] for method in each["method"]}
    for method, words in texts:
        found[method].append(notes.setdefault(words, str(len(notes) + 1)))
    return {method: f" [{','.join(marks)}]" if marks else "" for method, marks in found.items()}


def _texts(own: pd.DataFrame, marks: dict[str, str]) -> list[str]:
    """Return each number with the sign of the best of its protocol, its interval and its marks."""
    score = own["value"] * own["better"].map(_SIGNS)
    rivals = score.groupby([own["metric"], own["caption"]])
    is_best = (rivals.transform("count") > 1) & (score == rivals.transform("max"))
    texts = []
    for record, metric, best in zip(own["result"], own["metric"], is_best, strict=True):
        number = record.metrics[metric]
        interval = f" {number.interval_text(number.interval)}" if number.interval else ""
        texts.append(f"{number}{'*' if best else ' '}{interval}{marks[record.method]}")
    return texts


def _stand_ins(frame: pd.DataFrame) -> list[str]:
    pairs = set(zip(frame["data"], frame["stands_for"], strict=True))
    named = [f"{name} for {public}" for name, public in sorted(pairs) if public]
    if not named:
        return []
    return ["", printable("Stand-ins, no benchmark numbers: " + ", ".join(named) + ".")]
