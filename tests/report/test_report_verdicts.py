import dataclasses
import math
from typing import Any

import pytest
from synthetic_results import result

from micl_bench.record import DataSet, Result
from micl_bench.report.task_table import build_table
from micl_bench.report.verdicts import compare, verdict


def _verdict(*results: Result) -> str:
    table = build_table(list(results))
    return verdict(table, compare(table))


def _pair(ours: float, theirs: float, **changes: Any) -> str:
    return _verdict(
        result(metrics={"top1": ours}, **changes),
        result(metrics={"top1": theirs}, method="other", **changes),
    )


def test_a_clear_lead() -> None:
    assert _pair(80.0, 60.5) == (
        "MiCL leads on embedded by 19.5 points of top-1 over other (80.0 against 60.5), "
        "intervals do not overlap."
    )


def test_a_lead_with_intervals_that_overlap() -> None:
    assert _pair(80.0, 79.0) == (
        "MiCL leads on embedded by 1.0 points of top-1 over other (80.0 against 79.0), "
        "intervals overlap."
    )


def test_more_images_settle_the_same_lead() -> None:
    assert "intervals do not overlap" in _pair(80.0, 79.0, data={"images": 50_000})


def test_no_win_is_said_plainly() -> None:
    assert _pair(60.0, 80.0) == (
        "MiCL does not lead here: on embedded other is ahead by 20.0 points of top-1 "
        "(60.0 against 80.0), intervals do not overlap."
    )


def test_a_tie_is_no_lead() -> None:
    assert _pair(80.0, 80.0) == (
        "MiCL does not lead here: on embedded it ties with other in top-1 at 80.0, "
        "intervals overlap."
    )


def test_a_hair_is_not_rounded_to_nothing() -> None:
    assert "MiCL leads on embedded by less than 0.1 points" in _pair(80.02, 80.0)


def test_the_best_rival_counts_and_both_directions_are_told() -> None:
    def on(name: str, scores: dict[str, float]) -> list[Result]:
        return [
            result(method=method, metrics={"mIoU": score}, data={"name": name})
            for method, score in scores.items()
        ]

    text = _verdict(
        *on("one", {"MiCL": 50.0, "low": 20.0, "high": 48.0}),
        *on("two", {"MiCL": 50.0, "low": 20.0, "high": 52.5}),
    )
    assert text == (
        "MiCL leads on one by 2.0 points of mIoU over high (50.0 against 48.0). "
        "MiCL does not lead here: on two high is ahead by 2.5 points of mIoU (50.0 against 52.5)."
    )


def test_a_rival_is_compared_under_our_protocol_only() -> None:
    text = _verdict(
        result(protocol="short", metrics={"top1": 60.0}),
        result(protocol="short", method="other", metrics={"top1": 40.0}),
        result(protocol="long", method="other", metrics={"top1": 90.0}),
    )
    assert text.startswith("MiCL leads on embedded by 20.0 points")
    text = _verdict(
        result(protocol="short", metrics={"top1": 60.0}),
        result(protocol="long", method="other", metrics={"top1": 90.0}),
    )
    assert text == (
        "No rival under the same protocol: on embedded other under another protocol, not compared."
    )


def test_equal_words_with_another_fingerprint_are_another_protocol() -> None:
    text = _verdict(
        result(settings={"k": 10}, metrics={"top1": 60.0}),
        result(settings={"k": 10}, method="other", metrics={"top1": 40.0}),
        result(settings={"k": 20}, method="other", metrics={"top1": 90.0}),
    )
    assert text.startswith("MiCL leads on embedded by 20.0 points")
    text = _verdict(
        result(settings={"k": 10}, metrics={"top1": 60.0}),
        result(settings={"k": 20}, method="other", metrics={"top1": 90.0}),
    )
    assert text.endswith("on embedded other under another protocol, not compared.")


def test_a_lower_error_leads() -> None:
    text = _verdict(
        result(metrics={"mCE": 50.0}),
        result(metrics={"mCE": 60.0}, method="near"),
        result(metrics={"mCE": 70.0}, method="far"),
    )
    assert text == "MiCL leads on embedded by 10.0 points of mCE over near (50.0 against 60.0)."


def test_each_of_our_protocols_has_its_own_comparison() -> None:
    text = _verdict(
        result(protocol="short", metrics={"top1": 60.0}),
        result(protocol="long", metrics={"top1": 95.0}),
        result(protocol="short", method="other", metrics={"top1": 40.0}),
        result(protocol="long", method="other", metrics={"top1": 97.5}),
    )
    assert "MiCL leads on embedded [b] by 20.0 points" in text
    assert "on embedded [a] other is ahead by 2.5 points" in text


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([result()], "Only MiCL was measured here"),
        ([result(method="other")], "MiCL has no record here"),
        ([result(metrics={"spread": 1.0}), result(method="x")], "share no data set"),
        (
            [result(metrics={"spread": 1.0}), result(method="x", metrics={"spread": 2.0})],
            "No verdict",
        ),
        ([result(metrics={"top1": math.nan}), result(method="x")], "share no data set"),
    ],
)
def test_nothing_to_compare(results: list[Result], sentence: str) -> None:
    assert sentence in _verdict(*results)


def test_our_newest_record_speaks_for_us() -> None:
    old = result(metrics={"top1": 99.0}, recipe_digest="0" * 60)
    new = dataclasses.replace(result(metrics={"top1": 70.0}), start="2026-01-01T00:00:00+00:00")
    text = _verdict(new, old, result(method="other", metrics={"top1": 60.0}))
    assert "(70.0 against 60.0)" in text


def test_other_training_images_are_another_protocol() -> None:
    train = DataSet(name="train", split="train", images=1800, digest="t" * 64)
    text = _verdict(result(train=train), result(method="other", metrics={"top1": 60.0}))
    assert text.startswith("No rival under the same protocol")


def test_a_paired_test_speaks_before_the_intervals() -> None:
    table = build_table(
        [result(metrics={"top1": 80.0}), result(method="other", metrics={"top1": 79.0})]
    )
    asked = []

    def test(ours: Result, rival: Result, metric: str) -> str:
        asked.append((ours.method, rival.method, metric))
        return "significant, p = 0.0100"

    text = verdict(table, compare(table, test))
    assert text.endswith("(80.0 against 79.0), significant, p = 0.0100.")
    assert asked == [("MiCL", "other", "top1")]
