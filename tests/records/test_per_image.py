"""Intervals corrected for bias: moved by twice the bias, the estimate in them, within 0 and 100."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from micl_bench.records.evidence.per_image import Counted


@dataclasses.dataclass(frozen=True)
class Distinct(Counted):
    """`start + rise * share` of the images that are drawn at all, 63 % of them in a resample."""

    start: float
    rise: float
    corrected: bool = True
    files: tuple[str, ...] = tuple(f"{number:02d}" for number in range(50))

    def resampled(self, weights_RN: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
        return {"share": self.start + self.rise * (weights_RN > 0).mean(axis=1)}

    tolerance, arrays = 0.0, dict  # What no test here asks for.


def ends(made: Distinct) -> tuple[tuple[float, float], tuple[float, float], float]:
    """The interval, the percentiles as they are, and the mean of the draws."""
    value_R = made.draws()["share"]
    low, high = np.quantile(value_R, [0.025, 0.975])
    return made.intervals()["share"], (low, high), value_R.mean()


def test_percentiles_move_by_twice_the_bias_and_keep_the_estimate() -> None:
    found, (low, high), mean = ends(Distinct(40, 20))
    assert Distinct(40, 20).metrics() == {"share": 60}
    assert mean == pytest.approx(40 + 20 * (1 - 0.98**50), abs=0.1)
    moved = 2 * (60 - mean)
    assert low + moved > 60, "the estimate would be outside"
    assert found == pytest.approx((60, high + moved))
    # The same, seen from the other side.
    found, (low, high), mean = ends(Distinct(60, -20))
    assert found == pytest.approx((low - 2 * (mean - 40), 40))


def test_intervals_end_at_0_and_100() -> None:
    assert ends(Distinct(80, 19))[0] == (99, 100)
    assert ends(Distinct(20, -19))[0] == (0, 1)


def test_what_needs_no_correction_has_percentiles_as_they_are() -> None:
    found, plain, _ = ends(Distinct(40, 20, corrected=False))
    assert found == plain
