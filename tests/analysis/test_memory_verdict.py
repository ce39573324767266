"""Credit horizons, sweeps of memory lengths, the oracle's share, collapsed twins and split arms."""

import numpy as np
import pytest
from helpers.synthetic_runs import BUDGET, rising, write_arm, write_matrix, write_run
from helpers.synthetic_truths import environment

from memexp.analysis.answer import answer, judge
from memexp.analysis.answer_json import answer_json, environment_json
from memexp.analysis.credit_horizon import credit_horizon
from memexp.analysis.learning import judge_learning
from memexp.analysis.pairs import find_pairs, oracle_ratio
from memexp.runs import find_runs

GOOD = [0.95, 0.97, 0.94, 0.96, 0.93]
HALF = [0.50, 0.52, 0.49, 0.47, 0.51]


def judged(folder):
    return answer_json(answer(find_runs(folder), "test"))["environments"]["world"]


def judged_arms(arms, **info):
    return environment_json(judge(environment(arms, random=np.zeros(5), **info)))


def config(horizon=32, layers=2):
    return {"trainer": {"horizon": horizon}, "cortex": {"num_layers": layers}}


@pytest.mark.parametrize(
    ("arm", "info", "far"),
    [
        ("S", {"pattern": "S"}, 32),
        ("A", {"pattern": "AgSA", "mem_len": 0}, 32),
        ("X", {"pattern": "X", "mem_len": 8}, 16),
        ("X", {"pattern": "X", "mem_len": 128}, 160),
        ("X", {"pattern": ["X", "X^"], "mem_len": 8}, 16),
        ("X", {"pattern": "X", "mem_len": 0}, 0),
        ("S~", {"pattern": "S"}, 0),
        ("own", {"pattern": "cells:MinGRU", "mem_len": 8}, 32),
        ("own", {"pattern": "X,cells:MinGRU", "mem_len": 8}, 32),
        ("own", {"pattern": "of_a_package", "mem_len": 0}, 32),
    ],
)
def test_the_credit_horizon_is_that_of_a_recurrent_state_and_the_window_a_layer_of_attention(arm, info, far):
    assert credit_horizon(environment({arm: GOOD}, config=config(), **info).arms[arm]) == far


def test_the_answer_says_that_it_assumes_the_horizon_of_a_cell_that_it_does_not_know():
    low = {"S": [0.3, 0.31, 0.29, 0.3, 0.32], "S~": [0.3, 0.29, 0.31, 0.3, 0.28]}
    said = "This assumes that S keeps a recurrent state."
    for pattern, assumed in (("S", False), ("S,cells:MinGRU", True)):
        found = judged_arms(low, memory_span=100, config=config(), pattern=pattern)
        assert (said in found["memory"]["reason"]) == assumed


def test_the_credit_horizon_is_unknown_without_a_config():
    assert credit_horizon(environment({"S": GOOD}).arms["S"]) is None


@pytest.mark.parametrize(("finals", "verdict"), [(GOOD, "not_needed"), ([0.82, 0.83, 0.81, 0.82, 0.84], "undecided")])
@pytest.mark.parametrize("horizon", [32, 128, None])
def test_a_null_result_needs_the_ceiling_whatever_training_could_connect(finals, verdict, horizon):
    known = {"config": config(horizon)} if horizon else {}
    found = judged_arms({"S": finals, "S~": finals[::-1]}, memory_span=100, **known)
    assert found["memory"]["verdict"] == verdict
    assert found["memory"]["per_arm"]["S"]["reach"] == horizon
    assert found["memory_span"] == 100


def test_an_effect_beyond_the_credit_horizon_is_an_effect():
    found = judged_arms({"S": GOOD, "S~": HALF}, memory_span=100, config=config())
    assert found["memory"]["verdict"] == "required"


def sweep(tmp_path, finals):
    for mem_len, values in finals.items():
        write_arm(tmp_path, f"X{mem_len}", values, pattern="X", mem_len=mem_len)
        write_arm(tmp_path, f"X{mem_len}~", HALF, pattern="X", mem_len=mem_len)
    return judged(tmp_path)["memory"]["shortest"]


def test_a_sweep_of_mem_len_gives_the_shortest_with_95_percent_of_the_effect(tmp_path):
    near = [0.94, 0.95, 0.955, 0.945, 0.95]
    (found,) = sweep(tmp_path, {2: HALF[::-1], 4: [0.7, 0.71, 0.69, 0.7, 0.72], 8: near, 16: near[::-1]})
    assert found["knob"] == "mem_len"
    assert found["values"] == [2, 4, 8, 16]
    assert found["effects"] == pytest.approx([0.0, 0.206, 0.45, 0.45], abs=0.005)
    assert (found["estimate"], found["at_least"], found["at_most"]) == (8, 8, 8)


def test_a_sweep_whose_lengths_are_all_enough_says_at_most_the_shortest_and_noise_widens_it(tmp_path):
    noisy = [0.95, 0.8, 0.99, 0.9, 0.85]
    (found,) = sweep(tmp_path, {4: noisy, 8: [0.9, 0.82, 0.95, 0.99, 0.87], 16: noisy[::-1]})
    assert found["at_least"] == 4
    assert found["at_most"] is None
    assert "no tested length is surely enough" in found["reason"]


