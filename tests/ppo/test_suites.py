"""Evaluation suites: every setting can be built, and is measured at the end of a run that asks for it."""

import math

import pytest
from helpers.training import tiny, tiny_assembly, tiny_cvc

from memexp import envs
from memexp.config import UsageError
from memexp.envs import suites
from memexp.envs.config import ENVIRONMENTS, CvcRandomMaps
from memexp.envs.suites import SUITES, suite
from memexp.ppo import evaluate as evaluation
from memexp.ppo.train import train
from memexp.runs import Run

SETTINGS = [(env, setting) for env, settings in SUITES.items() for setting in settings]
TINY_SETTINGS = {
    "assembly_lines": {"one": {"chain_lengths": [1], "num_sinks": [0]}, "trap": {"num_sinks": [2]}},
    "cvc_random_maps": {"narrow": {"map_width": [6, 6]}, "pairs": {"assembler_protocols": ["medium"]}},
}


@pytest.mark.parametrize(("env", "setting"), SETTINGS, ids=lambda word: word)
def test_every_setting_can_be_built_and_keeps_the_runs_other_knobs(env, setting):
    own = ENVIRONMENTS[env](num_vibes=13)
    world = suite(own)[setting]
    changed = {knob for knob in type(own).model_fields if getattr(world, knob) != getattr(own, knob)}
    assert changed <= SUITES[env][setting].keys()
    built = envs.build(world, 1)
    assert built.num_actions == envs.build(own, 1).num_actions  # the run's policy can act in it
    assert built.observation == envs.build(own, 1).observation
    built.reset()


def test_the_settings_of_assembly_lines_are_the_originals():
    facts = {name: tuple(knobs.values()) for name, knobs in SUITES["assembly_lines"].items()}
    assert len(facts) == 12
    assert facts["large_5chain_2sinks_dense"] == ([5], [2], ["large"], ["dense"])
    for name, ((chain,), (sinks,), (room,), (terrain,)) in facts.items():
        assert name == f"{room}_{chain}chain_{sinks}sinks_{terrain}"


def test_an_environment_without_a_suite_has_no_settings():
    assert suite(tiny("tmaze").env) == {}


def test_a_setting_that_the_runs_knobs_leave_no_room_for_is_refused_before_training():
    many = {f"num_{name}s": 200 for name in ("assembler", "charger", "chest", "carbon_extractor", "oxygen_extractor")}
    with pytest.raises(UsageError, match=r"30x30_hard: a map of 30 x 30 has 900 cells"):
        suite(CvcRandomMaps(map_width=100, map_height=100, **many))
    words = {f"env__{name}": value for name, value in {**many, "map_width": 100, "map_height": 100}.items()}
    assert tiny_cvc(**words).evaluation.suite_episodes == 0
    with pytest.raises(UsageError, match=r"evaluation\.suite_episodes: 30x30_hard"):
        tiny_cvc(**words, evaluation__suite_episodes=1)


@pytest.mark.parametrize("make", [tiny_assembly, tiny_cvc], ids=["assembly_lines", "cvc_random_maps"])
def test_a_run_is_measured_in_every_setting_at_its_end(make, monkeypatch):
    monkeypatch.setattr(suites, "SUITES", TINY_SETTINGS)
    evaluated, real = {}, evaluation.evaluate

    def evaluate(policy, world, episodes, *rest):
        value = real(policy, world, episodes, *rest)
        evaluated[world.model_dump_json()] = (episodes, value)
        return value

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    config = make(run="suite", evaluation__suite_episodes=2, evaluation__random_episodes=0)
    assert train(config).status == "completed"
    *before, last = Run.named("suite").metrics()
    wanted = {f"eval/{name}/return": world for name, world in suite(config.env).items()}
    assert wanted.keys() == {name for name in last if name.startswith("eval/")}
    assert not any(name.startswith("eval/") for line in before for name in line)
    for name, world in wanted.items():
        assert evaluated[world.model_dump_json()] == (2, last[name])
        assert math.isfinite(last[name])


def test_suite_and_held_out_tasks_are_evaluated_together_and_as_often_as_asked(monkeypatch):
    monkeypatch.setattr(suites, "SUITES", TINY_SETTINGS)
    names = {"eval/return", "eval/narrow/return", "eval/pairs/return"}
    config = tiny_cvc(
        run="both", evaluation__suite_episodes=1, evaluation__episodes=1, evaluation__every=192 * 3,
        evaluation__random_episodes=0,
    )  # fmt: skip
    train(config)
    lines = Run.named("both").metrics()
    measured = [{name for name in line if name.startswith("eval/")} for line in lines]
    assert measured == [set(), set(), names, set(), set(), names]
