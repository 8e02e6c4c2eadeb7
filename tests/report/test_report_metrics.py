import math

import pytest
from synthetic_results import result

from micl_bench.report.frame.metrics import (
    direction,
    format_interval,
    format_value,
    headline_metrics,
    interval,
    metric_header,
)


def test_an_interval_is_the_records_own() -> None:
    record = result(
        metrics={"top1": 50.0, "drop": 60.0, "mIoU": 40.0, "mCE": 50.0},
        intervals={"top1": [48.0, 52.0], "drop": [-1.0, 4.0], "mCE": [math.nan, math.nan]},
    )
    assert interval(record, "top1") == (48.0, 52.0)
    assert interval(record, "drop") == (-1.0, 4.0)
    assert interval(record, "mIoU") is None
    assert interval(record, "mCE") is None


def test_direction_is_claimed_only_where_it_is_known() -> None:
    known = ["top1", "top5", "knn_top1", "mIoU", "mAcc", "aAcc", "box_AP", "mask_AP50", "box_APs"]
    known += ["top1_k10", "top1_k200", "top1_of_1000", "clean_top1_of_1000", "real_top1"]
    assert {direction(metric) for metric in known} == {1}
    assert direction("mCE") == -1
    unknown = ["loss", "drop", "seconds", "stop1ped", "images_per_s", "top1_k", "top1_kept"]
    assert {direction(metric) for metric in unknown} == {0}


@pytest.mark.parametrize(
    ("metric", "header"),
    [
        ("top1", "top-1 [%]"),
        ("top1_k10", "k = 10 [%]"),
        ("top1_of_1000", "top-1 of all 1,000 [%]"),
        ("clean_top1_of_10", "clean top-1 of all 10 [%]"),
        ("real_top1", "ReaL top-1 [%]"),
        ("mCE", "mCE [%]"),
        ("drop", "drop [points]"),
        ("loss", "loss"),
        ("mfu", "MFU [%]"),
        ("peak_memory_mib", "peak memory [MiB]"),
    ],
)
def test_headers_name_the_unit_where_it_is_known(metric: str, header: str) -> None:
    assert metric_header(metric) == header


def test_intervals_as_printed() -> None:
    assert format_interval("top1", (48.04, 52.06)) == "48.0–52.1"
    assert format_interval("drop", (-1.0, 4.0)) == "-1.0 to 4.0"


def test_headlines_are_the_quoted_metrics() -> None:
    assert headline_metrics(["top5", "top1"]) == ["top1"]
    assert headline_metrics(["mask_AP", "box_AP50", "box_AP"]) == ["box_AP", "mask_AP"]
    assert headline_metrics(["spread", "aAcc"]) == ["aAcc"]
    assert headline_metrics(["top1_k10", "top1", "top1_k20"]) == ["top1"]
    assert headline_metrics(["spread"]) == []


def test_numbers_as_printed() -> None:
    assert format_value("top1", 91.25) == "91.2"
    assert format_value("loss", 1.23456) == "1.235"
    assert format_value("images_per_second", 12345.6) == "12,346"
    assert format_value("top1", math.nan) == "–"