def test_identical_twins_of_a_sweep_are_one_arm_without_memory(tmp_path):
    """The effect is that above all different memoryless runs: three times the same do not weigh three times."""
    near = [0.94, 0.95, 0.955, 0.945, 0.95]
    for mem_len, name in ((0, "X0"), (4, "X4"), (8, "X8")):
        values = near if mem_len else [0.1, 0.3, 0.2, 0.15, 0.25]
        write_arm(tmp_path, name, values, pattern="X", mem_len=mem_len)
        if mem_len:
            write_arm(tmp_path, f"{name}~", [0.5, 0.6, 0.55, 0.45, 0.65], pattern="X", mem_len=mem_len)
    (found,) = judged(tmp_path)["memory"]["shortest"]
    assert found["effects"] == pytest.approx([0.2 - 0.375, 0.948 - 0.375, 0.948 - 0.375], abs=0.002)


def test_a_sweep_without_an_effect_names_no_length(tmp_path):
    (found,) = sweep(tmp_path, {4: HALF, 8: HALF[::-1]})
    assert found["estimate"] is None
    assert found["reason"] == "no length of memory has a significant effect"


def test_arms_of_other_patterns_or_a_single_length_make_no_sweep(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF, "L": GOOD})
    assert judged(tmp_path)["memory"]["shortest"] == []


def test_the_oracle_ratio_is_the_share_of_what_full_sight_adds(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF}, oracle_return=1.0)
    memory = judged(tmp_path)["memory"]
    assert memory["oracle_ratio"]["estimate"] == pytest.approx(0.452 / 0.502, rel=1e-3)
    low, high = memory["oracle_ratio"]["ci"]
    assert low < memory["oracle_ratio"]["estimate"] < high
    assert memory["per_arm"]["S"]["oracle_ratio"] == memory["oracle_ratio"]


def test_there_is_no_oracle_ratio_without_an_oracle_or_room_below_it(tmp_path):
    write_matrix(tmp_path / "a", {"S": GOOD, "S~": HALF})
    assert judged(tmp_path / "a")["memory"]["oracle_ratio"] is None
    write_matrix(tmp_path / "b", {"S": GOOD, "S~": HALF}, oracle_return=0.4)
    assert judged(tmp_path / "b")["memory"]["oracle_ratio"] is None


def test_the_oracle_ratios_interval_covers():
    rng, hits, rounds = np.random.default_rng(0), 0, 200
    for _ in range(rounds):
        world = environment({"S": rng.normal(0.7, 0.08, 5), "S~": rng.normal(0.3, 0.08, 5)})
        pairs, _ = find_pairs(world, None, {n: judge_learning(a, world, None) for n, a in world.arms.items()})
        found = oracle_ratio(list(pairs.values()), 1.0)
        hits += found.ci[0] <= 0.4 / 0.7 <= found.ci[1]
    assert 0.91 <= hits / rounds <= 0.985


def test_a_twin_that_solves_and_loses_it_again_does_not_make_memory_helpful(tmp_path):
    up, down = rising(0.95, updates=100), rising(0.95, updates=100)
    down[60:] = 0.3
    for seed in range(5):
        noise = 0.02 * np.random.default_rng(seed).standard_normal((2, 100))
        write_run(tmp_path, "S", seed, up + noise[0])
        write_run(tmp_path, "S~", seed, (down if seed else up) + noise[1])
    found = judged(tmp_path)
    assert found["arms"]["S~"]["convergence"]["verdict"] == "collapsed"
    assert found["memory"]["verdict"] == "undecided"
    assert found["memory"]["effect"] > 0.4


def test_a_memoryless_seed_that_solved_at_any_time_refutes_required(tmp_path):
    lost = rising(0.5, updates=100)
    lost[30:45] = 0.9
    write_arm(tmp_path, "S", GOOD)
    write_arm(tmp_path, "S~", HALF[:4])
    write_run(tmp_path, "S~", 4, lost)
    found = judged(tmp_path)
    assert found["memory"]["verdict"] == "helps"
    assert "seed 4 of S~ reaches 90 % of the way without memory, and loses it again" in found["memory"]["reason"]


