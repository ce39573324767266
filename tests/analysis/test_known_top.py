"""What may be said where no ceiling is known, and where a known top is reached by nobody."""

import json

import numpy as np
import pytest
from helpers.synthetic_runs import rising, write_matrix, write_run
from helpers.synthetic_truths import environment

from memexp.analysis.answer import answer, judge
from memexp.analysis.answer_json import answer_json, environment_json
from memexp.analysis.report import write_markdown
from memexp.cli import main
from memexp.runs import find_runs

GOOD = [0.95, 0.97, 0.94, 0.96, 0.93]
HALF = [0.50, 0.52, 0.49, 0.47, 0.51]
PENDULUM = {"S": [-422.0, -430.0, -415.0, -421.0, -425.0], "S~": [-1200.0, -1215.0, -1190.0, -1205.0, -1210.0]}
CUT = {"S": [-956.0, -960.0, -950.0, -957.0, -953.0], "S~": PENDULUM["S~"]}
FULL = [-150.0, -155.0, -148.0, -152.0, -151.0]


def answers(folder, **stated):
    found = answer(find_runs(folder), "test", {"world": stated} if stated else None)
    return answer_json(found)["environments"]


def judged_arms(arms, **info):
    return environment_json(judge(environment(arms, random=np.zeros(5), **info)))


def write_pendulum(folder, arms, **info):
    for arm, finals in arms.items():
        for seed, end in enumerate(finals):
            curve = rising(end, start=-1220.0)
            write_run(folder, arm, seed, curve, **{"random_return": -1220.0, "ceiling_return": None, **info})


@pytest.mark.parametrize(
    "arms", [PENDULUM, CUT, {"S": GOOD, "S~": HALF}, {"S": GOOD, "S~": HALF, "X": GOOD, "X~": HALF}]
)
def test_without_a_known_top_memory_at_most_helps_nothing_is_solved_and_the_report_says_what_is_missing(tmp_path, arms):
    write_pendulum(tmp_path, arms) if arms["S"][0] < 0 else write_matrix(tmp_path, arms, ceiling_return=None)
    found = answers(tmp_path)["world"]
    assert found["memory"]["verdict"] == "helps"
    assert "no ceiling is known: give `ceiling_return:` or `solved_return:`" in found["memory"]["reason"]
    assert sum("no ceiling is known" in sentence for sentence in found["next"]) == 1
    assert found["solved_return"] is None
    for arm in found["arms"].values():
        assert arm["solved"]["seeds"] is None
        assert arm["time"]["agent_steps"]["median"] is arm["time"]["threshold"] is arm["time"]["curve"] is None
    page = write_markdown(answer(find_runs(tmp_path), "test"), tmp_path / "page.md").read_text()
    assert "solved from not known" in page
    assert "5 of 5 seeds" not in page


def test_without_a_known_top_arms_that_end_alike_do_not_show_that_memory_is_not_needed(tmp_path):
    write_matrix(tmp_path, {"S": GOOD, "S~": GOOD[::-1]}, ceiling_return=None)
    memory = answers(tmp_path)["world"]["memory"]
    assert memory["verdict"] == "undecided"
    assert "no ceiling is known" in memory["reason"]


def test_without_a_known_top_arms_that_still_rise_train_longer_and_never_stop(tmp_path):
    for seed in range(5):
        for arm, end in (("S", 0.5), ("S~", 0.05)):
            write_run(tmp_path, arm, seed, np.linspace(0, end, 60) + 0.001 * seed, ceiling_return=None)
    found = answers(tmp_path)["world"]
    assert found["next"][0].startswith("train longer")
    assert not any("stop" in sentence or "certain" in sentence for sentence in found["next"])
    assert {one["action"] for one in found["sequential"]["per_arm"].values()} == {"train longer"}


