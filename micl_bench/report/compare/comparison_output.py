"""A comparison as a frame, as JSON, and as text for people."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pandas as pd

from micl_bench.records.declared import Number
from micl_bench.report.compare.comparison import Comparison, compare_all
from micl_bench.report.compare.contenders import Contender, read_contenders
from micl_bench.report.compare.difference import SIGNIFICANT, Difference
from micl_bench.report.frame.entries import Entry
from micl_bench.report.frame.naming import format_p
from micl_bench.runtime.log import printable
from micl_bench.runtime.terminal import table_text
from micl_bench.runtime.values import without_nan

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
        and the reason in `verdict`.

    Raises:
        InputError: fewer than two, no records, or nothing that can be compared.

    Example:
        table = micl_bench.compare("work/results/knn", "work/results/knn-random")
        print(table[["metric", "difference", "low", "high", "verdict"]])
    """
    contenders = read_contenders([Path(one) for one in results])
    source = {one.letter: str(one.source) for one in contenders}
    return pd.DataFrame(
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
        for one in compare_all(contenders).differences
    )


def as_json(comparison: Comparison, contenders: list[Contender]) -> dict[str, Any]:
    """Everything, in full precision; what is not a number is null."""
    return {
        "contenders": [
            {
                "letter": contender.letter,
                "source": str(contender.source),
                "notes": contender.notes,
                "records": [run.id for runs in contender.runs.values() for run in runs],
            }
            for contender in contenders
        ],
        "comparisons": [without_nan(_plain(one)) for one in comparison.differences],
        "significant": SIGNIFICANT,
        "not_compared": comparison.not_compared,
    }


def _plain(one: Difference) -> dict[str, Any]:
    tested = ("interval", "test", "p", "adjusted_p", "only_ours", "only_theirs", "note")
    sides = zip(("ours", "theirs"), one.letters, (one.ours, one.theirs), strict=True)
    return {
        "task": one.first.task,
        "data": dataclasses.asdict(one.first.data),
        "protocol": one.first.protocol,
        "fingerprint": one.first.fingerprint,
        "metric": one.metric,
        **{name: getattr(one, name) for name in tested},
        **{
            name: {
                "letter": letter,
                "values": entry.values,
                "interval": entry.interval,
                "checkpoints": entry.checkpoints,
            }
            for name, letter, entry in sides
        },
        "difference": one.estimate,
        "verdict": one.verdict,
    }


def as_text(comparison: Comparison, contenders: list[Contender]) -> str:
    """A table for each task and data set, and what was not compared, with the reason."""
    lines = [
        line
        for contender in contenders
        for line in (contender.describe(), *(f"   {note}" for note in contender.notes))
    ]
    for _, group in itertools.groupby(sorted(comparison.differences, key=_place), key=_place):
        found = list(group)
        first = found[0].first
        lines += [
            "",
            f"{first.about.title} on {first.data.name}, {first.data.images:,} images, "
            f"split {first.data.split}",
            f"{first.protocol}  (fingerprint {first.fingerprint[:12]})",
            table_text(_HEADER, map(_row, found), words=_WORDS),
        ]
    lines += ["", *_explanations(comparison.differences)]
    if comparison.not_compared:
        lines += ["", "Not compared:", *(f"  {line}" for line in comparison.not_compared)]
    # A table has lines of its own.
    return "\n".join(printable(part) for line in lines for part in line.split("\n"))


def _place(one: Difference) -> tuple[tuple[int, str], str, str, str]:
    return (one.first.place, one.first.data.name, one.first.data.digest, one.first.fingerprint)


def _row(difference: Difference) -> list[str]:
    number, (one, other) = difference.number, difference.letters
    estimate = _number(number, difference.estimate, signed=True)
    return [
        number.header,
        f"{one} - {other}",
        _side(difference.ours),
        _side(difference.theirs),
        estimate + _bounds(number, difference.interval, signed=True),
        format_p(difference.p),
        format_p(difference.adjusted_p),
        difference.verdict,
    ]


def _side(side: Entry) -> str:
    checkpoints = f"{side.checkpoints} checkpoint{'s' if side.checkpoints > 1 else ''}"
    runs = f" ({len(side.values)} runs of {checkpoints})" if len(side.values) > 1 else ""
    return _number(side.number, side.mean) + _bounds(side.number, side.interval) + runs


def _bounds(number: Number, bounds: tuple[float, float] | None, *, signed: bool = False) -> str:
    if bounds is None:
        return ""
    low, high = (_number(number, end, signed=signed) for end in bounds)
    return f" [{low}, {high}]"


def _number(number: Number, value: float, *, signed: bool = False) -> str:
    """Two decimals for percentages: differences between good models are of that size."""
    if not math.isfinite(value):
        return "–"
    sign = "+" if signed else ""
    return f"{value:{sign}.2f}" if number.is_percentage else f"{value:{sign}.4g}"


def _explanations(differences: list[Difference]) -> list[str]:
    tests = [difference for difference in differences if difference.p is not None]
    number = "one test" if len(tests) == 1 else f"{len(tests)} tests"
    used = {difference.test for difference in differences}
    lines = ["In brackets: 95 % intervals, each by itself."]
    lines += [words for test, words in _TESTS.items() if test in used]
    if tests:
        lines.append(
            f"Holm's p: adjusted for the {number} above; different where it is at most {SIGNIFICANT}."
        )
    return lines
