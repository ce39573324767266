"""The statistics of the answer: known values, invariants, and coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from memexp.analysis.comparison import compare
from memexp.analysis.statistics import (
    bootstrap_band,
    contrast,
    holm,
    iqm,
    iqm_interval,
    probability_of_improvement,
)
from memexp.analysis.survival import median_time

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


@pytest.mark.parametrize("n", [4, 5, 10])
def test_intervals_of_gaussian_seeds_cover_what_they_say(n):
    rng, rounds = np.random.default_rng(0), 4000
    error = 3 * (0.95 * 0.05 / rounds) ** 0.5
    iqms = np.array([iqm_interval(x) for x in rng.standard_normal((rounds, n))])
    assert (iqms[:, 0] <= 0).__and__(iqms[:, 1] >= 0).mean() == pytest.approx(0.953, abs=0.007 + error)
    pairs = [contrast((1, rng.normal(1, 1, n)), (-1, rng.normal(0, 3, n))).interval() for _ in range(rounds)]
    covered = np.mean([low <= 1 <= high for low, high in pairs])
    assert covered == pytest.approx(0.95, abs=0.01 + error)


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