@pytest.mark.parametrize(
    ("stated", "arms", "verdict", "scale"),
    [
        ({"ceiling_return": -180.0}, PENDULUM, "required", "ceiling"),
        ({"ceiling_return": -150.0}, CUT, "helps", "ceiling"),
        ({"solved_return": -500.0}, PENDULUM, "required", "S"),
        ({"solved_return": -300.0}, PENDULUM, "helps", "solved_return"),
        ({"solved_return": -900.0}, CUT, "helps", "solved_return"),
    ],
)
@pytest.mark.parametrize("where", ["run", "matrix"])
def test_a_stated_level_counts_whether_the_run_or_the_matrix_file_states_it(
    tmp_path, stated, arms, verdict, scale, where
):
    write_pendulum(tmp_path, arms)
    if where == "run":
        write_pendulum(tmp_path, arms, **stated)
    found = answers(tmp_path, **(stated if where == "matrix" else {}))["world"]
    assert found["memory"]["verdict"] == verdict
    assert found["memory"]["scale"] == scale
    if "solved_return" in stated:
        assert found["solved_return"] == stated["solved_return"]


def test_a_ceiling_that_is_added_to_the_matrix_file_after_training_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEMEXP_HOME", str(tmp_path / "home"))
    write_pendulum(tmp_path / "home" / "runs", PENDULUM)
    verdicts = []
    for level in ("", ", ceiling_return: -180", ", solved_return: -500", ", ceiling_return: -150"):
        file = tmp_path / "matrix.yaml"
        file.write_text(
            f"name: test\nenvironments: {{world: {{recipe: any{level}}}}}\narchitectures: {{S: {{pattern: S}}}}\n"
            "steps: 100k\n"
        )
        assert main(["report", str(file), "--json"]) == 0
        verdicts.append(json.loads(capsys.readouterr().out)["environments"]["world"]["memory"]["verdict"])
    assert verdicts == ["helps", "required", "required", "helps"]


def test_what_the_matrix_states_now_replaces_what_the_runs_recorded_and_a_registrys_threshold_makes_way(tmp_path):
    write_pendulum(tmp_path, PENDULUM, solved_return=-1000.0, solved_by="the registry")
    found = answers(tmp_path)["world"]
    assert (found["memory"]["verdict"], found["solved_return"]) == ("required", -1000)
    assert "a return of -1000 counts as solved: the registry" in found["notes"]
    found = answers(tmp_path, ceiling_return=-150.0)["world"]
    assert found["solved_return"] == pytest.approx(-1220 + 0.75 * 1070)
    assert not any("registry" in note for note in found["notes"])


def test_the_best_arm_of_the_partner_is_a_known_top(tmp_path):
    write_pendulum(tmp_path, {"S": FULL, "S~": FULL[::-1]}, env="full")
    write_pendulum(tmp_path, PENDULUM, partner="full")
    found = answers(tmp_path)["world"]
    assert found["memory"]["scale"] == "S in full"
    assert found["memory"]["verdict"] == "helps"
    assert found["solved_return"] == pytest.approx(-1220 + 0.75 * (1220 - 151.2))
    near = [value + 250 for value in PENDULUM["S"]]
    write_pendulum(tmp_path, {"S": near}, partner="full")
    assert answers(tmp_path)["world"]["memory"]["verdict"] == "required"


@pytest.mark.parametrize(
    ("full", "why"),
    [
        (None, "it has no runs"),
        ([-1220.0, -1221.0, -1219.0, -1220.0, -1220.0], "none of its arms beats the random policy"),
        ([-1000.0, -1001.0, -999.0, -1000.0, -1000.0], "S ends at -422.7 here, above its best arm S"),
        ("rising", "its best arm S still rises"),
    ],
)
def test_a_partner_that_is_no_known_top_is_named_and_not_used(tmp_path, full, why):
    write_pendulum(tmp_path, PENDULUM, partner="full")
    if full == "rising":
        for seed, end in enumerate(FULL):
            curve = np.linspace(-1220, end, 60)
            write_run(tmp_path, "S", seed, curve, env="full", random_return=-1220.0, ceiling_return=None)
    elif full:
        write_pendulum(tmp_path, {"S": full}, env="full")
    found = answers(tmp_path)["world"]
    assert found["memory"]["verdict"] == "helps"
    assert any(note == f"partner full is no top of the scale: {why}" for note in found["notes"])


