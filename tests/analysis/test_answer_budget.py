"""What a fixed budget hides: arms that still rise, runs under way beside short ones, a first sample that is none."""

import numpy as np
import pytest
from helpers.synthetic_runs import BUDGET, rising, write_matrix, write_run
from helpers.synthetic_truths import environment

from memexp.analysis.answer import answer, judge
from memexp.analysis.answer_json import answer_json, environment_json
from memexp.runs import find_runs

GOOD = np.array([0.95, 0.97, 0.94, 0.96, 0.93])


def judged(folder):
    return answer_json(answer(find_runs(folder), "test"))["environments"]["world"]


def judged_curves(arms, **info):
    return environment_json(judge(environment(arms, random=np.zeros(5), **info)))


def flat(finals):
    return np.repeat(np.asarray(finals)[:, None], 60, axis=1)


def climbing(finals, by):
    """Curves that end at `finals` on average over the last tenth, having risen by `by` over the last third."""
    at = np.linspace(-2, 1, 60).clip(0)
    return np.asarray(finals)[:, None] + by * (at - 0.86)


def test_a_twin_that_is_about_to_solve_it_makes_memory_helpful_and_not_required():
    half = GOOD - 0.35
    memory = judged_curves({"S": flat(GOOD), "S~": flat(half)})["memory"]
    assert memory["verdict"] == "required"
    found = judged_curves({"S": flat(GOOD), "S~": climbing(half, 0.3)})
    assert found["memory"]["verdict"] == found["memory"]["per_arm"]["S"]["verdict"] == "helps"
    assert (
        "the return of S~ still rises: at this pace, another third of the steps would bring it to 75 % of the way"
        in found["memory"]["reason"]
    )
    assert any(sentence.startswith("train longer") for sentence in found["next"])


def test_an_arm_that_begins_to_pull_ahead_of_its_twin_does_not_show_that_memory_is_not_needed():
    low = GOOD - 0.12
    memory = judged_curves({"S": flat(low), "S~": flat(low[::-1])}, memory_span=0)["memory"]
    assert memory["verdict"] == "not_needed"
    found = judged_curves({"S": climbing(low, 0.2), "S~": flat(low[::-1])})
    assert found["memory"]["verdict"] == "undecided"
    assert "S still gains on the twin" in found["memory"]["reason"]
    assert any(sentence.startswith("train longer") for sentence in found["next"])


def test_both_sides_rising_alike_are_no_lead():
    low = GOOD - 0.12
    arms = {"S": climbing(low, 0.2), "S~": climbing(low[::-1], 0.2)}
    assert judged_curves(arms, memory_span=0)["memory"]["verdict"] == "not_needed"
    found = judged_curves(arms)
    assert "gains on the twin" not in found["memory"]["reason"]
    assert "is reached by nobody" in found["memory"]["reason"]
    assert found["next"][0].startswith("train longer")


def test_runs_under_way_are_not_judged_at_the_budget_of_a_short_trial(tmp_path):
    for arm, final in (("S", 0.9), ("S~", 0.5)):
        write_run(tmp_path, arm, 0, rising(0.0), budget=BUDGET // 10, name=f"trial{arm[1:]}")
        for seed in range(5):
            write_run(tmp_path, arm, seed, rising(final), reached=0.4, status=None)
    found = judged(tmp_path)
    assert found["budget"] == BUDGET
    assert {plan["action"] for plan in found["sequential"]["per_arm"].values()} == {"wait"}


def test_first_episodes_that_ended_early_because_they_went_well_do_not_solve_it(tmp_path):
    for seed in range(5):
        returns = np.r_[1.0, rising(0.9, updates=79)]  # nobody has failed yet: failures take longer
        write_run(tmp_path, "S", seed, returns, columns=[{"episode/count": 2}] + [{"episode/count": 20}] * 79)
    assert judged(tmp_path)["arms"]["S"]["time"]["agent_steps"]["median"] > 0.2 * BUDGET


def test_times_are_at_least_the_window_they_are_smoothed_over(tmp_path):
    write_matrix(tmp_path, {"S": GOOD}, columns={"episode/return": 1.0})
    assert judged(tmp_path)["arms"]["S"]["time"]["agent_steps"]["median"] == pytest.approx(0.05 * BUDGET)
