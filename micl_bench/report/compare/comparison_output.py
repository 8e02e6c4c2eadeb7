"""Methods compared: as a table with all of it as JSON beside it, and as text for people."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from micl_bench.records.declared import PERCENTAGES
from micl_bench.report.compare.comparison import compare_all
from micl_bench.report.compare.contenders import read_contenders
from micl_bench.report.compare.difference import SIGNIFICANT, Difference
from micl_bench.report.frame.naming import format_p
from micl_bench.runtime.log import printable
from micl_bench.runtime.terminal import table_text
from micl_bench.runtime.values import without_nan
from micl_bench.runtime.wording import counted

_HEADER = ["metric", "pair", "first", "second", "difference", "p", "Holm's p", "verdict"]
_WORDS = (0, 1, len(_HEADER) - 1)
_TESTS = {
    "McNemar": "McNemar: the exact test on images that one alone gets right; the interval of the "
    "difference is Tango's (1998).",
    "Welch": "Welch: the t-test over runs; beside each mean its t-interval. Runs of one checkpoint "
    "vary in the evaluation alone, not in the training of the weights.",
    "bootstrap": "Drops, means over corruptions, mIoU and AP: the paired bootstrap over images.",
}


def compare(*results: str | Path) -> pd.DataFrame:
    """Test whether methods differ, on every task, data set and metric that two of them share.

    One run of each: a paired test on the per-image evidence beside the records (McNemar's exact test,
    or the paired bootstrap). Several runs of each: Welch's test over the runs. P-values are adjusted
    by Holm's method for all tests of the call. Only numbers of one protocol fingerprint, the same
    images and the same training images are compared.

    Args:
        results: two or more; for each method a record file, or a folder of records.

    Returns:
        A row per pair of methods and metric: `task`, `data`, `split`, `protocol`, `fingerprint`,
        `metric`, `unit`, `better`; `first` and `second` (as given), `first_value` and `second_value`
        (means over runs), `difference` (first less second) with its 95 % interval `low` to `high`, all
        in `unit`; `test`, `p`, `adjusted_p`, and the `verdict` in words. What was not tested has NaN,
        and the reason in `verdict`. `attrs` of the table has all of it as JSON values: the contenders'
        records, each side's runs and interval, and why other records were not compared.

    Raises:
        InputError: fewer than two, no records, or nothing that can be compared.

    Example:
        table = micl_bench.compare("work/results/knn", "work/results/knn-random")
        print(table[["metric", "difference", "low", "high", "verdict"]])
    """
    contenders = read_contenders([Path(one) for one in results])
    source = {one.letter: str(one.source) for one in contenders}
    comparison = compare_all(contenders)
    differences = sorted(comparison.differences, key=_place)
    table = pd.DataFrame(
        {
            "task": one.first.task,
            "data": one.first.data.name,
            "split": one.first.data.split,
            "protocol": one.first.protocol,
            "fingerprint": one.first.fingerprint,
            "metric": one.metric,
            "unit": one.number.unit,
            "better": one.number.better,
            "first": source[one.letters[0]],
            "second": source[one.letters[1]],
            "first_value": one.ours.mean,
            "second_value": one.theirs.mean,
            "difference": one.estimate,
            "low": one.interval[0] if one.interval else math.nan,
            "high": one.interval[1] if one.interval else math.nan,
            "test": one.test,
            "p": math.nan if one.p is None else one.p,
            "adjusted_p": math.nan if one.adjusted_p is None else one.adjusted_p,
            "verdict": one.verdict,
        }
        for one in differences
    )
    table.attrs = {
        "contenders": [
            {
                "letter": contender.letter,
                "source": str(contender.source),
                "title": contender.describe(),
                "notes": contender.notes,
                "records": [run.id for runs in contender.runs.values() for run in runs],
            }
            for contender in contenders
        ],
        "comparisons": [without_nan(_plain(one)) for one in differences],
        "significant": SIGNIFICANT,
        "not_compared": comparison.not_compared,
    }
    return table


def _place(one: Difference) -> tuple[tuple[int, str], str, str, str]:
    return (one.first.place, one.first.data.name, one.first.data.digest, one.first.fingerprint)


def _plain(one: Difference) -> dict[str, Any]:
    tested = ("interval", "test", "p", "adjusted_p", "only_ours", "only_theirs", "note")
    sides = zip(("ours", "theirs"), one.letters, (one.ours, one.theirs), strict=True)
    return {
        "task": one.first.task,
        "title": one.first.about.title,
        "data": dataclasses.asdict(one.first.data),
        "protocol": one.first.protocol,
        "fingerprint": one.first.fingerprint,
        "metric": one.metric,
        "header": one.number.header,
        "unit": one.number.unit,
        "better": one.number.better,
        **{name: getattr(one, name) for name in tested},
        **{
            name: {
                "letter": letter,
                "mean": entry.mean,
                "values": entry.values,
                "interval": entry.interval,
                "checkpoints": entry.checkpoints,
            }
            for name, letter, entry in sides
        },
        "difference": one.estimate,
        "verdict": one.verdict,
    }


def comparison_text(found: Mapping[Any, Any]) -> str:
    """A comparison for people at a terminal: a table per task and data set, and what was not compared.

    Args:
        found: the `attrs` of what `compare` returned.
    """
    lines: list[str] = []
    for contender in found["contenders"]:
        lines += [contender["title"], *(f"   {note}" for note in contender["notes"])]
    groups = itertools.groupby(
        found["comparisons"], key=lambda one: (one["task"], one["data"], one["fingerprint"])
    )
    for _, group in groups:
        rows = list(group)
        first, data = rows[0], rows[0]["data"]
        lines += [
            "",
            f"{first['title']} on {data['name']}, {data['images']:,} images, split {data['split']}",
            f"{first['protocol']}  (fingerprint {first['fingerprint'][:12]})",
            table_text(_HEADER, map(_row, rows), words=_WORDS),
        ]
    lines += ["", *_explanations(found["comparisons"])]
    if found["not_compared"]:
        lines += ["", "Not compared:", *(f"  {line}" for line in found["not_compared"])]
    # A table has lines of its own.
    return "\n".join(printable(part) for line in lines for part in line.split("\n"))


def _row(one: dict[str, Any]) -> list[str]:
    unit, ours, theirs = one["unit"], one["ours"], one["theirs"]
    estimate = _number(unit, one["difference"], signed=True)
    return [
        one["header"],
        f"{ours['letter']} - {theirs['letter']}",
        _side(unit, ours),
        _side(unit, theirs),
        estimate + _bounds(unit, one["interval"], signed=True),
        format_p(one["p"]),
        format_p(one["adjusted_p"]),
        one["verdict"],
    ]


def _side(unit: str, side: dict[str, Any]) -> str:
    runs, checkpoints = len(side["values"]), counted(side["checkpoints"], "checkpoint")
    words = f" ({runs} runs of {checkpoints})" if runs > 1 else ""
    return _number(unit, side["mean"]) + _bounds(unit, side["interval"]) + words


def _bounds(unit: str, bounds: Sequence[float | None] | None, *, signed: bool = False) -> str:
    if bounds is None:
        return ""
    low, high = (_number(unit, end, signed=signed) for end in bounds)
    return f" [{low}, {high}]"


def _number(unit: str, value: float | None, *, signed: bool = False) -> str:
    """Two decimals for percentages: differences between good models are of that size."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    return f"{value:{sign}.2f}" if unit in PERCENTAGES else f"{value:{sign}.4g}"


def _explanations(comparisons: list[dict[str, Any]]) -> list[str]:
    tests = sum(one["p"] is not None for one in comparisons)
    number = "one test" if tests == 1 else f"{tests} tests"
    used = {one["test"] for one in comparisons}
    lines = ["In brackets: 95 % intervals, each by itself."]
    lines += [words for test, words in _TESTS.items() if test in used]
    if tests:
        lines.append(
            f"Holm's p: adjusted for the {number} above; different where it is at most {SIGNIFICANT}."
        )
    return lines