def test_what_could_serve_as_a_top_is_offered(tmp_path):
    write_pendulum(tmp_path, {"S": FULL}, env="full")
    write_pendulum(tmp_path, PENDULUM, oracle_return=-140.0)
    (said,) = [sentence for sentence in answers(tmp_path)["world"]["next"] if "no ceiling is known" in sentence]
    assert (
        "compare with solved_return: -140 (scripted, full sight) or partner: full (its best arm S ends at -151" in said
    )


@pytest.mark.parametrize("partner", [None, "full"])
def test_an_environment_that_cannot_be_a_top_is_not_offered(tmp_path, partner):
    """Neither one whose arms end lower, nor one that names this environment as its partner."""
    write_pendulum(tmp_path, {"S": FULL}, env="full")
    write_pendulum(tmp_path, {"S": [value + 400 for value in FULL] if partner else PENDULUM["S"]}, partner=partner)
    (said,) = [sentence for sentence in answers(tmp_path)["full"]["next"] if "no ceiling is known" in sentence]
    assert "a fully observed `partner:`" in said


# A known top that nobody reaches.

PART = [0.85, 0.86, 0.84, 0.85, 0.855]
"""85 % reactive, 15 % a cue that is asked for later."""


def reach(horizon=32, layers=2):
    return {"trainer": {"horizon": horizon}, "cortex": {"num_layers": layers}}


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"memory_span": 64, "config": reach()}, "32 steps (S); the task asks to remember 64: raise trainer.horizon"),
        ({"memory_span": 64, "config": reach(128)}, "128 steps (S); the task asks to remember 64."),
        ({"config": reach()}, "Training could connect 32 steps (S)."),
        ({"pattern": "X", "mem_len": 16, "memory_span": 64, "config": reach(32)}, "64: raise mem_len"),
        ({"memory_span": 64}, "an unknown number of steps (S)"),
    ],
)
def test_a_part_that_nobody_reached_is_not_called_unneeded(info, said):
    found = judged_arms({"S": PART, "S~": PART[::-1]}, **info)
    assert found["memory"]["verdict"] == "undecided"
    assert "the last 15 % of the way" in found["memory"]["reason"]
    assert "is reached by nobody" in found["memory"]["reason"]
    assert said in found["memory"]["reason"]
    raises = [sentence for sentence in found["next"] if sentence.startswith("raise ")]
    assert bool(raises) == ("raise" in said or "unknown" in said)
    assert not raises or (found["next"][0] in raises and not any("train longer" in one for one in found["next"]))


def test_the_length_of_an_episode_stands_for_a_span_that_nobody_states(tmp_path):
    for seed, end in enumerate(PART):
        for arm in ("S", "S~"):
            run = write_run(tmp_path, arm, seed, rising(end), columns={"episode/length": 80.4})
            run.write_config({"trainer": {"precision": "float32", "horizon": 32}})
    found = answers(tmp_path)["world"]
    assert (
        "Training could connect 32 steps (S); an episode has up to 81: raise trainer.horizon"
        in found["memory"]["reason"]
    )
    assert found["next"][0] == "raise trainer.horizon until training connects 81 steps (now 32 in S)"
    page = write_markdown(answer(find_runs(tmp_path), "test"), tmp_path / "page.md").read_text()
    assert page.count("Training could connect 32 steps (S)") >= 2


def test_a_task_that_says_it_needs_no_memory_and_one_whose_top_is_near_are_not_needed():
    for info, arms in (({"memory_span": 0}, {"S": PART, "S~": PART[::-1]}), ({}, {"S": GOOD, "S~": GOOD[::-1]})):
        assert judged_arms(arms, config=reach(), **info)["memory"]["verdict"] == "not_needed"


# Power, rising arms, single seeds, and the level of a look.


