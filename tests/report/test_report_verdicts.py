"""The sentence under a table."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from predicted_results import right, write
from synthetic_results import changed, result
from tables_of import KNN, built, of, top1, trained

from micl_bench.records.result import Result
from micl_bench.records.store import read_results
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables


def verdict(*results: Result) -> str:
    return built(*results)[KNN].verdict


def pair(ours: float, theirs: float, **changes: Any) -> str:
    return verdict(top1(ours, **changes), top1(theirs, method="other", **changes))


def seeds(method: str, *scores: float, **changes: Any) -> list[Result]:
    """Runs of one checkpoint each, of known making: tested by Welch's test."""
    return [
        of(100 * len(method) + seed, score, trained(seed, method=method), method=method, **changes)
        for seed, score in enumerate(scores)
    ]


def test_a_difference_without_evidence_is_no_lead() -> None:
    assert pair(80.0, 60.5) == "No test was possible in k-NN: MiCL 80.0, other 60.5."
    assert pair(60.0, 80.0) == "No test was possible in k-NN: MiCL 60.0, other 80.0."


def test_no_lead_is_said_plainly() -> None:
    text = verdict(*seeds("MiCL", 60.0, 60.2, 60.1), *seeds("other", 80.0, 80.1, 80.3))
    assert text.startswith(
        "MiCL does not lead in k-NN: other is 20.0 points ahead (60.1 against 80.1)"
    )


def test_a_tie_is_no_lead_and_a_hair_is_not_rounded_to_nothing() -> None:
    assert pair(80.0, 80.0) == "MiCL does not lead in k-NN: a tie with other at 80.0."
    hair = verdict(*seeds("MiCL", 80.02, 80.021, 80.019), *seeds("other", 80.0, 80.001, 79.999))
    assert "less than 0.1 points over other" in hair


def test_a_difference_that_no_test_shows_is_called_that() -> None:
    text = verdict(*seeds("MiCL", 80.0, 84.0, 76.5), *seeds("other", 79.0, 83.0, 77.0))
    assert text.startswith("No difference is shown in k-NN: MiCL 80.2, other 79.7, p = ")
    assert "lead" not in text


def test_a_paired_test_on_the_same_images_speaks(tmp_path: Path) -> None:
    for method, share in (("MiCL", 0.9), ("other", 0.6)):
        write(tmp_path / method, {"top1": right(share, 0)}, method=method)
    tables = build_tables(select(read_results(tmp_path)), [])
    (text,) = [table.verdict for table in tables if table.name == KNN]
    assert text.startswith("MiCL leads in k-NN")
    assert "over other" in text
    assert ", p " in text


def test_the_best_rival_counts_in_each_column() -> None:
    scores = {"MiCL": (50.0, 50.0), "low": (20.0, 20.0), "high": (48.0, 52.5)}
    records = [
        made
        for method, values in scores.items()
        for task, value in zip(("knn", "linear"), values, strict=True)
        for made in seeds(method, value, value + 0.1, value - 0.1, task=task)
    ]
    text = verdict(*records)
    assert text.startswith("MiCL leads in k-NN: 2.0 points over high (50.0 against 48.0), p = ")
    assert "does not lead in linear probe: high is 2.5 points ahead (50.0 against 52.5)" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "long"}, "under another protocol"),
        ({"settings": {"k": 20}}, "under another protocol"),
        ({"arch": "vit_large"}, "with another network"),
    ],
)
def test_a_lead_that_another_row_is_above_names_its_restriction(
    change: dict[str, Any], words: str
) -> None:
    ours, random = seeds("MiCL", 59.7, 59.8, 59.6), seeds("random weights", 21.0, 21.1, 21.2)
    above = top1(98.3, method="from scratch", **change)
    text = verdict(*ours, *random, above)
    assert text.startswith("Among rows of one protocol and network alone, MiCL leads in k-NN")
    assert f"while from scratch has 98.3 {words}" in text
    below = top1(50.0, method="from scratch", **change)
    assert verdict(*ours, *random, below).startswith("MiCL leads in k-NN")


@pytest.mark.parametrize(
    "change", [{"protocol": "long"}, {"settings": {"k": 20}}, {"arch": "vit_large"}]
)
def test_a_rival_under_another_protocol_or_of_another_size_is_none(change: dict[str, Any]) -> None:
    near, far = top1(40.0, method="other"), top1(90.0, method="other", **change)
    assert "MiCL 60.0, other 40.0" in verdict(top1(60.0), near, far)
    assert verdict(top1(60.0), far) == ""


def test_a_lower_error_leads() -> None:
    data = {"name": "ImageNet-C", "split": "all", "images": 75 * 50_000}
    records = [
        changed(made, metrics={"mCE": made.values["top1"]}, intervals={})
        for method, value in (("MiCL", 50.0), ("near", 60.0), ("far", 70.0))
        for made in seeds(method, value, value + 0.1, value - 0.1, task="robustness", data=data)
    ]
    assert built(*records)["robustness"].verdict.startswith(
        "MiCL leads in ImageNet-C mCE: 10.0 points over near (50.0 against 60.0), p = "
    )


def test_our_newest_record_speaks_for_us_not_the_luckiest() -> None:
    lucky, new = top1(99.0, checkpoint={"digest": "a" * 64}), top1(70.0)
    assert "MiCL 70.0, other 60.0" in verdict(lucky, new, top1(60.0, method="other"))


def test_alone_there_is_nothing_to_say() -> None:
    assert verdict(result()) == ""
    assert verdict(dataclasses.replace(result(), method="other")) == ""
