"""Levels of repeated looks, and the plan of what to run next."""

import numpy as np
import pytest
from helpers.synthetic_runs import BUDGET, rising, write_matrix, write_run
from scipy import stats

from memexp.analysis.alpha_spending import ALPHA, MAX_SEEDS, SPENDING, level
from memexp.analysis.answer import answer
from memexp.analysis.answer_json import answer_json
from memexp.analysis.sequential_plan import decided, seeds_needed
from memexp.runs import find_runs

GOOD = [0.95, 0.97, 0.94, 0.96, 0.93]
HALF = [0.50, 0.52, 0.49, 0.47, 0.51]


def judged(folder):
    return answer_json(answer(find_runs(folder), "test"))["environments"]["world"]


@pytest.mark.parametrize("claims", [1, 3])
def test_looking_after_every_seed_spends_the_whole_error_and_no_more(claims):
    sums = np.cumsum(np.random.default_rng(0).standard_normal((40_000, MAX_SEEDS)), axis=1)
    n = np.arange(1, MAX_SEEDS + 1)
    bounds = np.array([stats.norm.isf(level(int(k), claims)) for k in n])
    crossed = sums / n**0.5 > bounds
    for seeds, spent in SPENDING.items():
        assert crossed[:, :seeds].any(axis=1).mean() == pytest.approx(spent / claims, abs=0.0035)
    assert level(3) == 0.0
    assert level(1000) <= ALPHA


def test_four_seeds_without_overlap_suffice_for_one_pair_and_five_for_seven():
    assert level(4) >= 1 / 70 > level(4, 2)
    assert level(5, 6) >= 1 / 252 > level(5, 8)


def test_the_seeds_that_decide_are_fewer_for_a_larger_effect_and_none_where_twenty_do_not_suffice():
    x = np.array([0.75, 0.85, 0.9, 0.95, 1.05])
    assert seeds_needed(x[:4], x[:4] - 0.6, 1.0, 1) == 5
    assert seeds_needed(x, x - 0.6, 1.0, 1) == 10
    assert seeds_needed(x, x - 0.13, 1.0, 1) == 20
    assert seeds_needed(3 * x, 3 * x - 0.12, 1.0, 1) is None
    assert seeds_needed(3 * x, 3 * x - 0.39, 3.0, 1) == 20
    assert decided(x, x - 0.3, 20, 1) > decided(x, x - 0.3, 5, 1)


def test_the_power_that_is_promised_is_the_power_of_the_verdicts_tests():
    rng = np.random.default_rng(1)
    promised = decided(rng.normal(0.2, 0.1, 2000), rng.normal(0.0, 0.1, 2000), 5, 1)
    pairs = rng.normal(0.2, 0.1, (5, 2000)), rng.normal(0.0, 0.1, (5, 2000))
    shown = stats.ttest_ind(*pairs, equal_var=False, alternative="greater").pvalue <= level(5)
    assert promised == pytest.approx(shown.mean(), abs=0.05)


def test_a_certain_answer_stops_every_arm_and_costs_nothing_more(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    found = judged(tmp_path)
    assert {plan["action"] for plan in found["sequential"]["per_arm"].values()} == {"stop"}
    assert found["until_answered"] | {"per_arm": None} == {
        "seeds": None, "budget": BUDGET, "power": 0.8, "runs": 0.0, "agent_steps": 0.0, "hours": 0.0, "dollars": 0.0,
        "per_arm": None, "reason": "answered: required",
    }  # fmt: skip


def test_a_pair_that_is_certain_stops_while_another_goes_on(tmp_path):
    write_matrix(
        tmp_path, {"S": GOOD, "S~": GOOD[::-1], "X": [0.9, 0.6, 0.9, 0.5, 0.8], "X~": [0.5, 0.3, 0.6, 0.4, 0.2]}
    )
    plans = judged(tmp_path)["sequential"]["per_arm"]
    assert plans["S"]["action"] == plans["S~"]["action"] == "stop"
    assert plans["S"]["because"] == "decided at these steps: not needed"


def test_arms_that_stop_halfway_alike_need_steps_or_knobs_and_no_more_seeds(tmp_path):
    write_matrix(tmp_path, {"S": HALF, "S~": HALF[::-1]})
    plan = judged(tmp_path)["sequential"]["per_arm"]["S"]
    assert plan["action"] == "stop"
    assert "the rest may need memory" in plan["because"]


def test_failed_seeds_are_run_again_before_new_ones_and_running_ones_are_waited_for(tmp_path):
    write_matrix(tmp_path, {"S": GOOD[:2], "S~": HALF[:3]})
    write_run(tmp_path, "S", 2, rising(0.9), reached=0.3, status="failed")
    write_run(tmp_path, "S", 3, rising(0.9), reached=0.5, status=None)
    for seed in (3, 4):
        write_run(tmp_path, "S~", seed, rising(0.5), reached=0.5, status=None)
    found = judged(tmp_path)
    assert found["sequential"]["per_arm"]["S"]["seeds"] == [2, 4]
    assert found["sequential"]["per_arm"]["S~"]["action"] == "wait"
    cost = found["until_answered"]
    assert cost["runs"] == 2
    assert cost["agent_steps"] == 2 * BUDGET + 3 * BUDGET / 2
    assert cost["hours"] == pytest.approx(cost["agent_steps"] / 1000 / 3600, rel=1e-3)
    assert cost["dollars"] is None


def test_an_inconsistent_arm_is_to_be_fixed_and_arms_that_learned_nothing_get_no_more_seeds(tmp_path):
    write_matrix(tmp_path, {"S": [0.01, -0.01, 0.0, 0.005, -0.005], "S~": [0.0, 0.01, -0.01, 0.005, -0.005]})
    write_matrix(tmp_path, {"X": GOOD, "X~": HALF}, gap=0.5)
    plans = judged(tmp_path)["sequential"]["per_arm"]
    assert plans["X"]["action"] == "fix"
    assert plans["S"]["action"] == "stop"
    assert "seeds do not" in plans["S"]["because"]


def test_where_nobody_solves_and_one_still_improves_the_steps_are_missing_too(tmp_path):
    up = np.linspace(0, 0.6, 90)
    noise = np.random.default_rng(0)
    for seed in range(5):
        write_run(tmp_path, "S", seed, up + 0.01 * noise.standard_normal(90))
        write_run(tmp_path, "S~", seed, up + 0.01 * noise.standard_normal(90))
    cost = judged(tmp_path)["until_answered"]
    assert cost["budget"] == 2 * BUDGET
    assert cost["agent_steps"] >= 10 * BUDGET