def test_each_pair_has_a_verdict_of_its_own(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": HALF, "X": HALF, "X~": HALF[::-1], "L": GOOD[:2], "L~": HALF[:2]})
    pairs = judged(tmp_path)["memory"]["per_arm"]
    assert {name: pair["verdict"] for name, pair in pairs.items()} == {
        "S": "required", "X": "undecided", "L": "undecided",
    }  # fmt: skip
    assert "2 v 2" in pairs["L"]["reason"]
    assert pairs["S"]["effect_iqm"] == pytest.approx(0.45, abs=0.01)
    assert pairs["S"]["ci_iqm"][0] < pairs["S"]["effect_iqm"] < pairs["S"]["ci_iqm"][1]


def test_an_arm_whose_seeds_split_has_learned_and_the_split_is_named(tmp_path):
    write_matrix(tmp_path, {"S": [0.95, 0.0, 0.97, 0.01, -0.01]})
    arm = judged(tmp_path)["arms"]["S"]
    assert arm["learning"]["verdict"] == "learned"
    assert "2 of 5 seeds solve the task" in arm["learning"]["reason"]
    assert arm["solved"]["seeds"] == 2
    assert arm["solved"]["disagree"] is True
    assert arm["solved"]["unsolved"] == ["world_S.s1", "world_S.s3", "world_S.s4"]
    assert arm["solved"]["ci"] == pytest.approx([0.053, 0.853], abs=0.001)
    assert "seeds disagree: 2 of 5 solve it, 3 end below 50 % of the way" in arm["convergence"]["reason"]


def test_levels_are_those_of_run_json_and_a_seed_counts_once_in_the_random_level(tmp_path):
    for seed, level in enumerate((0.1, 0.2, 0.3)):
        for arm in ("S", "S~"):
            write_run(tmp_path, arm, seed, rising(0.9), random_return=level, memoryless_return=0.5, oracle_return=1.2)
    assert judged(tmp_path)["levels"] == {
        "random": {"mean": 0.2, "sd": 0.1, "n": 3}, "memoryless": 0.5, "ceiling": 1.0, "oracle": 1.2, "solved": 0.8,
    }  # fmt: skip


def test_a_rising_arm_that_is_not_above_random_yet_is_too_early_to_tell(tmp_path):
    noise = np.random.default_rng(0)
    late = np.r_[np.zeros(70), np.linspace(0, 0.1, 30)] - 0.05
    for seed in range(5):
        write_run(tmp_path, "late", seed, late + 0.005 * noise.standard_normal(100))
        write_run(tmp_path, "never", seed, 0.005 * noise.standard_normal(100))
    arms = judged(tmp_path)["arms"]
    assert arms["never"]["learning"]["state"] == "not_learned"
    assert arms["late"]["learning"]["state"] == "too_early"
    assert "still rising" in arms["late"]["learning"]["reason"]
    assert arms["late"]["learning"]["trend"]["estimate"] > 0.05


def test_an_undecided_arm_says_what_its_seeds_could_have_shown(tmp_path):
    write_matrix(tmp_path, {"S": [0.3, -0.2, 0.25, -0.15, 0.1]})
    found = judged(tmp_path)["arms"]["S"]["learning"]
    assert found["state"] == "too_early"
    assert 0.3 < found["detectable"] < 0.6
    assert "These seeds would not reliably show a gain below" in found["reason"]


def test_time_to_solve_is_compared_with_the_twins(tmp_path):
    for seed in range(5):
        write_run(tmp_path, "S", seed, rising(1.0, updates=200, half=0.2 + 0.02 * seed))
        write_run(tmp_path, "S~", seed, rising(0.3, updates=200))
    arms = judged(tmp_path)["arms"]
    assert arms["S"]["time"]["p_twin"] < 0.01
    assert arms["S"]["time"]["threshold"] == 0.75
    curve = arms["S"]["time"]["curve"]
    assert curve["agent_steps"][0] == 0
    assert curve["unsolved"][0] == 1.0
    assert curve["unsolved"][-1] == 0.0
    assert max(curve["agent_steps"]) < BUDGET
    assert arms["S~"]["time"]["p_twin"] is None


# Twins of one's own.


@pytest.mark.parametrize(("control", "compared"), [([0.3] * 5, "S~"), (HALF, "S_ctrl"), (GOOD, "S_ctrl")])
def test_of_several_twins_the_better_one_is_what_memory_is_compared_with(tmp_path, control, compared):
    write_matrix(tmp_path, {"S": GOOD, "S~": [0.4, 0.42, 0.41, 0.43, 0.4]})
    write_arm(tmp_path, "S_ctrl", control, memory="off", twin_of="S")
    found = judged(tmp_path)
    (pair,) = found["memory"]["per_arm"].values()
    assert pair["twin"] == compared
    assert found["memory"]["verdict"] == ("not_needed" if control == GOOD else "required")
    assert f"S has the twins S~, S_ctrl: compared with {compared}, the better one" in " ".join(found["notes"])


def test_a_twin_of_ones_own_is_enough(tmp_path):
    write_matrix(tmp_path, {"S": GOOD})
    write_arm(tmp_path, "S_ctrl", HALF, memory="off", twin_of="S")
    found = judged(tmp_path)
    assert (found["memory"]["verdict"], found["memory"]["per_arm"]["S"]["twin"]) == ("required", "S_ctrl")
    assert not any("twin" in step for step in found["next"])


def test_an_arm_that_remembers_is_no_twin(tmp_path):
    write_matrix(tmp_path, {"S": GOOD})
    write_arm(tmp_path, "S_ctrl", HALF, memory="on", twin_of="S")
    assert judged(tmp_path)["memory"]["verdict"] == "undecided"
