"""Intervals and tests against published values, SciPy's own, closed forms and simulated truth."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from micl_bench.records.statistics import (
    bootstrap,
    holm,
    mcnemar,
    p_of_zero,
    paired_bootstrap,
    paired_difference_interval,
    t_interval,
    welch,
    wilson,
)

Z = 1.959963984540054


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
    images, share = 400, percentage / 100
    for bound in wilson(percentage, images):
        p = bound / 100
        assert (share - p) ** 2 == pytest.approx(Z * Z * p * (1 - p) / images, abs=1e-12)


def test_wilson_covers_the_truth_in_about_95_of_100_experiments() -> None:
    right = np.random.default_rng(0).binomial(300, 0.1, 4000)
    covered = [low <= 10 <= high for low, high in (wilson(100 * r / 300, 300) for r in right)]
    # Exact coverage for 300 images at 10 %, summed over all outcomes; the simulation agrees.
    outcomes = np.arange(301)
    inside = [low <= 10 <= high for low, high in (wilson(100 * r / 300, 300) for r in outcomes)]
    exact = float(scipy.stats.binom.pmf(outcomes, 300, 0.1)[inside].sum())
    assert exact == pytest.approx(0.95, abs=0.01)
    assert np.mean(covered) == pytest.approx(exact, abs=4 * math.sqrt(0.05 * 0.95 / 4000))


@pytest.mark.parametrize("function", [lambda: wilson(math.nan, 5), lambda: wilson(50.0, 0)])
def test_nothing_counted_has_no_interval(function) -> None:  # type: ignore[no-untyped-def]
    assert all(math.isnan(end) for end in function())


def test_the_bootstrap_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(1).exponential(size=80)
    ours = bootstrap(np.mean, [values], seed=3, rounds=4000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, random_state=5
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert ours == bootstrap(np.mean, [values], seed=3, rounds=4000)
    assert ours != bootstrap(np.mean, [values], seed=4, rounds=4000)


def test_the_bootstrap_resamples_arrays_independently_and_rows_together() -> None:
    rng = np.random.default_rng(2)
    one = (rng.random(400) < 0.8).astype(float)

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return float(a.mean() - b.mean())

    low, high = bootstrap(difference, [one, one], seed=0)
    # Two independent means of the same spread, although the arrays are equal.
    error = math.sqrt(2 * one.var() / len(one))
    assert (high - low) / 2 == pytest.approx(Z * error, rel=0.06)
    together = np.stack([one, one], axis=1)
    assert bootstrap(lambda rows: difference(*rows.T), [together], seed=0) == (0.0, 0.0)


def test_the_bootstrap_covers_the_truth_in_about_95_of_100_experiments() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for experiment in range(200):
        values = (rng.random(200) < 0.3).astype(float)
        low, high = bootstrap(np.mean, [values], seed=experiment, rounds=300)
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 199


def test_an_empty_sample_has_no_bootstrap_interval() -> None:
    ends = bootstrap(lambda a, b: 0.0, [np.ones(3), np.ones(0)], seed=0)
    assert all(map(math.isnan, ends))


def test_the_paired_bootstrap_knows_that_the_images_are_the_same() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.random(2000)
    ours, theirs = (difficulty < 0.75).astype(float), (difficulty < 0.7).astype(float)
    low, high, p = paired_bootstrap(np.mean, [ours], [theirs], seed=0, rounds=1000)
    assert p == 2 / 1001
    share = float((ours - theirs).mean())
    error = math.sqrt(share * (1 - share) / 2000)
    assert (low, high) == pytest.approx((share - Z * error, share + Z * error), abs=0.002)
    assert paired_bootstrap(np.mean, [ours], [ours], seed=0, rounds=50) == (0.0, 0.0, 1.0)
    empty = paired_bootstrap(np.mean, [ours[:0]], [theirs[:0]], seed=0)
    assert all(map(math.isnan, empty))
    with pytest.raises(ValueError, match="the same images"):
        paired_bootstrap(np.mean, [ours], [theirs[1:]], seed=0)


def test_a_difference_that_is_no_number_has_no_p_value() -> None:
    assert p_of_zero(np.array([-1.0, 2.0, 3.0])) == 1.0
    assert p_of_zero(np.ones(99)) == 0.02
    assert math.isnan(p_of_zero(np.array([1.0, math.nan])))
    assert math.isnan(p_of_zero(np.array([])))


def test_the_paired_bootstraps_p_value_is_the_t_tests_for_many_images() -> None:
    rng = np.random.default_rng(6)
    ours = rng.random(500)
    theirs = ours + rng.normal(-0.02, 0.2, 500)
    low, high, p = paired_bootstrap(np.mean, [ours], [theirs], seed=1)
    assert p == pytest.approx(scipy.stats.ttest_rel(ours, theirs).pvalue, abs=0.02)
    assert (p <= 0.05) == (low > 0 or high < 0)
    assert paired_bootstrap(np.mean, [theirs], [ours], seed=1)[2] == pytest.approx(p)


def test_the_t_interval_is_scipys() -> None:
    values = [83.4, 83.5, 83.3, 83.55, 83.5]
    mean, error = np.mean(values), scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, 4, loc=mean, scale=error)
    assert t_interval(values) == pytest.approx(expected, abs=1e-12)
    assert t_interval([5.0, 5.0]) == (5.0, 5.0)
    with pytest.raises(ValueError, match="2 values or more, not 1"):
        t_interval([83.4])


def test_welch_is_scipys() -> None:
    ours, theirs = [70.1, 70.9, 70.4], [69.0, 71.5, 68.2, 69.9, 70.0]
    theirs_ = scipy.stats.ttest_ind(ours, theirs, equal_var=False)
    bounds = theirs_.confidence_interval(0.95)
    expected = (bounds.low, bounds.high, theirs_.pvalue)
    assert welch(ours, theirs) == pytest.approx(expected, abs=1e-10)
    assert all(map(math.isnan, welch([1.0, 1.0], [2.0, 2.0])))
    with pytest.raises(ValueError, match="on each side"):
        welch([1.0], [2.0, 3.0])


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(1, 7), (7, 1), (0, 5), (5, 5), (6, 5), (121, 59), (2500, 2700)]
)
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    expected = scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9)
    ways = sum(math.comb(only_a + only_b, i) for i in range(min(only_a, only_b) + 1))
    by_counting = min(1.0, 2 * ways / 2 ** (only_a + only_b))
    assert mcnemar(only_a, only_b) == pytest.approx(by_counting, rel=1e-9)


def test_mcnemar_has_the_published_value() -> None:
    # Bentur et al. 2009, as worked by Fagerland, Lydersen and Laake (2014): exact p = 0.0703.
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(0, 0) == 1.0


@pytest.mark.parametrize(
    ("only_a", "only_b", "count", "low", "high"),
    [
        # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014): Tango's interval for the
        # data of Bentur et al. (2009) is -0.517 to -0.026.
        (1, 7, 21, -51.7, -2.6),
        (7, 1, 21, 2.6, 51.7),
        # All agree: the equation becomes n d = z² (1 - d), solved by z² / (n + z²).
        (0, 0, 100, -100 * Z * Z / (100 + Z * Z), 100 * Z * Z / (100 + Z * Z)),
        # A alone is right everywhere: it becomes n (1 - d) = z² (1 + d).
        (100, 0, 100, 100 - 200 * Z * Z / (100 + Z * Z), 100.0),
    ],
)
def test_the_paired_interval_has_the_published_values(
    only_a: int, only_b: int, count: int, low: float, high: float
) -> None:
    found = paired_difference_interval(only_a, only_b, count)
    assert found == pytest.approx((low, high), abs=0.05)


def test_the_paired_interval_agrees_with_the_asymptotic_test_at_no_difference() -> None:
    # The score test of no difference is McNemar's z = (b - c) / √(b + c).
    for only_a, only_b in ((30, 15), (29, 15), (28, 15), (27, 15), (14, 30), (15, 29), (15, 28)):
        low, high = paired_difference_interval(only_a, only_b, 500)
        rejected = abs(only_a - only_b) / math.sqrt(only_a + only_b) > Z
        assert (low > 0 or high < 0) == rejected


def test_for_many_images_the_paired_interval_is_walds() -> None:
    only_a, only_b, count = 3000, 2500, 50_000
    share = (only_a - only_b) / count
    error = math.sqrt(only_a + only_b - (only_a - only_b) ** 2 / count) / count
    expected = (100 * (share - Z * error), 100 * (share + Z * error))
    assert paired_difference_interval(only_a, only_b, count) == pytest.approx(expected, abs=2e-3)


def test_the_paired_interval_covers_the_truth_in_about_95_of_100_experiments() -> None:
    drawn = np.random.default_rng(5).multinomial(120, (0.10, 0.04, 0.86), 1500)
    intervals = [paired_difference_interval(int(b), int(c), 120) for b, c, _ in drawn]
    covered = np.mean([low <= 6 <= high for low, high in intervals])
    assert covered == pytest.approx(0.95, abs=0.02)
    assert all(map(math.isnan, paired_difference_interval(0, 0, 0)))


def test_holm_by_hand() -> None:
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, which must not fall below 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_holm_keeps_false_rejections_of_the_whole_family_below_5_percent() -> None:
    rng = np.random.default_rng(9)
    families = rng.random((4000, 6))
    rejected = np.mean([min(holm(family.tolist())) <= 0.05 for family in families])
    assert rejected == pytest.approx(1 - (1 - 0.05 / 6) ** 6, abs=0.012)


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, micl_bench.records.statistics; "
        "assert not {'torch', 'pandas', 'matplotlib', 'sklearn', 'scipy.stats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