def test_seeds_are_not_promised_to_decide_where_arms_still_rise(tmp_path):
    for seed, (end, twin) in enumerate([(0.9, 0.3), (0.2, 0.6), (0.8, 0.1), (0.4, 0.5)]):
        write_run(tmp_path, "S", seed, np.linspace(0, end, 60))
        write_run(tmp_path, "S~", seed, np.linspace(0, twin, 60))
    found = answers(tmp_path)["world"]
    assert found["next"][0].startswith("train longer")
    assert not any("to decide" in sentence for sentence in found["next"])
    assert "80 %" not in found["until_answered"]["reason"]
    assert found["until_answered"]["power"] is None


def test_power_is_computed_with_four_seeds_too(tmp_path):
    write_matrix(tmp_path, {"S": [0.9, 0.1, 0.8, 0.2], "S~": [0.3, 0.6, 0.1, 0.9]})
    found = answers(tmp_path)["world"]
    assert "20 seeds would not decide" in found["sequential"]["per_arm"]["S"]["because"]
    assert "80 %" not in found["until_answered"]["reason"]


@pytest.mark.parametrize("ceiling", [None, -100.0])
def test_seeds_far_above_a_random_policy_of_no_spread_are_named_and_nothing_learned_is_not_said(tmp_path, ceiling):
    for arm, finals in {"S": [-158.0, -200.0, -200.0, -200.0], "S~": [-200.0] * 4}.items():
        for seed, end in enumerate(finals):
            curve = rising(end, start=-200.0)
            write_run(tmp_path, arm, seed, curve, random_return=-200.0, ceiling_return=ceiling)
    found = answers(tmp_path)["world"]
    assert found["memory"]["verdict"] == "undecided"
    assert "world_S.s0 ends far above it" in found["memory"]["reason"]
    assert "othing learned" not in found["memory"]["reason"] + found["arms"]["S"]["learning"]["reason"]
    assert found["arms"]["S"]["learning"]["state"] == "too_early"
    assert any("more seed" in sentence for sentence in found["next"])


def test_an_interval_without_0_that_this_look_does_not_allow_is_said_and_so_is_the_next_look(tmp_path):
    write_matrix(tmp_path, {"S": [0.64, 0.69, 0.63, 0.82], "S~": [0.53, 0.55, 0.52, 0.55]})
    found = answers(tmp_path)["world"]
    assert found["memory"]["ci"][0] > 0
    p = found["memory"]["per_arm"]["S"]["p_value"]
    assert 0.0145 < p < 0.026
    said = f"The interval of S excludes 0, but p = {p:.3g}, and this look allows 0.0145: 1 more seed would do"
    assert said in found["memory"]["reason"]
    assert found["sequential"]["per_arm"]["S"]["seeds"] == [4]


def test_help_is_not_certain_while_the_arm_with_memory_is_about_to_solve(tmp_path):
    for seed in range(5):
        jitter = 0.003 * np.random.default_rng(seed).standard_normal((2, 60))
        write_run(tmp_path, "S", seed, np.linspace(0, 0.7, 60) + jitter[0])
        write_run(tmp_path, "S~", seed, rising(0.2, updates=60) + jitter[1])
    found = answers(tmp_path)["world"]
    assert found["memory"]["verdict"] == "helps"
    assert "S still rises: at this pace" in found["memory"]["reason"]
    assert "certain" not in str(found["sequential"])
    assert found["next"][0].startswith("train longer")


@pytest.mark.parametrize("twin", [0.2, 0.8, 0.9])
def test_certain_never_stands_beside_train_longer(tmp_path, twin):
    for seed in range(5):
        jitter = 0.003 * np.random.default_rng(seed).standard_normal((2, 60))
        write_run(tmp_path, "S", seed, np.linspace(0.5, 1.0, 60) + jitter[0])
        write_run(tmp_path, "S~", seed, np.linspace(0.1, twin, 60) + jitter[1])
    found = answers(tmp_path)["world"]
    longer = any("train longer" in sentence for sentence in found["next"])
    assert not (longer and "certain" in str(found["sequential"]))
