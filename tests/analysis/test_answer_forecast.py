"""Extrapolated learning curves: which curve, how far it can be trusted, and when nothing is said."""

import numpy as np
import pytest
from helpers.synthetic_truths import BUDGET, curves, environment

from memexp.analysis.convergence import binned_curves
from memexp.analysis.forecast import Forecast, NoForecast, NoForecastCause, forecast
from memexp.analysis.timing import logrank_p, survival_curve

SHARE = (np.arange(60) + 1) / 60
TRUTHS = {
    "saturating": lambda t: 0.9 * (1 - np.exp(-2 * t)),
    "power": lambda t: 1.2 - 0.5 * (t + 0.05) ** -0.3,
    "straight": lambda t: 0.6 * t,
    "jump": lambda t: 0.9 / (1 + np.exp(-(t - 0.55) / 0.08)),
}


def ahead(trend, rng, seeds=5, within=0.03):
    arm = environment({"A": curves(rng, trend, seeds, 0.05, within)}).arms["A"]
    return forecast(*binned_curves(arm), BUDGET, 1.0)


@pytest.mark.parametrize("name", TRUTHS)
def test_the_interval_of_the_extrapolated_gain_holds_the_true_one(name):
    rng, truth = np.random.default_rng(0), TRUTHS[name]
    gain = float(truth(4 / 3) - truth(1.0))
    found = [ahead(truth(SHARE), rng) for _ in range(40)]
    said = [one for one in found if isinstance(one, Forecast)]
    assert len(said) >= 36
    assert np.mean([one.ci[0] <= gain <= one.ci[1] for one in said]) >= 0.85
    assert np.mean([one.gain for one in said]) == pytest.approx(gain, abs=0.06)
    assert all(one.until == round(4 / 3 * BUDGET) and one.error < one.persistence for one in said)


def test_a_flat_curve_and_one_that_no_family_predicts_are_not_extrapolated():
    rng = np.random.default_rng(0)
    flat = [ahead(np.full(60, 0.9), rng) for _ in range(40)]
    assert sum(isinstance(one, Forecast) for one in flat) <= 6
    causes = {one.cause for one in flat if isinstance(one, NoForecast)}
    assert causes == {NoForecastCause.NO_FAMILY_PREDICTS}
    turned = np.r_[np.linspace(0, 0.8, 40), np.linspace(0.8, 0.6, 20)]
    assert ahead(turned, rng, within=0.005).cause is NoForecastCause.NO_FAMILY_PREDICTS


def test_one_seed_and_too_few_episodes_are_not_extrapolated():
    one_seed = ahead(TRUTHS["straight"](SHARE), np.random.default_rng(0), seeds=1)
    assert one_seed == NoForecast(NoForecastCause.ONE_SEED)
    sparse = np.full((5, 60), np.nan)
    sparse[:, ::20] = 0.5
    assert forecast((np.arange(60) + 0.5) / 60, sparse, BUDGET, 1.0) == NoForecast(NoForecastCause.FEW_EPISODES)


def test_an_exact_member_of_a_family_is_continued_exactly():
    shape = 0.2 + 0.5 * (1 - np.exp(-3.0 * (np.arange(60) + 0.5) / 60))
    found = forecast((np.arange(60) + 0.5) / 60, np.array([shape, shape + 0.1]), BUDGET, 1.0)
    assert isinstance(found, Forecast)
    assert found.family == "exponential"
    assert found.gain == pytest.approx(0.5 * (np.exp(-3) - np.exp(-4)), abs=4e-3)


def test_survival_curves_step_down_to_the_share_that_never_arrives():
    times, reached = np.array([10.0, 20.0, 50.0, 50.0]), np.array([True, True, False, False])
    assert survival_curve(times, reached) == ([0.0, 10.0, 20.0, 50.0], [1.0, 0.75, 0.5, 0.5])
    assert survival_curve(times[:0], reached[:0]) == ([], [])


def test_the_log_rank_test_sees_who_arrives_and_is_silent_where_nobody_does():
    early = (np.arange(1.0, 6), np.ones(5, dtype=bool))
    never = (np.full(5, 10.0), np.zeros(5, dtype=bool))
    assert logrank_p(early, never) < 0.01
    assert logrank_p(early, early) == pytest.approx(1.0)
    assert logrank_p(never, never) is None
