"""The statistics and the rules of the verdicts, held against values from outside: closed forms, scipy, numbers by hand.

Each test fails if a sign, a comparison or an argument of the line that it is about is turned.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.synthetic_truths import BUDGET, environment
from scipy import stats

from memexp.analysis import memory_verdict, seeds
from memexp.analysis.alpha_spending import SPENDING, level
from memexp.analysis.answer import EnvironmentAnswer, judge
from memexp.analysis.convergence import (
    ConvergenceCause,
    ConvergenceKind,
    best_windows,
    judge_convergence,
    projected_changes,
    solved_seeds,
)
from memexp.analysis.forecast import Forecast, forecast
from memexp.analysis.learning import LearningCause, LearningState, entropy_of, judge_learning
from memexp.analysis.pairs import find_pairs, oracle_ratio
from memexp.analysis.scale import Scale, find_scale, solves
from memexp.analysis.sentences import verdict_text
from memexp.analysis.sequential_plan import Action, PlanCause, decided, seeds_needed
from memexp.analysis.statistics import (
    compare,
    contrast,
    holm,
    iqm,
    iqm_difference,
    iqm_interval,
    probability_of_improvement,
)
from memexp.analysis.timing import first_reached, logrank_p, median_time, time_to_solve
from memexp.analysis.verdicts import LeftOutCause, MemoryCause, MemoryKind

GOOD = np.array([0.95, 0.97, 0.94, 0.96, 0.93])
HALF = np.array([0.50, 0.52, 0.49, 0.47, 0.51])
ALONE, AHEAD = MemoryCause.SOLVED_WITH_MEMORY_ALONE, MemoryCause.STILL_PULLS_AHEAD
WITHOUT = MemoryCause.SOLVED_WITHOUT_MEMORY
NEAR = np.array([0.905, 0.92, 0.89, 0.9, 0.915])
"""Within a tenth of the ceiling, but not surely."""
RANDOM = np.array([0.01, -0.01, 0.0, 0.005, -0.005])
X, Y, Z = np.array([1.0, 2.0, 4.0, 4.5]), np.array([0.0, 0.2, 0.1, 3.0, 1.0]), np.array([0.3, -0.4, 0.5])


def judged(arms, ceiling: float | None = 1.0, **info) -> EnvironmentAnswer:
    return judge(environment(arms, ceiling, RANDOM, **info))


def verdict_of(arms, **options):
    found = judged(arms, **options).memory.verdict
    return found.kind, found.cause


def climbing(finals, by):
    """Curves [seeds, 60] whose final window averages `finals`, and that rise by `by` over the last third."""
    return np.asarray(finals)[:, None] + by * (np.linspace(-2, 1, 60).clip(0) - 0.86)


def difference(a, b, axis):
    return a.mean(axis=axis) - b.mean(axis=axis)


# Statistics.


def test_a_weighted_contrast_has_squared_weights_and_satterthwaites_degrees_of_freedom():
    found = contrast((0.5, X), (0.25, Z), (-2.0, Y))
    parts = [0.5**2 * X.var(ddof=1) / 4, 0.25**2 * Z.var(ddof=1) / 3, 2.0**2 * Y.var(ddof=1) / 5]
    assert found.estimate == pytest.approx(0.5 * X.mean() + 0.25 * Z.mean() - 2 * Y.mean())
    assert found.se == pytest.approx(math.sqrt(sum(parts)))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2 + parts[2] ** 2 / 4))


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.7, 3.0])
def test_both_one_sided_p_values_of_a_contrast_are_welchs(value):
    found = contrast((1, X), (-1, Y))
    for p, side in ((found.p_above(value), "greater"), (found.p_below(value), "less")):
        assert p == pytest.approx(stats.ttest_ind(X - value, Y, equal_var=False, alternative=side).pvalue)
    assert (found / 2).interval(0.9) == pytest.approx([end / 2 for end in found.interval(0.9)])


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.7, 3.0])
def test_a_comparisons_p_value_is_the_larger_of_both_tests_on_either_side(value):
    found = compare(X, Y)
    for p, side in ((found.p_above(value), "greater"), (found.p_below(value), "less")):
        welch = stats.ttest_ind(X - value, Y, equal_var=False, alternative=side).pvalue
        permuted = stats.permutation_test(
            (X - value, Y),
            lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
            alternative=side,
            n_resamples=10**5,
        ).pvalue
        assert p == pytest.approx(max(welch, permuted))


def test_the_interval_of_an_effect_is_the_hull_of_both_tests_intervals():
    x, y = np.array([0.0, 1.0, 2.0, 10.0, 3.0]), np.array([0.0, 0.1, -0.1, 0.2, -5.0])
    grid = np.arange(-10, 20, 0.01)
    found = compare(x, y)
    inside = [d for d in grid if min(found.p_above(d), found.p_below(d)) > 0.025]
    assert found.interval() == pytest.approx((min(inside), max(inside)), abs=0.011)


def test_holm_is_stopped_by_the_first_that_fails_and_capped_at_one():
    assert holm([0.2, 0.001, 0.6, 0.03]) == pytest.approx([0.4, 0.004, 0.6, 0.09])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_interquartile_means_drop_a_quarter_on_either_side_and_their_intervals_are_students():
    values = np.array([9.0, -50.0, 1.0, 3.0, 2.0, 4.0, 90.0, 5.0])
    assert float(iqm(values)) == pytest.approx(np.mean([2.0, 3.0, 4.0, 5.0])) == stats.trim_mean(values, 0.25)
    assert float(iqm(values[:3])) == pytest.approx(values[:3].mean())
    half = 1.09 * stats.t.ppf(0.975, 7) * values.std(ddof=1) / math.sqrt(8)
    assert iqm_interval(values) == pytest.approx((3.5 - half, 3.5 + half))
    half = stats.t.ppf(0.95, 2) * values[:3].std(ddof=1) / math.sqrt(3)
    assert iqm_interval(values[:3], 0.9) == pytest.approx((-40 / 3 - half, -40 / 3 + half))
    estimate, (low, high) = iqm_difference(X, Y)
    welch = stats.ttest_ind(X, Y, equal_var=False).confidence_interval(0.95)
    assert estimate == pytest.approx(3.0 - (0.2 + 0.1 + 1.0) / 3)
    assert (high - low) == pytest.approx(1.09 * (welch.high - welch.low))
    assert (low + high) / 2 == pytest.approx(estimate)


def test_the_probability_of_improvement_counts_pairs_and_ties_by_half():
    assert probability_of_improvement(np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0])) == pytest.approx(3.5 / 6)
    u = stats.mannwhitneyu(X, Y).statistic
    assert probability_of_improvement(X, Y) == pytest.approx(u / 20)


def test_levels_of_alpha_spending_are_the_published_ones():
    """The first follows from the spending alone; the next two from the bivariate normal distribution."""
    assert level(4) == pytest.approx(SPENDING[4], abs=1e-4)
    assert level(4, 3) == pytest.approx(SPENDING[4] / 3, abs=1e-4)
    first, second = stats.norm.isf(SPENDING[4]), stats.norm.isf(level(5))
    both = stats.multivariate_normal(cov=[[1, math.sqrt(4 / 5)], [math.sqrt(4 / 5), 1]])
    assert 1 - both.cdf([first, second]) == pytest.approx(SPENDING[5], abs=2e-4)
    said = [0.0145, 0.0260, 0.0062, 0.0041, 0.0034, 0.0031, 0.0185]
    assert [level(n) for n in range(4, 11)] == pytest.approx(said, abs=6e-5)
    assert level(20) == pytest.approx(0.0056, abs=6e-5)


def test_power_is_that_of_welchs_test_and_the_equivalence_test():
    x, y = np.array([0.1, -0.1, 0.05, -0.05, 0.0]), np.array([0.02, -0.02, 0.0, 0.01, -0.01])
    assert decided(x + 2, y, 5, 1) == pytest.approx(1.0, abs=0.01)
    assert decided(x - 2, y, 5, 1) == pytest.approx(1.0, abs=0.01), "surely below the smallest effect"
    assert decided(3 * x + 0.1, y, 5, 1) < 0.3, "an effect of just the smallest that matters is neither"
    assert seeds_needed(10 * (x + 0.7), 10 * y, 10.0, 1) == 10
    assert seeds_needed(x + 0.25, y, 1.0, 1) == seeds_needed(5 * (x + 0.25), 5 * y, 5.0, 1)


def test_kaplan_meier_medians_and_the_log_rank_test_are_scipys():
    times, reached = np.array([3.0, 1.0, 4.0, 4.0, 2.0, 6.0]), np.array([True, True, False, True, True, False])
    survival = stats.ecdf(stats.CensoredData(uncensored=times[reached], right=times[~reached])).sf
    median, low, high = median_time(times, reached)
    assert median == survival.quantiles[survival.probabilities <= 0.5][0] == 3.0
    assert (low, high) == (1.0, None)
    group, other = (times, reached), (times + 2, np.ones(6, dtype=bool))
    said = stats.logrank(
        stats.CensoredData(uncensored=times[reached], right=times[~reached]),
        stats.CensoredData(uncensored=times + 2),
    )
    assert logrank_p(group, other) == pytest.approx(said.pvalue)


# Curves.


def test_a_slope_is_theil_sens_over_the_last_third_and_projected_over_as_much():
    rng = np.random.default_rng(0)
    curve = 0.3 + 0.6 * (np.arange(90) + 1) / 90 + 0.01 * rng.standard_normal(90)
    curve[70] = -50.0
    arm = environment({"S": [curve]}).arms["S"]
    last = stats.theilslopes(curve[60:], np.arange(30)).slope * 30
    assert projected_changes(arm)[0] == pytest.approx(last)


def test_the_best_window_and_the_final_window_are_tenths_of_the_budget():
    curve = np.zeros(100)
    curve[30:40], curve[50], curve[90:] = 0.8, 5.0, 0.4
    arm = environment({"S": [curve]}).arms["S"]
    assert arm.finals[0] == pytest.approx(0.4)
    assert best_windows(arm)[0] == pytest.approx(0.8)


def test_a_window_weighs_updates_by_their_episodes_and_leaves_out_its_open_end():
    seed = environment({"S": [np.arange(10.0)]}).arms["S"].seeds[0]
    seed = replace(seed, counts=np.array([1.0] * 8 + [3.0, 1.0]))
    assert seed.trailing_mean(np.array([BUDGET]), 0.2 * BUDGET)[0] == pytest.approx((3 * 8 + 9) / 4)
    assert seed.final(BUDGET) == 9.0
    assert seed.rate == pytest.approx(1000)


@pytest.mark.parametrize(
    ("rise", "kind"),
    [(0.0, "converged"), (0.04, "converged"), (-0.04, "converged"), (0.15, "improving"), (-0.15, "undecided")],
)
def test_convergence_is_a_projected_change_within_five_percent(rise, kind):
    world = environment({"S": climbing(GOOD - 0.1, rise)}, random=RANDOM)
    found = judge_convergence(world.arms["S"], find_scale(world), learned=True)
    assert (found.verdict, found.cause) == (ConvergenceKind(kind), ConvergenceCause.PROJECTED_CHANGE)
    assert found.change is not None
    assert found.change.estimate == pytest.approx(rise, abs=0.01)
    never = judge_convergence(world.arms["S"], find_scale(world), learned=False)
    assert (never.verdict, never.cause) == (ConvergenceKind.UNDECIDED, ConvergenceCause.NOT_LEARNED)


@pytest.mark.parametrize(("fallen", "kind"), [(2, "undecided"), (3, "collapsed")])
def test_half_of_the_seeds_must_fall_by_three_tenths_to_be_a_collapse(fallen, kind):
    table = np.full((5, 60), 0.9)
    table[:fallen, 40:] = 0.59
    table[fallen:, 40:] = 0.61
    world = environment({"S": table}, random=RANDOM)
    found = judge_convergence(world.arms["S"], find_scale(world), learned=False)
    assert (found.verdict, found.collapsed) == (ConvergenceKind(kind), fallen)


def test_solving_seeds_have_clopper_and_pearsons_interval_and_those_below_one_half_disagree():
    world = environment({"S": [0.75, 0.9, 0.74, 0.5, 0.8]}, random=0 * RANDOM)
    found = solved_seeds(world.arms["S"], find_scale(world))
    assert (found.seeds, found.far, found.disagree, found.unsolved) == (3, 0, False, ["S.s2", "S.s3"])
    assert found.interval == pytest.approx((stats.beta.ppf(0.025, 3, 3), stats.beta.ppf(0.975, 4, 2)))
    split = environment({"S": [0.75, 0.9, 0.74, 0.49, 0.8]}, random=0 * RANDOM)
    assert solved_seeds(split.arms["S"], find_scale(split)).disagree


def test_a_forecast_is_in_shares_of_the_scale_and_wider_than_the_spread_of_seeds():
    at = (np.arange(60) + 0.5) / 60
    curves = np.array([10 * height * (1 - np.exp(-2 * at)) for height in (0.8, 0.9, 1.0)])
    found = forecast(at, curves, BUDGET, 10.0)
    assert isinstance(found, Forecast)
    gains = np.array([0.8, 0.9, 1.0]) * (np.exp(-2) - np.exp(-8 / 3))
    assert found.gain == pytest.approx(gains.mean(), rel=0.02)
    half = stats.t.ppf(0.975, 2) * gains.std(ddof=1) / math.sqrt(3)
    assert found.ci[0] <= gains.mean() - 0.98 * half
    assert found.ci[1] >= gains.mean() + 0.98 * half
    assert found.until == round(BUDGET * 4 / 3)


def test_time_is_the_first_full_window_above_the_threshold_and_seeds_that_never_arrive_are_censored():
    step = np.r_[np.ones(2), np.zeros(38), np.ones(60)]
    never = np.full(100, 0.7)
    world = environment({"S": [step, step, never]}, random=0 * RANDOM)
    arm = world.arms["S"]
    assert first_reached(arm.seeds[0], 0.75, BUDGET) == 0.44 * BUDGET, "four of five updates of a window of five"
    found = time_to_solve(arm, find_scale(world))
    assert (found.censored, found.median.estimate) == (1, 0.44 * BUDGET)
    assert found.hours == pytest.approx(0.44 * BUDGET / 1000 / 3600)
    assert found.threshold == pytest.approx(0.75)


# Scale and learning.


def test_the_scale_runs_from_the_mean_random_return_to_the_ceiling_or_the_best_arm_that_beats_random():
    arms = {"S": GOOD, "X": HALF}
    known = find_scale(environment(arms, 2.0, [0.1, 0.3]))
    assert known is not None
    assert (known.bottom, known.span, known.solved, known.best_arm) == pytest.approx((0.2, 1.8, 1.55, None))
    assert known.normalize(1.1) == pytest.approx(0.5)
    best = find_scale(environment(arms, None, RANDOM))
    assert best is not None
    assert (best.best_arm, best.span) == ("S", pytest.approx(0.95))
    assert find_scale(environment({"S": RANDOM + 0.001}, None, RANDOM)) is None
    assert find_scale(environment(arms, 1.0, [])) is None
    assert solves(environment({"S": [0.75] * 4}).arms["S"], Scale(0.0, 1.0))
    assert not solves(environment({"S": [0.749] * 4}).arms["S"], Scale(0.0, 1.0))


def test_an_arm_that_is_called_ceiling_is_no_ceiling():
    found = judged({"ceiling": HALF, "ceiling~": GOOD}, ceiling=None)
    assert found.scale is not None
    assert found.memory.verdict.kind is MemoryKind.UNDECIDED


@pytest.mark.parametrize(
    ("finals", "state", "cause"),
    [
        (GOOD, LearningState.LEARNED, LearningCause.ABOVE_RANDOM),
        (RANDOM + 0.02, LearningState.NOT_LEARNED, LearningCause.NOTHING_LEARNED),
        (RANDOM + 0.05, LearningState.TOO_EARLY, LearningCause.SPREAD_TOO_WIDE),
        (-GOOD, LearningState.NOT_LEARNED, LearningCause.NOTHING_LEARNED),
        ([0.9, 0.8, 0.0, 0.0, 0.0], LearningState.LEARNED, LearningCause.SEEDS_SOLVE),
        ([0.9, 0.0, 0.0, 0.0, 0.0], LearningState.TOO_EARLY, LearningCause.SEEDS_FAR_ABOVE),
        ([0.9, 0.0, 0.0, 0.0, -0.9], LearningState.TOO_EARLY, LearningCause.SPREAD_TOO_WIDE),
        (climbing(RANDOM + 0.01, 0.1), LearningState.TOO_EARLY, LearningCause.STILL_RISING),
        (climbing(RANDOM + 0.01, -0.1), LearningState.NOT_LEARNED, LearningCause.NOTHING_LEARNED),
        (GOOD[:3], LearningState.TOO_EARLY, LearningCause.FEW_SEEDS),
    ],
)
def test_learning_is_a_significant_gain_of_five_percent(finals, state, cause):
    world = environment({"S": finals}, random=RANDOM)
    found = judge_learning(world.arms["S"], world, find_scale(world))
    assert (found.state, found.cause) == (state, cause)


def test_the_detectable_gain_is_both_quantiles_of_t_times_the_error():
    world = environment({"S": [0.3, -0.2, 0.25, -0.15, 0.1]}, random=[0.0])
    found = judge_learning(world.arms["S"], world, find_scale(world))
    error = np.std([0.3, -0.2, 0.25, -0.15, 0.1], ddof=1) / math.sqrt(5)
    assert found.detectable == pytest.approx((stats.t.isf(level(5, 2), 4) + stats.t.ppf(0.8, 4)) * error)


def test_entropy_is_of_the_first_and_the_last_tenth_and_its_share_of_the_least_random_seed():
    world = environment({"S": np.zeros((2, 10))}, random=RANDOM, num_actions=4)
    arm = world.arms["S"]
    arm.seeds = [
        replace(seed, entropy=np.linspace(1.3, end, 10)) for seed, end in zip(arm.seeds, (1.2, 0.7), strict=True)
    ]
    found = entropy_of(arm)
    assert found is not None
    assert found.chance == pytest.approx(math.log(4))
    assert found.share == pytest.approx(np.linspace(1.3, 0.7, 10)[-2:].mean() / math.log(4))
    assert found.start == pytest.approx(np.mean([np.linspace(1.3, end, 10)[:2].mean() for end in (1.2, 0.7)]))


@pytest.mark.parametrize(("share", "uniform"), [(0.995, True), (0.985, False)])
def test_one_seed_decides_only_if_its_policy_is_still_random(share, uniform):
    world = environment({"S": np.zeros((1, 10))}, random=[0.0], num_actions=4)
    arm = world.arms["S"]
    arm.seeds = [replace(arm.seeds[0], entropy=np.full(10, share * math.log(4)))]
    found = judge_learning(arm, world, find_scale(world))
    assert found.at_chance == uniform
    assert (found.state is LearningState.NOT_LEARNED) == uniform


# Consistency.


def test_a_run_is_judged_by_its_largest_gap_and_not_by_its_smallest_or_mean():
    world = environment({"S": GOOD, "S~": HALF}, random=RANDOM)
    arm = world.arms["S"]
    gaps = np.r_[np.full(9, 1e-6), 2e-3]
    arm.seeds[2] = replace(arm.seeds[2], gaps=gaps)
    assert arm.seeds[2].max_gap == 2e-3
    assert arm.worst is arm.seeds[2]
    assert arm.consistent is False
    found = judge(world).memory
    assert found.left_out["S"].cause is LeftOutCause.INCONSISTENT
    assert (found.left_out["S"].gap, found.left_out["S"].limit, found.left_out["S"].run) == (2e-3, 1e-3, "S.s2")
    assert found.verdict.cause is MemoryCause.NO_PAIR


def test_the_worst_run_is_the_worst_for_its_precision():
    arm = environment({"S": GOOD[:2]}).arms["S"]
    bf16, float32 = (
        replace(arm.seeds[0], gaps=np.array([0.04]), precision="bf16"),
        replace(arm.seeds[1], gaps=np.array([0.0009])),
    )
    arm.seeds = [bf16, float32]
    assert (arm.worst, arm.consistent) == (float32, True)
    assert seeds.MAX_GAP == {"float32": 1e-3, "bf16": 5e-2}


# Memory.


@pytest.mark.parametrize(
    ("gap", "kind", "cause"),
    [
        (0.30, MemoryKind.REQUIRED, ALONE),
        (0.13, MemoryKind.HELPS, MemoryCause.NO_ARM_SOLVES),
    ],
)
def test_required_takes_an_effect_that_surely_exceeds_a_tenth_and_not_only_zero(gap, kind, cause):
    """An effect of 0.13 +- 0.03 is surely above 0, and not surely above 0.1."""
    spread = np.array([-0.04, 0.02, 0.03, -0.03, 0.02])
    arms = {"S": 0.82 + spread, "S~": 0.82 - gap + 0.2 * spread}
    pair = judged(arms).memory.pairs["S"]
    assert pair.final.p_above(0.0) <= level(5) < pair.final.p_above(0.1) or gap > 0.2
    assert verdict_of(arms) == (kind, cause)


def test_a_positive_effect_is_one_in_best_windows_too_and_by_a_tenth_where_the_twin_collapsed():
    up, down = np.full((5, 60), 0.9), np.full((5, 60), 0.9)
    noise = 0.01 * np.arange(-2, 3)[:, None]
    down[:, 40:] = 0.4
    found = judged({"S": up + noise, "S~": down - 0.05 + noise[::-1]}).memory
    assert not found.pairs["S"].positive
    assert found.pairs["S"].final.p_above(0.1) <= found.pairs["S"].level
    assert found.verdict.kind is MemoryKind.UNDECIDED
    lower = judged({"S": up + noise, "S~": down - 0.3 + noise[::-1]}).memory
    assert lower.pairs["S"].positive


def test_levels_of_pairs_are_holms_and_end_with_the_first_that_fails():
    same = HALF[::-1] + 0.001
    found = judged({"A": GOOD, "A~": HALF, "B": HALF, "B~": same, "C": GOOD - 0.2, "C~": HALF}).memory.pairs
    assert {name: pair.level for name, pair in found.items()} == pytest.approx(
        {"A": level(5, 3), "B": level(5, 1), "C": level(5, 2)}
    )
    none = judged({"A": HALF, "A~": same, "B": HALF - 0.01, "B~": same}).memory.pairs
    assert sorted(pair.level for pair in none.values()) == [0.0, level(5, 2)]


@pytest.mark.parametrize(
    ("arms", "options", "kind", "cause"),
    [
        ({"S~": GOOD}, {}, "undecided", MemoryCause.NO_ARM_REMEMBERS),
        ({"S": GOOD}, {}, "undecided", MemoryCause.NO_PAIR),
        ({"S": GOOD[:3], "S~": HALF}, {}, "undecided", MemoryCause.NO_PAIR),
        ({"S": RANDOM, "S~": -RANDOM}, {}, "undecided", MemoryCause.NO_PAIR_LEARNED),
        ({"S": RANDOM, "S~": -RANDOM}, {"ceiling": None}, "undecided", MemoryCause.NO_ARM_ABOVE_RANDOM),
        ({"S": GOOD, "S~": [*HALF[:4], 0.751]}, {}, "helps", MemoryCause.MEMORYLESS_SEED_SOLVES),
        ({"S": GOOD, "S~": [*HALF[:4], 0.745]}, {}, "required", ALONE),
        ({"S": GOOD - 0.21, "S~": HALF}, {}, "helps", MemoryCause.NO_ARM_SOLVES),
        ({"S": GOOD, "S~": [0.74, 0.4, 0.74, 0.74, 0.7]}, {}, "helps", MemoryCause.SPREAD_CANNOT_EXCLUDE),
        ({"S": climbing(GOOD, 0), "S~": climbing(HALF + 0.1, 0.25)}, {}, "helps", MemoryCause.MEMORYLESS_STILL_RISES),
        ({"S": climbing(GOOD, 0), "S~": climbing(HALF + 0.1, 0.1)}, {}, "required", ALONE),
        ({"S": GOOD, "S~": GOOD[::-1] - 0.12}, {}, "helps", MemoryCause.MEMORYLESS_SEED_SOLVES),
        ({"S": GOOD, "S~": GOOD[::-1] - 0.07}, {}, "not_needed", WITHOUT),  # significant, and too small to matter
        ({"S": 4 * GOOD - 3, "S~": 4 * GOOD[::-1] - 3.05}, {}, "undecided", MemoryCause.EFFECT_UNCERTAIN),
        ({"S": HALF, "S~": HALF[::-1]}, {}, "undecided", MemoryCause.NONE_SOLVES_WITHOUT),
        ({"S": GOOD - 0.1, "S~": GOOD[::-1] - 0.1}, {"memory_span": 9}, "undecided", MemoryCause.REACHED_BY_NOBODY),
        ({"S": GOOD - 0.1, "S~": GOOD[::-1] - 0.1}, {}, "undecided", MemoryCause.REACHED_BY_NOBODY),
        ({"S": GOOD - 0.1, "S~": GOOD[::-1] - 0.1}, {"memory_span": 0}, "not_needed", WITHOUT),
        ({"S": NEAR, "S~": NEAR[::-1]}, {}, "undecided", MemoryCause.REST_UNCERTAIN),
        ({"S": NEAR, "S~": NEAR[::-1]}, {"memory_span": 0}, "not_needed", WITHOUT),
        ({"S": GOOD, "S~": GOOD[::-1] + 0.01}, {"memory_span": 9}, "not_needed", WITHOUT),
        ({"S": climbing(GOOD - 0.12, 0.2), "S~": climbing(GOOD[::-1] - 0.12, 0)}, {}, "undecided", AHEAD),
        ({"S": climbing(GOOD, 0), "S~": climbing(GOOD[::-1], 0.2)}, {}, "not_needed", WITHOUT),
        ({"S": GOOD - 0.2, "S~": GOOD}, {}, "not_needed", WITHOUT),
        ({"S": GOOD - 0.2, "S~": GOOD}, {"ceiling": None}, "undecided", MemoryCause.EFFECT_UNCERTAIN),
        ({"S": GOOD, "S~": GOOD[::-1]}, {"ceiling": None}, "undecided", MemoryCause.SAME_BUT_NO_CEILING),
        ({"S": GOOD, "S~": HALF}, {"ceiling": None}, "helps", MemoryCause.NO_CEILING),
    ],
)  # fmt: skip
def test_each_cause_of_a_memory_verdict_is_found(arms, options, kind, cause):
    assert verdict_of(arms, **options) == (MemoryKind(kind), cause)


def test_seeds_that_learned_the_part_that_needs_memory_do_not_hide_it_in_the_mean():
    """Half of the seeds of one arm of four reach the last tenth; all arms together seem to be near the top."""
    noise = 0.02 * np.sin(np.arange(10))
    arms = {name: 0.9 + np.roll(noise, i) for i, name in enumerate(["A", "A~", "B", "B~", "C", "C~", "D", "D~"])}
    arms["D"] = arms["D"] + 0.1 * (np.arange(10) % 2)
    assert np.mean([*arms.values()]) > 0.905
    assert verdict_of(arms) == (MemoryKind.UNDECIDED, MemoryCause.REST_UNCERTAIN)


def test_four_seeds_exclude_that_an_arm_solves_in_55_percent_of_its_runs_and_fewer_do_not(monkeypatch):
    arms = {"S": GOOD[:4], "S~": HALF[:4]}
    assert 0.45**4 < 0.05 < 0.45**3
    assert verdict_of(arms)[0] is MemoryKind.REQUIRED
    monkeypatch.setattr(memory_verdict, "SOLVING_RATE", 0.5)
    found = judged(arms)
    assert found.memory.verdict.cause is MemoryCause.FEW_SEEDS_CANNOT_EXCLUDE
    assert "With 4 seeds we cannot rule out that S~ would solve the task in 55 % of the runs" in verdict_text(
        found.memory.verdict
    ).replace("with 4", "With 4")
    assert found.plans["S"].cause is PlanCause.MAY_BE_REQUIRED
    assert (found.plans["S"].action, found.plans["S"].seeds) == (Action.RUN, [4])


def test_more_seeds_are_run_only_where_they_may_turn_helps_into_required():
    spread = judged({"S": GOOD, "S~": [0.74, 0.4, 0.74, 0.74, 0.7]})
    assert (spread.memory.verdict.cause, spread.plans["S"].target) == (MemoryCause.SPREAD_CANNOT_EXCLUDE, 10)
    rising = judged({"S": climbing(GOOD, 0), "S~": climbing(HALF + 0.1, 0.25)})
    assert (rising.memory.verdict.cause, rising.plans["S"].cause) == (
        MemoryCause.MEMORYLESS_STILL_RISES,
        PlanCause.STILL_RISES,
    )


def test_a_named_arm_cannot_change_what_is_run():
    """The name 'cannot exclude' is no cause."""
    name = "cannot exclude"
    found = judged({name: climbing(GOOD, 0), f"{name}~": climbing(HALF + 0.1, 0.25)})
    assert found.plans[name].action is Action.LONGER


def test_the_effect_of_several_pairs_is_their_mean_and_a_pairs_effect_a_share_of_the_scale():
    found = judged({"A": GOOD, "A~": HALF, "B": HALF, "B~": HALF - 0.25}, ceiling=2.0)
    assert found.memory.effect == pytest.approx((0.452 + 0.25) / 2 / 2)
    effect = found.memory.pairs["A"].effect
    assert effect is not None
    assert effect.estimate == pytest.approx(0.226)
    assert effect.interval == pytest.approx([end / 2 for end in compare(GOOD, HALF).interval()])
    parts = contrast((0.5, GOOD), (-0.5, HALF), (0.5, HALF), (-0.5, HALF - 0.25)) / 2
    assert found.memory.interval == pytest.approx(parts.interval())


def test_fiellers_interval_is_where_the_t_test_of_gain_minus_ratio_times_room_turns():
    world = environment({"S": GOOD, "S~": HALF}, random=RANDOM)
    scale = find_scale(world)
    learned = {name: judge_learning(arm, world, scale) for name, arm in world.arms.items()}
    found = oracle_ratio(list(find_pairs(world, scale, learned)[0].values()), 1.2)
    assert found is not None
    assert found.estimate == pytest.approx(0.452 / (1.2 - HALF.mean()))
    df = contrast((1.0, GOOD), (found.estimate - 1, HALF)).df
    for ratio in found.ci:
        error = math.sqrt(GOOD.var(ddof=1) / 5 + (ratio - 1) ** 2 * HALF.var(ddof=1) / 5)
        gap = GOOD.mean() - HALF.mean() - ratio * (1.2 - HALF.mean())
        assert abs(gap) / error == pytest.approx(stats.t.ppf(0.975, df))
