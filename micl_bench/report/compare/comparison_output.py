"""A comparison for people, as a table, and for programs, as JSON."""

import dataclasses
import itertools
import math
from typing import Any

from micl_bench.report.compare.comparison import Comparison
from micl_bench.report.compare.contenders import Contender
from micl_bench.report.compare.difference import SIGNIFICANT, Bounds, Difference, Side
from micl_bench.report.frame.metrics import (
    format_p,
    is_percentage,
    metric_header,
    task_rank,
    task_title,
)
from micl_bench.runtime.log import printable
from micl_bench.runtime.terminal import table_text

_HEADER = ["metric", "pair", "first", "second", "difference", "p", "Holm's p", "verdict"]
_WORDS = (0, 1, len(_HEADER) - 1)
_TESTS = {
    "McNemar": "McNemar: the exact test on images that one alone gets right; the interval of the "
    "difference is Tango's (1998).",
    "Welch": "Welch: the t-test over runs; beside each mean its t-interval. Runs of one checkpoint "
    "vary in the evaluation alone, not in the training of the weights.",
    "bootstrap": "Drops, means over corruptions, mIoU and AP: the paired bootstrap over images.",
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
        first = found[0]
        lines += [
            "",
            f"{task_title(first.task)} on {first.data.name}, {first.data.images:,} images, "
            f"split {first.data.split}",
            f"{first.protocol}  (fingerprint {first.fingerprint[:12]})",
            table_text(_HEADER, map(_row, found), words=_WORDS),
        ]
    lines += ["", *_explanations(comparison.differences)]
    if comparison.not_compared:
        lines += ["", "Not compared:", *(f"  {line}" for line in comparison.not_compared)]
    # A table has lines of its own.
    return "\n".join(printable(part) for line in lines for part in line.split("\n"))


def as_json(comparison: Comparison, contenders: list[Contender]) -> dict[str, Any]:
    """Everything, in full precision; what is not a number is null."""
    return {
        "contenders": [
            {
                "letter": contender.letter,
                "source": str(contender.source),
                "notes": contender.notes,
                "records": [r.id for runs in contender.runs.values() for _, r in runs],
            }
            for contender in contenders
        ],
        "comparisons": [
            _plain(
                {
                    **dataclasses.asdict(difference),
                    "difference": difference.estimate,
                    "verdict": difference.verdict,
                }
            )
            for difference in comparison.differences
        ],
        "significant": SIGNIFICANT,
        "not_compared": comparison.not_compared,
    }


def _place(difference: Difference) -> tuple[tuple[int, str], str, str, str]:
    data = difference.data
    return (task_rank(difference.task), data.name, data.digest, difference.fingerprint)


def _row(difference: Difference) -> list[str]:
    metric = difference.metric
    estimate = _number(metric, difference.estimate, signed=True)
    return [
        metric_header(metric),
        f"{difference.ours.letter} - {difference.theirs.letter}",
        _side(metric, difference.ours),
        _side(metric, difference.theirs),
        estimate + _bounds(metric, difference.interval, signed=True),
        format_p(difference.p),
        format_p(difference.adjusted_p),
        difference.verdict,
    ]


def _side(metric: str, side: Side) -> str:
    checkpoints = f"{side.checkpoints} checkpoint{'s' if side.checkpoints > 1 else ''}"
    runs = f" ({len(side.values)} runs of {checkpoints})" if len(side.values) > 1 else ""
    return _number(metric, side.mean) + _bounds(metric, side.interval) + runs


def _bounds(metric: str, bounds: Bounds, *, signed: bool = False) -> str:
    if bounds is None:
        return ""
    low, high = (_number(metric, end, signed=signed) for end in bounds)
    return f" [{low}, {high}]"


def _number(metric: str, value: float, *, signed: bool = False) -> str:
    """Two decimals for percentages: differences between good models are of that size."""
    if not math.isfinite(value):
        return "–"
    sign = "+" if signed else ""
    return f"{value:{sign}.2f}" if is_percentage(metric) else f"{value:{sign}.4g}"


def _explanations(differences: list[Difference]) -> list[str]:
    tests = [difference for difference in differences if difference.p is not None]
    number = "one test" if len(tests) == 1 else f"{len(tests)} tests"
    used = {difference.test for difference in differences}
    return [
        "In brackets: 95 % intervals, each by itself.",
        *(words for test, words in _TESTS.items() if test in used),
        *(
            [
                f"Holm's p: adjusted for the {number} above; different where it is at most "
                f"{SIGNIFICANT}."
            ]
            if tests
            else []
        ),
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
