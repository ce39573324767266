"""The statistics of the answer: known values, invariants, and coverage by simulation."""

import numpy as np
import pytest
from helpers.synthetic_truths import bimodal, gaussian, heavy_tailed, skewed
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from memexp.analysis.statistics import (
    bootstrap_band,
    compare,
    contrast,
    holm,
    iqm,
    iqm_difference,
    iqm_interval,
    probability_of_improvement,
)
from memexp.analysis.timing import median_time

returns = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=6).map(np.array)


def test_a_contrast_of_two_groups_is_welchs_t_test():
    x, y = np.array([1.0, 2.0, 4.0, 4.5]), np.array([0.0, 0.2, 0.1, 3.0, 1.0])
    welch = stats.ttest_ind(x, y, equal_var=False, alternative="greater")
    ours = contrast((1, x), (-1, y))
    assert ours.p_above() == pytest.approx(welch.pvalue)
    both = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert ours.interval() == pytest.approx((both.low, both.high))


def test_a_contrast_with_an_exact_number_is_the_one_sample_t_test():
    x = np.array([1.0, 2.0, 4.0, 4.5])
    assert contrast((1, x), (-1, 0.7)).p_above() == pytest.approx(
        stats.ttest_1samp(x, 0.7, alternative="greater").pvalue
    )


def test_the_same_runs_under_two_names_are_no_more_seeds_than_once():
    """Twins of X with several mem_len are one network: the same runs, number by number."""
    x, y, z = np.array([1.0, 2.0, 4.0, 4.5]), np.array([1.5, 2.0, 2.5, 4.0]), np.array([0.0, 0.2, 0.1, 1.0])
    twice = contrast((0.5, x), (-0.5, z), (0.5, y), (-0.5, z.copy()))
    once = contrast((0.5, x), (0.5, y), (-1, z))
    assert (twice.estimate, twice.se, twice.df) == pytest.approx((once.estimate, once.se, once.df))
    assert contrast((1, x), (-1, x.copy())).se > 0  # two arms that agree by chance still have a spread


def test_seeds_without_spread_give_a_certain_contrast_and_a_single_seed_an_unknown_one():
    certain = contrast((1, np.ones(5)), (-1, np.zeros(5)))
    assert certain.interval() == (1.0, 1.0)
    assert certain.p_above() == 0.0
    assert contrast((1, np.zeros(5)), (-1, np.zeros(5))).p_above() == 1.0
    unknown = contrast((1, np.array([1.0])), (-1, np.zeros(5)))
    assert np.isnan(unknown.interval()[0])
    assert unknown.p_above() == 1.0


@pytest.mark.parametrize("value", [0.3, -1e6, 1e-9])
def test_differences_of_rounding_are_no_effect(value):
    above = value + abs(value) * np.finfo(float).eps * np.array([9, 11, 10, 8, 12])
    assert compare(above, np.full(5, value)).permutation_p() == 1.0
    for level in (value, np.full(5, value)):
        assert contrast((1, above), (-1, level)).p_above() == 1.0
        assert contrast((1, above), (-1, level)).interval() == (0.0, 0.0)


def test_a_single_seed_cannot_be_tested():
    assert compare(np.array([1.0]), np.array([0.0])).p_above() == 1.0
    assert compare(np.array([1.0]), np.zeros(5)).p_above() == 1.0


def test_the_permutation_test_is_exact_and_three_seeds_cannot_reach_five_percent():
    for n, least in ((3, 1 / 20), (4, 1 / 70), (5, 1 / 252)):
        assert compare(np.arange(n) + 100.0, np.arange(n) + 0.0).permutation_p() == pytest.approx(least)
    assert compare(np.ones(5), np.ones(5)).permutation_p() == 1.0


def test_holm_adjusts_as_in_the_textbook():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(returns, returns)
def test_the_probability_of_improvement_of_both_directions_sums_to_one(x, y):
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1.0)
    assert probability_of_improvement(x, x) == pytest.approx(0.5)


@given(returns, st.floats(0.1, 10), st.floats(-10, 10))
def test_the_interval_moves_and_scales_with_the_returns(x, scale, shift):
    low, high = iqm_interval(x)
    assert low <= float(iqm(x)) <= high
    assert iqm_interval(scale * x + shift) == pytest.approx((scale * low + shift, scale * high + shift), abs=1e-6)


def test_three_seeds_have_welchs_interval_alone_and_four_both():
    rng = np.random.default_rng(0)
    three = compare(rng.normal(1, 1, 3), rng.normal(0, 1, 3))
    assert three.interval() == three.welch.interval()
    four = compare(rng.normal(1, 1, 4), rng.normal(0, 1, 4))
    assert four.interval()[0] <= four.welch.interval()[0]
    assert four.interval()[1] >= four.welch.interval()[1]
    assert np.isnan(compare(np.array([1.0]), np.zeros(5)).interval()[0])


