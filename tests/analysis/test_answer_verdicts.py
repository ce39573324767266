"""Verdicts on synthetic runs whose truth is known."""

import json

import numpy as np
import pytest
from helpers.synthetic_runs import BUDGET, rising, write_arm, write_matrix, write_run

from memexp.analysis.answer import answer
from memexp.analysis.answer_json import answer_json
from memexp.analysis.load import load
from memexp.runs import find_runs
from memexp.runs.directory import Horizon

GOOD = [0.95, 0.97, 0.94, 0.96, 0.93]
HALF = [0.50, 0.52, 0.49, 0.47, 0.51]
NONE = [0.01, -0.01, 0.0, 0.005, -0.005]


def judged(folder):
    found = answer_json(answer(find_runs(folder), "test"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found["environments"]["world"]


def memory_of(folder, arms, **options):
    write_matrix(folder, arms, **options)
    return judged(folder)["memory"]


@pytest.mark.parametrize("ceiling", [1.0, None])
def test_memory_is_required_when_an_arm_solves_and_nothing_without_memory_comes_near(tmp_path, ceiling):
    memory = memory_of(tmp_path, {"S": GOOD, "S~": HALF, "X": HALF, "X~": HALF}, ceiling_return=ceiling)
    assert memory["verdict"] == ("required" if ceiling else "helps")
    assert memory["per_arm"]["S"]["effect"] == pytest.approx(0.452 / (1.0 if ceiling else 0.95), rel=1e-3)
    assert memory["per_arm"]["S"]["p_holm"] == pytest.approx(2 / 252, rel=1e-3)
    assert memory["per_arm"]["S"]["p_improvement"] == 1.0
    assert memory["effect"] == pytest.approx(memory["per_arm"]["S"]["effect"] / 2, rel=1e-3)
    assert memory["ci"][0] < memory["effect"] < memory["ci"][1]
    assert memory["scale"] == ("ceiling" if ceiling else "S")


def test_memory_helps_but_is_not_required_when_the_twin_gets_there_too(tmp_path):
    memory = memory_of(tmp_path, {"S": GOOD, "S~": [0.80, 0.79, 0.81, 0.80, 0.78]})
    assert memory["verdict"] == "helps"
    assert "S~" in memory["reason"]


def test_an_architecture_that_cannot_remember_refutes_required_as_a_twin_does(tmp_path):
    write_arm(tmp_path, "X0", GOOD, pattern="X", mem_len=0)
    memory = memory_of(tmp_path, {"S": GOOD, "S~": HALF})
    assert memory["verdict"] == "helps"
    assert "X0" in memory["reason"]


def test_a_single_seed_that_solves_without_memory_refutes_required(tmp_path):
    memory = memory_of(tmp_path, {"S": GOOD, "S~": [0.9, *HALF[1:]]})
    assert memory["verdict"] == "helps"
    assert "seed 0 of S~ reaches 90 % of the way without memory" in memory["reason"]


def test_a_twin_that_falls_below_random_beside_an_arm_that_learned_nothing_says_nothing_about_memory(tmp_path):
    memory = memory_of(tmp_path, {"S": NONE, "S~": [-0.5, -0.52, -0.49, -0.5, -0.51], "L": GOOD, "L~": GOOD})
    assert memory["verdict"] == "not_needed"


def test_memory_helps_when_nobody_solves(tmp_path):
    memory = memory_of(tmp_path, {"S": HALF, "S~": [0.2, 0.22, 0.19, 0.21, 0.2]})
    assert memory["verdict"] == "helps"
    assert "no arm both reaches 75 % of the way" in memory["reason"]


def test_memory_only_helps_while_the_seeds_cannot_exclude_a_solving_twin(tmp_path):
    memory = memory_of(tmp_path, {"S": GOOD, "S~": [0.74, 0.4, 0.74, 0.74, 0.6]})
    assert memory["verdict"] == "helps"
    assert "cannot rule out that S~ would reach 75 % of the way without memory" in memory["reason"]


@pytest.mark.parametrize(("best", "above"), [(1.0, False), (1.005, False), (1.2, True), (500.0, True)])
def test_an_arm_above_the_ceiling_is_named_and_the_ceiling_is_not_used(tmp_path, best, above):
    write_matrix(tmp_path, {"S": [best] * 5, "S~": HALF}, ceiling_return=1.0)
    found, _ = load(find_runs(tmp_path), "test")
    (environment,) = found.values()
    told = [note for note in environment.notes if "above ceiling_return 1: not used" in note]
    assert (environment.ceiling is None, bool(told)) == (above, above)
    assert not above or told[0].startswith("S ends at up to")


@pytest.mark.parametrize("ceiling", [1.0, None])
def test_memory_is_not_needed_when_the_twins_solve_and_the_effects_are_small(tmp_path, ceiling):
    arms = {"S": GOOD, "S~": GOOD[::-1], "X": GOOD, "X~": [0.96, 0.95, 0.97, 0.93, 0.95]}
    assert memory_of(tmp_path, arms, ceiling_return=ceiling)["verdict"] == ("not_needed" if ceiling else "undecided")


def test_memory_that_costs_return_is_not_needed_where_the_ceiling_is_known(tmp_path):
    memory = memory_of(tmp_path, {"S": HALF, "S~": GOOD})
    assert memory["verdict"] == "not_needed"
    assert "costs return in S" in memory["reason"]


def test_without_a_ceiling_memory_arms_that_did_not_train_do_not_make_memory_unneeded(tmp_path):
    assert memory_of(tmp_path, {"S": HALF, "S~": GOOD}, ceiling_return=None)["verdict"] == "undecided"


def test_arms_that_stop_halfway_alike_do_not_show_that_memory_is_not_needed(tmp_path):
    memory = memory_of(tmp_path, {"S": HALF, "S~": HALF[::-1]})
    assert memory["verdict"] == "undecided"
    assert "same level" in memory["reason"]


def test_an_effect_between_small_and_significant_is_undecided_and_names_the_seeds_to_run(tmp_path):
    write_matrix(tmp_path, {"S": [0.9, 0.6, 0.9, 0.5, 0.8], "S~": [0.8, 0.4, 0.9, 0.5, 0.7]})
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "undecided"
    assert any("20 seeds would not decide at this spread" in sentence for sentence in found["next"])
    assert found["sequential"]["per_arm"]["S"]["action"] == "stop"
    write_matrix(tmp_path / "b", {"S": [0.9, 0.7, 0.85, 0.78, 0.8], "S~": [0.72, 0.6, 0.68, 0.8, 0.65]})
    found = judged(tmp_path / "b")
    assert found["memory"]["verdict"] == "undecided"
    assert "run 5 more seeds of arms S and S~ (--seeds 10) to decide" in found["next"]
    assert found["sequential"]["per_arm"]["S~"] == {
        "action": "run", "seeds": [5, 6, 7, 8, 9], "target": 10,
        "because": "undecided: 10 seeds would decide with 80 % probability",
    }  # fmt: skip
    assert found["until_answered"]["agent_steps"] == 10 * BUDGET


def test_three_seeds_decide_nothing_and_the_answer_says_which_to_run(tmp_path):
    write_matrix(tmp_path, {"S": GOOD[:3], "S~": HALF[:3]})
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "undecided"
    assert "3 v 3" in found["memory"]["reason"]
    assert found["memory"]["effect"] == pytest.approx(0.45, abs=0.01)
    assert found["arms"]["S"]["learning"]["verdict"] == "undecided"
    assert "3 seeds" in found["arms"]["S"]["learning"]["reason"]
    assert any(sentence.startswith("run 2 more seeds of arms S, S~ (--seeds 5)") for sentence in found["next"])


def test_four_seeds_of_four_arms_cannot_be_significant_together_and_a_fifth_is_asked_for(tmp_path):
    arms = {name: finals for arm in "ABCD" for name, finals in ((arm, GOOD[:4]), (f"{arm}~", HALF[:4]))}
    write_matrix(tmp_path, arms)
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "undecided"
    assert found["memory"]["per_arm"]["A"]["p_holm"] == pytest.approx(4 / 70, rel=1e-3)
    assert found["next"][0] == "run 1 more seed of arms A and A~ (--seeds 5) to decide"


def test_one_seed_gives_numbers_without_intervals(tmp_path):
    write_matrix(tmp_path, {"S": GOOD[:1], "S~": HALF[:1]})
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "undecided"
    assert found["arms"]["S"]["final"]["iqm"] == pytest.approx(0.95)
    assert found["arms"]["S"]["final"]["ci"] == [None, None]


@pytest.mark.parametrize("ceiling", [1.0, None])
def test_nothing_learned_is_undecided_and_not_unneeded(tmp_path, ceiling):
    write_matrix(tmp_path, {"S": NONE, "S~": NONE[::-1]}, ceiling_return=ceiling)
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "undecided"
    assert found["memory"]["reason"].startswith("Nothing learned")
    assert found["arms"]["S"]["learning"]["verdict"] == ("not_learned" if ceiling else "undecided")


def test_no_reward_at_all_is_not_learned_and_names_the_reachability_of_reward(tmp_path):
    write_matrix(tmp_path, {"S": [0.0] * 5, "S~": [0.0] * 5}, ceiling_return=None)
    found = judged(tmp_path)
    assert {arm["learning"]["verdict"] for arm in found["arms"].values()} == {"not_learned"}
    assert found["knobs"][0]["knob"].startswith("reward reachability")


def test_an_inconsistent_arm_is_excluded_and_named(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    write_matrix(tmp_path, {"X": GOOD, "X~": GOOD}, gap=0.01)
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "required"
    assert "X (inconsistent: max_logprob_gap 0.01 > 0.001" in found["memory"]["reason"]
    assert "not counted: X~" in found["memory"]["reason"]
    assert found["arms"]["X"]["consistent"] is False
    assert any("memexp doctor" in sentence for sentence in found["next"])


def test_missing_twins_and_a_missing_random_policy_leave_it_undecided(tmp_path):
    write_arm(tmp_path / "a", "S", GOOD)
    found = judged(tmp_path / "a")
    assert found["memory"]["verdict"] == "undecided"
    assert "no memory-ablated twin" in found["memory"]["reason"]
    assert any("twins: true" in sentence for sentence in found["next"])
    write_matrix(tmp_path / "b", {"S": GOOD, "S~": HALF}, random_return=None)
    found = judged(tmp_path / "b")
    assert found["memory"]["verdict"] == found["arms"]["S"]["learning"]["verdict"] == "undecided"
    assert found["memory"]["effect"] is None
    assert any("random policy" in sentence for sentence in found["next"])


def test_runs_that_all_failed_or_still_run_give_an_answer_that_says_so(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "S", seed, rising(0.9), reached=0.3, status="failed")
        write_run(tmp_path, "S~", seed, rising(0.9), reached=0.3, status=None)
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "undecided"
    assert found["arms"]["S"] == {**found["arms"]["S"], "seeds": 0}
    assert found["arms"]["S"]["final"] == {"iqm": None, "ci": [None, None], "normalized": None, "eval": None}
    assert found["next"][0].startswith("wait for the 3 runs")
    assert found["next"][1].startswith("launch the matrix again: 3 runs")


def test_the_random_policys_own_error_counts_against_learning(tmp_path):
    for seed, (final, level) in enumerate(zip([0.30, 0.31, 0.30, 0.29], [0.2, 0.4, 0.1, 0.5], strict=True)):
        write_run(tmp_path, "S", seed, rising(final), random_return=level)
    assert judged(tmp_path)["arms"]["S"]["learning"]["verdict"] != "learned"


def test_a_flat_curve_has_converged_a_rising_one_improves_and_a_fallen_one_collapsed(tmp_path):
    noise = np.random.default_rng(0)
    up = np.linspace(0, 0.9, 90)
    down = np.r_[rising(0.9, updates=60), np.linspace(0.9, 0.3, 30)]
    for seed in range(5):
        jitter = 0.02 * noise.standard_normal(90)
        write_run(tmp_path, "flat", seed, rising(0.9, updates=90) + jitter)
        write_run(tmp_path, "up", seed, up + jitter)
        write_run(tmp_path, "down", seed, down + jitter)
        write_run(tmp_path, "random", seed, jitter)
    arms = judged(tmp_path)["arms"]
    verdicts = {name: arm["convergence"]["verdict"] for name, arm in arms.items()}
    assert verdicts == {"flat": "converged", "up": "improving", "down": "collapsed", "random": "undecided"}
    assert 0.2 * BUDGET < arms["flat"]["convergence"]["at_agent_steps"] < 0.6 * BUDGET
    assert judged(tmp_path)["knobs"] == [
        {"knob": "steps", "value": 2 * BUDGET, "because": judged(tmp_path)["knobs"][0]["because"]}
    ]


def test_time_is_the_median_over_seeds_with_those_that_never_arrive_censored(tmp_path):
    for seed, half in enumerate((0.2, 0.3, 0.4)):
        write_run(tmp_path, "S", seed, rising(1.0, updates=200, half=half), price_per_hour=36.0)
    for seed in (3, 4):
        write_run(tmp_path, "S", seed, rising(0.2, updates=200), price_per_hour=36.0)
    time = judged(tmp_path)["arms"]["S"]["time"]
    assert time["agent_steps"]["censored"] == 2
    assert 0.42 * BUDGET < time["agent_steps"]["median"] < 0.52 * BUDGET
    assert time["hours"] == pytest.approx(time["agent_steps"]["median"] / 1000 / 3600, rel=1e-4)
    assert time["dollars"] == pytest.approx(36 * time["hours"], rel=1e-4)


def test_time_is_null_where_fewer_than_half_arrive_and_dollars_where_no_price_is_known(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    arms = judged(tmp_path)["arms"]
    never = {"agent_steps": {"median": None, "ci": [None, None], "censored": 5}, "hours": None, "dollars": None}
    assert arms["S~"]["time"].items() >= never.items()
    assert arms["S"]["time"]["hours"] is not None
    assert arms["S"]["time"]["dollars"] is None


def test_the_answer_has_every_key_of_the_contract(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF})
    found = answer_json(answer(find_runs(tmp_path), "test"))
    assert found["matrix"] == "test"
    world = found["environments"]["world"]
    assert {"memory", "arms", "knobs", "next"} <= world.keys()
    assert {"verdict", "effect", "ci", "p_improvement", "per_arm", "reason"} <= world["memory"].keys()
    arm = world["arms"]["S"]
    assert {"seeds", "final", "learning", "convergence", "time", "consistent"} <= arm.keys()
    assert {"iqm", "ci", "normalized"} <= arm["final"].keys()
    assert {"verdict", "reason"} <= arm["learning"].keys()
    assert {"verdict", "at_agent_steps"} <= arm["convergence"].keys()
    assert {"agent_steps", "hours", "dollars"} <= arm["time"].keys()
    assert {"median", "ci", "censored"} == arm["time"]["agent_steps"].keys()


def with_horizons(folder, table, whole=1.0, twin=0.5, longest=9):
    """A run for each row of `table` (k -> return of a seed) and as many twins. Returns the answer about the world."""
    runs = write_arm(folder, "S", [whole] * len(table))
    write_arm(folder, "S~", [twin + 0.001 * seed for seed in range(max(len(table), 2))])
    for run, returns in zip(runs, table, strict=True):
        errors = dict.fromkeys(returns, 0.01)
        run.write_horizon(
            Horizon(agent_steps=1, episodes=200, longest=longest, whole=whole, returns=returns, stderrs=errors)
        )
    return answer_json(answer(find_runs(folder), "test"))["environments"]["world"]


@pytest.mark.parametrize(
    ("returns", "needed", "words"),
    [
        ({0: 0.5, 1: 0.5, 2: 0.6, 4: 0.7, 8: 1.0}, 8, "S needs about 8 steps"),
        ({0: 0.5, 1: 0.5, 2: 0.98, 4: 1.0}, 2, "S needs about 2 steps"),
        ({0: 0.99, 1: 1.0}, 0, "S needs no step before the present one"),
        ({0: 0.5, 1: 0.5, 2: 0.6}, None, "S needs more than 2 steps"),
    ],
)
@pytest.mark.parametrize("seeds", [1, 4])
def test_the_answer_says_how_far_back_an_arm_looks(tmp_path, returns, needed, words, seeds):
    found = with_horizons(tmp_path, [returns] * seeds)["arms"]
    look = found["S"]["look_back"]
    assert look["needed"] == needed
    assert look["reason"].startswith(words)
    if needed and seeds > 1:
        before = max(k for k in returns if k < needed)
        assert look["reason"].endswith(f"(more than {before}, at most {needed}).")
    assert look["steps"] == list(returns)
    assert look["seeds"] == seeds
    assert look["has_twin"]
    assert found["S~"]["look_back"] is None


def test_a_memory_that_gains_nothing_has_no_length(tmp_path):
    look = with_horizons(tmp_path, [{0: 0.1, 1: 0.5}] * 4, whole=0.5)["arms"]["S"]["look_back"]
    assert look["needed"] is None
    assert "no significant effect of memory" in look["reason"]


def test_the_chance_of_one_seeds_episodes_is_no_effect(tmp_path):
    look = with_horizons(tmp_path, [{0: 0.50, 4: 0.52}], whole=0.52)["arms"]["S"]["look_back"]
    assert look["needed"] is None
    assert "no significant effect of memory" in look["reason"]


def test_seeds_whose_episodes_are_shorter_keep_their_return_where_others_still_gain(tmp_path):
    table = [{0: 0.5, 1: 1.0}, {0: 0.5, 1: 0.6, 2: 1.0}, {0: 0.5, 1: 0.6, 2: 1.0, 4: 1.0}]
    look = with_horizons(tmp_path, table)["arms"]["S"]["look_back"]
    assert look["steps"] == [0, 1, 2, 4]
    assert look["returns"][2:] == [1.0, 1.0]
    assert look["needed"] == 2
