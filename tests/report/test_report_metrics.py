import math

import pytest
from synthetic_results import result

from micl_bench.report.metrics import (
    format_value,
    headline_metrics,
    higher_is_better,
    interval,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "images", "low", "high"),
    [
        # Published values: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.0, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilson_has_the_published_values(
    successes: int, images: int, low: float, high: float
) -> None:
    assert wilson(100 * successes / images, images) == pytest.approx((low, high), abs=6e-3)


@pytest.mark.parametrize("percentage", [0.0, 12.5, 50.0, 99.0, 100.0])
def test_wilson_bounds_solve_the_score_equation(percentage: float) -> None:
    images, z, share = 400, 1.959963984540054, percentage / 100
    for bound in wilson(percentage, images):
        p = bound / 100
        assert (share - p) ** 2 == pytest.approx(z * z * p * (1 - p) / images, abs=1e-12)


def test_only_accuracies_over_the_images_have_an_interval() -> None:
    record = result(metrics={"top1": 50.0, "clean_top1": 60.0, "mIoU": 40.0})
    assert interval(record, "top1") == wilson(50.0, 900)
    assert interval(record, "clean_top1") is None
    assert interval(record, "mIoU") is None
    assert interval(result(metrics={"top1": math.nan}), "top1") is None
    assert interval(result(data={"images": 0}), "top1") is None


def test_direction_is_claimed_only_where_it_is_known() -> None:
    known = ["top1", "top5", "knn_top1", "mIoU", "mAcc", "aAcc", "box_AP", "mask_AP50", "box_APs"]
    assert all(map(higher_is_better, known))
    assert not any(map(higher_is_better, ["loss", "drop", "seconds", "stop1ped", "images_per_s"]))


def test_headlines_are_the_quoted_metrics() -> None:
    assert headline_metrics(["top5", "top1"]) == ["top1"]
    assert headline_metrics(["mask_AP", "box_AP50", "box_AP"]) == ["box_AP", "mask_AP"]
    assert headline_metrics(["spread", "aAcc"]) == ["aAcc"]
    assert headline_metrics(["spread"]) == []


def test_numbers_as_printed() -> None:
    assert format_value("top1", 91.25) == "91.2"
    assert format_value("loss", 1.23456) == "1.235"
    assert format_value("images_per_second", 12345.6) == "12,346"
    assert format_value("top1", math.nan) == "–"