@given(returns, returns, st.floats(0.5, 0.99))
def test_the_interval_is_what_both_tests_do_not_exclude(x, y, level):
    found = compare(x, y)
    low, high = found.interval(level)
    assert low <= found.estimate <= high
    tail, step = 0.5 - level / 2, 1e-6 * max(1.0, high - low)
    if len(found.shifts) + 1 >= 1 / tail:
        assert found.p_above(low - step) <= tail + 1e-9
        assert found.p_below(high + step) <= tail + 1e-9
        if high - low > 1e-6:
            assert found.p_above(low + step) > tail - 1e-9
            assert found.p_below(high - step) > tail - 1e-9


@given(returns, returns, st.floats(0.1, 10), st.floats(-10, 10))
def test_a_comparison_moves_and_scales_with_the_returns(x, y, scale, shift):
    found, moved = compare(x, y), compare(scale * x + shift, scale * y + shift)
    assert moved.interval() == pytest.approx([scale * end for end in found.interval()], abs=1e-6)
    assert (moved / scale).estimate == pytest.approx(found.estimate, abs=1e-6)
    assert compare(y, x).interval() == pytest.approx([-found.interval()[1], -found.interval()[0]], abs=1e-6)


def test_more_than_eight_seeds_are_permuted_at_random_and_agree_with_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.5, 1, 12), rng.normal(0, 1, 9)
    exact = stats.permutation_test(
        (x, y), lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis), alternative="greater", n_resamples=20_000,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    assert compare(x, y).permutation_p() == pytest.approx(exact.pvalue, abs=0.02)
    assert compare(x, y).permutation_p() == compare(x, y).permutation_p()


SEEDS = {
    "Gaussian": (gaussian(0, 1), gaussian(0, 1), 0.0),
    "spreads 1 : 5": (gaussian(1, 1), gaussian(0, 5), 1.0),
    "heavy tails": (heavy_tailed(0, 1), heavy_tailed(0, 1), 0.0),
    "skewed": (skewed(0, 1), skewed(0, 1), 0.0),
    "half of the seeds solve": (bimodal(0.5), bimodal(0.5), 0.0),
}


@pytest.mark.parametrize("n", [3, 4, 5, 10])
@pytest.mark.parametrize("seeds", SEEDS)
def test_the_interval_of_an_effect_covers_what_it_says(seeds, n):
    first, second, truth = SEEDS[seeds]
    rng, rounds = np.random.default_rng(n), 500 if n == 10 else 1500
    intervals = np.array([compare(first(rng, n), second(rng, n)).interval() for _ in range(rounds)])
    covered = ((intervals[:, 0] <= truth) & (intervals[:, 1] >= truth)).mean()
    error = 3 * (0.95 * 0.05 / rounds) ** 0.5
    assert 0.935 - error <= covered <= 0.985 + error


@pytest.mark.parametrize("n", [3, 4, 5, 10])
def test_intervals_of_interquartile_means_cover_what_they_say(n):
    rng, rounds = np.random.default_rng(0), 3000
    error = 3 * (0.95 * 0.05 / rounds) ** 0.5
    iqms = np.array([iqm_interval(x) for x in rng.standard_normal((rounds, n))])
    assert ((iqms[:, 0] <= 0) & (iqms[:, 1] >= 0)).mean() == pytest.approx(0.953, abs=0.007 + error)
    gaps = np.array([iqm_difference(x, y)[1] for x, y in rng.standard_normal((rounds, 2, n))])
    assert ((gaps[:, 0] <= 0) & (gaps[:, 1] >= 0)).mean() == pytest.approx(0.958, abs=0.012 + error)


@pytest.mark.parametrize(("n", "censored"), [(5, 0.67), (10, 0.67), (10, 0.95)])
def test_the_interval_of_a_median_time_covers_with_runs_that_never_arrive(n, censored):
    rng, rounds, hits = np.random.default_rng(0), 600, 0
    limit = float(np.exp(0.5 * stats.norm.ppf(censored)))
    for _ in range(rounds):
        times = rng.lognormal(0, 0.5, n)
        _, low, high = median_time(np.minimum(times, limit), times <= limit)
        hits += (low is None or low <= 1) and (high is None or high >= 1)
    assert 0.92 <= hits / rounds <= 0.995


def test_the_percentile_band_of_five_seeds_covers_less_than_it_says_which_is_why_no_verdict_uses_it():
    curves = np.random.default_rng(1).standard_normal((5, 2000))
    low, high = bootstrap_band(curves)
    assert 0.85 < ((low <= 0) & (high >= 0)).mean() < 0.94


def test_the_median_time_counts_runs_that_never_arrive():
    times = np.array([10.0, 20.0, 30.0, 100.0, 100.0])
    arrived = np.array([True, True, True, False, False])
    median, low, high = median_time(times, arrived)
    assert median == 30.0
    assert low == 10.0
    assert high is None
    assert median_time(times, np.zeros(5, dtype=bool)) == (None, None, None)
    assert median_time(times, np.array([True, True, False, False, False]))[0] is None
    assert median_time(np.array([5.0]), np.array([True])) == (5.0, None, None)
    assert median_time(np.arange(1.0, 11), np.ones(10, dtype=bool))[0] == 5.0
