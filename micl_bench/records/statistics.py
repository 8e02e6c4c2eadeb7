"""Intervals of a measurement and tests of a difference, in percent throughout.

All intervals are at 95 %, all tests two-sided. `scipy.stats`, which takes half a second to import, is
imported where it is needed.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtrit

LEVEL = 0.95
_NORMAL_QUANTILE_95 = 1.959963984540054
_HALVINGS = 60

Statistic = Callable[..., float]


def wilson(percentage: float, count: int) -> tuple[float, float]:
    """Return the Wilson score interval, at 95 %, of an accuracy on `count` images; percentages.

    Wilson, JASA 22 (1927). It stays within 0 and 100. An accuracy over no image, which is not a number,
    has the interval (nan, nan).
    """
    from scipy.stats import binomtest

    if count < 1 or math.isnan(percentage):
        return math.nan, math.nan
    right = round(percentage / 100 * count)
    ends = binomtest(right, count).proportion_ci(LEVEL, method="wilson")
    return 100 * float(ends.low), 100 * float(ends.high)


def bootstrap(
    statistic: Statistic, samples: Sequence[NDArray[Any]], *, seed: int, rounds: int = 2000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of `statistic(*samples)`.

    Efron, Annals of Statistics 7 (1979); Efron and Tibshirani, An Introduction to the Bootstrap
    (1993), section 13.3. Each array is resampled along its first axis, independently of the others;
    arrays of the same images belong into one array, as columns. The interval has the unit of the
    statistic. Where a sample is empty it is (nan, nan).
    """
    return percentiles(_resampled(statistic, samples, seed=seed, rounds=rounds))


def paired_bootstrap(
    statistic: Statistic,
    ours: Sequence[NDArray[Any]],
    theirs: Sequence[NDArray[Any]],
    *,
    seed: int,
    rounds: int = 2000,
) -> tuple[float, float, float]:
    """Test `statistic(*ours) - statistic(*theirs)`: return its percentile interval's ends and p-value.

    `ours[i]` and `theirs[i]` are measured on the same images, row by row, and are resampled
    together; different i are different images, resampled independently. The p-value is the level at
    which the interval just reaches 0 (Efron and Tibshirani, 1993, section 15.4), no smaller than
    2 / (rounds + 1). Where a sample is empty all three are nan.

    Raises:
        ValueError: a pair of arrays has different lengths.
    """
    pairs = list(zip(ours, theirs, strict=True))
    if any(len(one) != len(other) for one, other in pairs):
        raise ValueError("paired samples must be measured on the same images")
    rows = [np.arange(len(one)) for one, _ in pairs]

    def difference(*drawn: NDArray[np.int64]) -> float:
        left = statistic(*(one[index] for (one, _), index in zip(pairs, drawn, strict=True)))
        right = statistic(*(other[index] for (_, other), index in zip(pairs, drawn, strict=True)))
        return left - right

    values = _resampled(difference, rows, seed=seed, rounds=rounds)
    return *percentiles(values), p_of_zero(values)


def percentiles(values_R: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the percentile interval of R resampled values; (nan, nan) of none."""
    if not len(values_R):
        return math.nan, math.nan
    low, high = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def p_of_zero(values_R: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of 0, of R resampled differences; see `paired_bootstrap`.

    It is nan where there are none, or one is nan.
    """
    if not len(values_R) or np.isnan(values_R).any():
        return math.nan
    rarer = min(int((values_R <= 0).sum()), int((values_R >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(values_R) + 1))


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's t-interval of the mean of `values`, one of each seed; nan where one of them is.

    Raises:
        ValueError: there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"a t-interval needs 2 values or more, not {len(values)}")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    # `scipy.stats.t.ppf` calls it after checks, and a report asks thousands of times.
    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * error
    return mean - half, mean + half


def welch(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Test the difference of two means over seeds: return its interval's two ends and the p-value.

    Welch, Biometrika 34 (1947), with Satterthwaite's degrees of freedom. Where neither side varies,
    nothing can be said: all three are nan.

    Raises:
        ValueError: there are fewer than two values on a side.
    """
    from scipy.stats import ttest_ind

    if min(len(ours), len(theirs)) < 2:
        raise ValueError("Welch's test needs 2 values or more on each side")
    if len(set(ours)) == len(set(theirs)) == 1:
        return math.nan, math.nan, math.nan
    with warnings.catch_warnings():
        # scipy warns of a side whose values are all the same.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = ttest_ind(ours, theirs, equal_var=False)
    ends = found.confidence_interval(LEVEL)
    return float(ends.low), float(ends.high), float(found.pvalue)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact p-value that two classifiers are equally often right on the same images.

    McNemar, Psychometrika 12 (1947), in its exact form: of the images that exactly one of the two
    gets right, half should be A's, so their number is binomial with 1/2. It needs the two counts of
    such images; images on which both agree say nothing of a difference.
    """
    one, all_ = min(only_a, only_b), only_a + only_b
    return min(1.0, 2 * float(bdtr(one, all_, 0.5))) if all_ else 1.0


def paired_difference_interval(only_a: int, only_b: int, count: int) -> tuple[float, float]:
    """Return the score interval, in percent, of the difference A - B of accuracies on the same images.

    Tango, Statistics in Medicine 17 (1998) 891-908, equation (9): the differences d that the score
    test does not reject. It holds its level for few images and for accuracies near 0 and 100 %, and
    stays within ±100. Over no image it is (nan, nan).

    Args:
        only_a: images that A alone gets right.
        only_b: images that B alone gets right.
        count: all images, those on which both agree included.
    """
    if count < 1:
        return math.nan, math.nan
    estimate = (only_a - only_b) / count

    def score(difference: float) -> float:
        """Return the standardised distance of the counts from those expected; falls in `difference`."""
        # The most likely share of images that B alone gets right, given the difference.
        linear = (2 * count - only_a + only_b) * difference - only_a - only_b
        constant = -only_b * difference * (1 - difference)
        root = math.sqrt(max(0.0, linear**2 - 8 * count * constant))
        only_b_share = (root - linear) / (4 * count)
        variance = count * (2 * only_b_share + difference * (1 - difference))
        gap = only_a - only_b - count * difference
        if variance <= 0:
            return math.copysign(math.inf, gap) if gap else 0.0
        return gap / math.sqrt(variance)

    low = _crossing(lambda d: score(d) > _NORMAL_QUANTILE_95, -1.0, estimate)
    high = _crossing(lambda d: score(d) >= -_NORMAL_QUANTILE_95, estimate, 1.0)
    return 100 * low, 100 * high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several, in the given order.

    Holm, Scandinavian Journal of Statistics 6 (1979): the i-th smallest of m is multiplied by
    m - i + 1, none is below a smaller one's, none is above 1. Rejecting those up to 0.05 makes a
    single false rejection at most 5 % likely.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for turn, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - turn) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _resampled(
    statistic: Statistic, samples: Sequence[NDArray[Any]], *, seed: int, rounds: int
) -> NDArray[np.float64]:
    """Return the statistic of `rounds` draws with replacement; none where a sample is empty."""
    if not all(len(sample) for sample in samples):
        return np.empty(0)
    rng = np.random.default_rng(seed)
    return np.array(
        [
            statistic(*(sample[rng.integers(len(sample), size=len(sample))] for sample in samples))
            for _ in range(rounds)
        ]
    )


def _crossing(holds: Callable[[float], bool], left: float, right: float) -> float:
    """Return the point up to which a condition holds, by bisection."""
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        left, right = (middle, right) if holds(middle) else (left, middle)
    return (left + right) / 2
