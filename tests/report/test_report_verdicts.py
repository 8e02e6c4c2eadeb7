"""The sentence under a table."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import result
from test_report_compare import right, write
from test_report_tables import KNN, built, top1

from micl_bench.record import Result
from micl_bench.report.selection import select
from micl_bench.report.tables import build_tables
from micl_bench.store import read_results


def verdict(*results: Result) -> str:
    return built(*results)[KNN].verdict


def pair(ours: float, theirs: float, **changes: Any) -> str:
    return verdict(top1(ours, **changes), top1(theirs, method="other", **changes))


def test_a_lead_without_evidence_is_not_tested() -> None:
    assert pair(80.0, 60.5) == (
        "MiCL leads in k-NN: 19.5 points over other (80.0 against 60.5), not tested."
    )


def test_no_lead_is_said_plainly() -> None:
    assert pair(60.0, 80.0) == (
        "MiCL does not lead in k-NN: other is 20.0 points ahead (60.0 against 80.0), not tested."
    )


def test_a_tie_is_no_lead_and_a_hair_is_not_rounded_to_nothing() -> None:
    assert pair(80.0, 80.0) == "MiCL does not lead in k-NN: a tie with other at 80.0."
    assert "less than 0.1 points over other" in pair(80.02, 80.0)


def test_a_paired_test_on_the_same_images_speaks(tmp_path: Path) -> None:
    for method, share in (("MiCL", 0.9), ("other", 0.6)):
        write(tmp_path / method, {"top1": right(share, 0)}, method=method)
    tables = build_tables(select(read_results(tmp_path)), [])
    (text,) = [table.verdict for table in tables if table.name == KNN]
    assert "significant, p = " in text
    assert "not significant" not in text


def test_the_best_rival_counts_in_each_column() -> None:
    scores = {"MiCL": (50.0, 50.0), "low": (20.0, 20.0), "high": (48.0, 52.5)}
    records = [
        top1(value, method=method, task=task)
        for method, values in scores.items()
        for task, value in zip(("knn", "linear"), values, strict=True)
    ]
    assert verdict(*records) == (
        "MiCL leads in k-NN: 2.0 points over high (50.0 against 48.0), not tested. "
        "MiCL does not lead in linear probe: high is 2.5 points ahead (50.0 against 52.5), "
        "not tested."
    )


@pytest.mark.parametrize(
    "change", [{"protocol": "long"}, {"settings": {"k": 20}}, {"arch": "vit_large"}]
)
def test_a_rival_under_another_protocol_or_of_another_size_is_none(change: dict[str, Any]) -> None:
    near, far = top1(40.0, method="other"), top1(90.0, method="other", **change)
    assert verdict(top1(60.0), near, far).startswith("MiCL leads in k-NN")
    assert verdict(top1(60.0), far) == ""


def test_a_lower_error_leads() -> None:
    data = {"name": "ImageNet-C", "split": "all", "images": 75 * 50_000}
    records = [
        result(task="robustness", metrics={"mCE": value}, method=method, data=data)
        for method, value in (("MiCL", 50.0), ("near", 60.0), ("far", 70.0))
    ]
    assert built(*records)["robustness"].verdict == (
        "MiCL leads in ImageNet-C mCE: 10.0 points over near (50.0 against 60.0), not tested."
    )


def test_our_newest_record_speaks_for_us_not_the_luckiest() -> None:
    lucky, new = top1(99.0, checkpoint={"digest": "a" * 64}), top1(70.0)
    assert "(70.0 against 60.0)" in verdict(lucky, new, top1(60.0, method="other"))


def test_alone_there_is_nothing_to_say() -> None:
    assert verdict(result()) == ""
    assert verdict(dataclasses.replace(result(), method="other")) == ""
