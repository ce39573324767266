"""Other people's environments as worlds: episode ends, seeds, workers, agents that end early, and what goes wrong."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import gymnasium
import numpy as np
import psutil
import pytest
import torch
from helpers import rollouts, third_party

from memexp import envs
from memexp.config import CORES, UsageError
from memexp.envs.base import EnvError
from memexp.envs.config import ThirdParty
from memexp.envs.puffer import source, spaces
from memexp.envs.puffer.workers import number_of_workers
from memexp.spaces import CategoriesSpace, ContinuousActions, ImageSpace, MultiDiscreteActions, VectorSpace

COUNTING = "module:helpers.third_party:Counting"
NEEDS_PUFFER = pytest.mark.skipif(find_spec("pufferlib") is None, reason="PufferLib is not installed")
BACKENDS = [{"backend": "serial"}, {"backend": "multiprocessing", "workers": 2}]


def act(env, number=0):
    return env.step(torch.full((env.num_agents,), number))


def play(env, steps):
    for _ in range(steps):
        act(env)


def play_from_reset(env, steps):
    env.reset()
    play(env, steps)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cut", [False, True])
def test_the_step_that_ends_an_episode_begins_the_next_and_keeps_the_true_last_observation(make, backend, cut):
    env = make(COUNTING, 4, options={"length": 5, "cut": cut}, **backend)
    obs = env.reset().clone()
    assert (obs[:, 0] == 0).all()
    for step in range(1, 13):
        before = obs[:, 1].clone()
        obs, reward, terminated, truncated = (tensor.clone() for tensor in act(env, step % 3))
        ends = step % 5 == 0
        assert (reward == (step - 1) % 5 + 1).all()  # no step is made that the environment did not make
        assert (terminated == (ends and not cut)).all()
        assert (truncated == (ends and cut)).all()
        assert (obs[:, 0] == step % 5).all()
        if ends:
            assert (env.final_obs == torch.stack([torch.full((4,), 5.0), before, torch.full((4,), step % 3)], 1)).all()
            assert (obs[:, 1] != before).all()
    episodes = env.pop_episodes()
    assert episodes["return"].tolist() == [15.0] * 8
    assert episodes["length"].tolist() == [5] * 8
    assert episodes["world"].tolist() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_random_steps_before_the_training_are_counted(make, backend):
    env = make(COUNTING, 4, options={"length": 1000}, **backend)
    steps = env.desync()[:, 0].sum()
    assert env.random_steps == steps > 0
    steps += env.load_state_dict(env.state_dict())[:, 0].sum()  # a resumed run plays them again
    assert env.random_steps == steps


def test_what_envs_show_depends_on_seed_env_and_episode_alone(make):
    def shown(first, count, backend, seed=3):
        env = make(COUNTING, count, seed=seed, first_env=first, **backend)
        return torch.stack([env.desync().clone(), *(act(env)[0].clone() for _ in range(20))], 1)

    whole = shown(0, 4, BACKENDS[0])
    assert torch.equal(whole, shown(0, 4, BACKENDS[1]))
    assert torch.equal(whole[2:], shown(2, 2, BACKENDS[0]))
    assert len(whole[..., 1].unique()) >= 4 * 4  # another draw for every world and episode
    assert not torch.equal(whole, shown(0, 4, BACKENDS[0], seed=4))


def test_envs_are_out_of_phase_and_only_whole_episodes_count(make):
    env = make(COUNTING, 64, options={"length": 40})
    env.desync()
    ends = [act(env)[2].sum().item() for _ in range(80)]
    assert max(ends) < 16
    assert len(env.pop_episodes()["return"]) == sum(ends) - 64


def test_restored_envs_begin_the_episodes_that_follow_the_same_ones_every_time(make):
    env, again = (make(COUNTING, 4, seed=2) for _ in range(2))
    env.reset()
    for _ in range(7):
        act(env)
    seen = env._board.episode.copy()
    a, b = env.load_state_dict(env.state_dict()).clone(), again.load_state_dict({"episode": seen}).clone()
    assert torch.equal(a, b)
    assert not env.continues
    for _ in range(8):
        assert torch.equal(act(env)[0], act(again)[0])


def test_an_episode_is_cut_where_the_user_says(make):
    env = make("module:helpers.third_party:Endless", 2, max_steps=7)
    env.reset()
    for step in range(1, 15):
        _, _, terminated, truncated = act(env)
        assert not terminated.any()
        assert (truncated == (step % 7 == 0)).all()
        if step == 7:
            assert (env.final_obs[:, 0] == 7).all()
    assert env.pop_stats()["env/cut"] == 1


def test_an_environment_whose_episodes_never_end_is_refused(make, monkeypatch):
    monkeypatch.setattr("memexp.envs.puffer.source.LIMIT", 50)
    env = make("module:helpers.third_party:Endless", 2)
    env.reset()
    with pytest.raises(UsageError, match=r"no episode ended within .* steps.*env\.max_steps=500"):
        play(env, 60)


@pytest.mark.parametrize("backend", BACKENDS)
def test_agents_that_end_early_wait_for_their_env(make, backend):
    env = make("module:helpers.third_party:Pair", 2, **backend)
    assert env.num_agents == 4
    assert env.reset().tolist() == [[0, 0], [0, 1]] * 2
    rows = []
    for _ in range(4):
        obs, reward, terminated, truncated = act(env)
        assert not truncated.any()
        rows.append((reward[:2].tolist(), terminated[:2].tolist(), obs[:2, 0].tolist()))
        if len(rows) == 2:
            assert env.final_obs[1].tolist() == [2, 1]
        if len(rows) == 4:
            assert env.final_obs[0].tolist() == [4, 0]
    assert rows == [
        ([1, 1], [False, False], [1, 1]),
        ([2, 2], [False, True], [2, 2]),
        ([3, 0], [False, False], [3, 0]),
        ([4, 0], [True, True], [0, 0]),
    ]
    episodes = env.pop_episodes()
    assert episodes["return"].tolist() == [(1 + 2 + 3 + 4 + 1 + 2) / 2] * 2
    assert episodes["length"].tolist() == [4, 4]


def test_our_own_envs_come_back_through_pettingzoo(make):
    env = make("module:memexp.envs:make_pettingzoo", 2, options={"name": "tmaze", "length": 2})
    env.reset()
    for _ in range(20):
        act(env, 1)
    assert env.observation.size == 5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["Going", "CarelessPair"])
def test_an_error_of_the_environment_is_told_with_its_own_traceback(make, name, backend):
    env = make(f"module:helpers.third_party:{name}", 2, options={"how": "crash"}, **backend)
    env.reset()
    with pytest.raises(EnvError) as caught:
        play(env, 3)
    text = str(caught.value)
    assert "ZeroDivisionError: the wheel came off" in text
    assert "third_party.py" in text
    assert "pufferlib" not in text


def test_a_worker_that_dies_is_noticed(make):
    env = make("module:helpers.third_party:Going", 4, options={"how": "die"}, backend="multiprocessing", workers=2)
    env.reset()
    with pytest.raises(EnvError, match=r"worker \d, which ran 2 environments, died \(killed by SIGKILL\)"):
        play(env, 3)


NOT_FINITE = "no finite number in single precision"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("how", "what"),
    [
        (
            "nan observation",
            r"step\(\) returned the observation \[ ?nan .*\] \(float32, shape \(3,\)\), which holds nan",
        ),
        ("nan reward", r"step\(\) returned the reward nan"),
        ("huge reward", r"step\(\) returned the reward 1e\+300"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numbers_that_are_not_finite_are_refused_with_their_place(make, how, what, warm, backend):
    """Also in the random steps that bring the environments out of phase."""
    env = make("module:helpers.third_party:Going", 2, options={"how": how}, first_env=5, **backend)
    place = r"\(env [56], episode 0, step 3\)$"
    if not warm:
        env.reset()
        act(env)
        act(env)
    with pytest.raises(EnvError, match=f"^[^\n]*: {what}, {NOT_FINITE} {place}"):
        env.desync() if warm else act(env)


@pytest.mark.parametrize(("shown", "held"), [("nan", "nan"), ("huge", r"1e\+300")])
def test_a_number_that_is_not_finite_at_the_very_start_is_refused_with_its_place_too(make, shown, held):
    """'huge' is a double that no policy can read."""
    said = rf"reset\(\) returned 'place' of the observation \[.*\), which holds {held}, {NOT_FINITE}"
    with pytest.raises(EnvError, match=rf"^[^\n]*: {said} \(env 5, episode 0, step 0\)$"):
        make("module:helpers.third_party:Naming", 2, options={"shown": shown}, first_env=5).reset()


PARTED = "module:helpers.third_party:Parted"
NOT_IN = {
    (("cue",), "gone"): "the observation {VALUE}, which lacks 'cue'",
    (("more",), 1): "the observation {VALUE}, which has an unknown 'more'",
    (("far", 1), "gone"): "'far' of the observation [1], which has 1 parts, not 2",
    (("far", 0), 3): "'far.f0' of the observation 3, which is not in its observation_space, Discrete(2, start=1)",
    (("far", 1, "bits"), "gone"): "'far.f1' of the observation {{}}, which lacks 'bits'",
    (("far", 1, "bits"), (0.5, 0, 1)): "'far.f1.bits' of the observation (0.5, 0, 1), which is not in its",
    (("far",), 1): "'far' of the observation 1, which is not in its observation_space, Tuple(",
    (("place",), (1.0,)): "'place' of the observation (1.0,), which is not in its observation_space, Box(",
    (("place",), 1.0): "'place' of the observation 1.0, which is not in its",
    (("place",), ((1.0,), (1.0, 2.0))): "'place' of the observation ((1.0,), (1.0, 2.0)), which is not in its",
    (
        ("place",),
        (1e300, 0, 0, 0),
    ): "'place' of the observation (1e+300, 0, 0, 0), which holds 1e+300, no finite number",
    (("place",), ("1", "2", "3", "4")): "'place' of the observation ('1', '2', '3', '4'), which is not in its",
    (("map",), ((0.5, 0), (0, 0))): "'map' of the observation ((0.5, 0), (0, 0)), which is not in its",
    (("map",), ((256, 0), (0, 0))): "'map' of the observation ((256, 0), (0, 0)), which is not in its",
    (("map",), ((-1, 0), (0, 0))): "'map' of the observation ((-1, 0), (0, 0)), which is not in its",
    (("map",), None): "'map' of the observation None, which is not in its",
    (("names",), (2, 4)): "'names' of the observation (2, 4), which is not in its observation_space, MultiDiscrete(",
    (("names",), (2, -1)): "'names' of the observation (2, -1), which is not in its",
    (("names",), (2.0, 1.9)): "'names' of the observation (2.0, 1.9), which is not in its",
    (("names",), (10**30, 1)): "'names' of the observation (1000000000000000000000000000000, 1), which is not in its",
    (("cue",), 1.5): "'cue' of the observation 1.5, which is not in its observation_space, Discrete(3)",
    (("cue",), (1,)): "'cue' of the observation (1,), which is not in its",
    (("said",), 3): "'said' of the observation 3, which is not in its observation_space, Text(",
    (("said",), "no " * 97): "'said' of the observation no no no no no no no no no no no no no no no no no no no no",
}


@pytest.mark.parametrize(("path", "value"), NOT_IN)
@pytest.mark.parametrize(
    ("name", "agent", "backend"),
    [("Parted", "", BACKENDS[0]), ("PartedPair", "for b ", BACKENDS[0])],
)
def test_every_part_of_every_observation_is_held_to_its_space(make, name, agent, backend, path, value):
    name = f"module:helpers.third_party:{name}"
    env = make(name, 2, options={"path": path, "value": value}, first_env=5, **backend)
    env.reset()
    act(env)
    with pytest.raises(EnvError) as caught:
        act(env)
    before, _, after = f"{name}: step() returned {agent}{NOT_IN[path, value]}".partition("{VALUE}")
    assert str(caught.value).startswith(before.replace("{{", "{").replace("}}", "}"))
    assert after in str(caught.value)
    assert re.search(r"\(env 5, episode 0, step 2\)$", str(caught.value))
    assert "\n" not in str(caught.value)


def test_an_observation_in_a_worker_is_held_to_its_space(make):
    env = make(PARTED, 2, options={"path": ["cue"]}, **BACKENDS[1])
    with pytest.raises(EnvError, match=r"step\(\) returned the observation .*, which lacks 'cue' \(env \d, episode 0"):
        play_from_reset(env, 2)


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        (gymnasium.spaces.Box(0, 255, (2,), np.uint8), [1.5, 2]),
        (gymnasium.spaces.Box(0, 255, (2,), np.uint8), np.array([1.0, 2.0])),
        (gymnasium.spaces.Box(0, 255, (2,), np.uint8), np.array([1, 256])),
        (gymnasium.spaces.Box(-128, 127, (2,), np.int8), np.array([1, 200])),
        (gymnasium.spaces.Box(-1, 1, (2,), np.float32), np.array([1, 1e300])),
        (gymnasium.spaces.Box(-1, 1, (2,), np.float32), ["1", "2"]),
        (gymnasium.spaces.Box(-1, 1, (2,), np.float32), [[1, 2]]),
        (gymnasium.spaces.Box(-1, 1, (2,), np.float32), [[1], [1, 2]]),
        (gymnasium.spaces.Box(-1, 1, (2,), np.float16), np.array([1, 1e5], np.float32)),
    ],
)
def test_what_the_type_of_a_space_cannot_hold_is_not_in_it(space, wrong):
    assert spaces.reader(space)(wrong) is None


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (gymnasium.spaces.Box(0, 255, (2,), np.uint8), [1, 255]),
        (gymnasium.spaces.Box(0, 255, (2,), np.uint8), np.array([1, 255])),
        (gymnasium.spaces.Box(-1, 1, (2,), np.float32), np.array([1, 2])),
        (gymnasium.spaces.Box(-1, 1, (2,), np.float32), [True, 2.5]),
        (gymnasium.spaces.MultiBinary(2), [1.0, 0.0]),
        (gymnasium.spaces.MultiBinary(2), np.array([True, False])),
        (gymnasium.spaces.Discrete(3), np.array(2)),
        (gymnasium.spaces.Discrete(3), np.int64(2)),
    ],
)
def test_what_the_type_of_a_space_can_hold_arrives_unchanged(space, obs):
    assert np.array_equal(spaces.reader(space)(obs), obs)


def test_a_name_out_of_its_range_is_refused_with_its_place(make):
    env = make("module:helpers.third_party:Naming", 2, options={"later": 4}, first_env=5)
    env.reset()
    act(env)
    with pytest.raises(
        EnvError, match=r": step\(\) returned 'name' of the observation \[8 4\].*\(env 5, episode 0, step 2\)"
    ):
        act(env)


WORDS = [f"word{i}" for i in range(200)]


def test_a_text_is_two_numbers_a_word_in_order_and_different_words_have_different_ones(make):
    assert len({tuple(spaces.reader(gymnasium.spaces.Text(9))(word)[0]) for word in WORDS}) == len(WORDS)
    env = make("module:helpers.third_party:Told", 64)
    rows = env.reset().numpy().view(np.int16).reshape(64, -1, 2)
    said = {"take the left": 3, "take the right": 3, "wait, do not take any": 6}
    expected = {spaces.reader(gymnasium.spaces.Text(99))(text).tobytes() for text in said}
    assert {row.tobytes() for row in rows} == expected
    assert {int((row[:, 0] > 0).sum()) for row in rows} == set(said.values())
    assert (rows[:, 6:] == 0).all()


@pytest.mark.parametrize(
    ("id", "parts"),
    [
        ("MiniGrid-MemoryS7-v0", ["direction", "image"]),
        ("MiniGrid-Fetch-5x5-N2-v0", ["direction", "image", "mission"]),
        ("BabyAI-GoToLocal-v0", ["direction", "image", "mission"]),
    ],
)
def test_a_mission_is_left_out_only_where_its_space_contains_no_other(make, id, parts):
    pytest.importorskip("minigrid")
    env = make(f"gym:{id}", 8)
    assert [part.name for part in env.observation.parts] == parts
    rows = env.reset().numpy()[:, -4 * spaces.TEXT.words :]
    assert "mission" not in parts or len(np.unique(rows, axis=0)) > 1


def test_a_text_that_its_space_does_not_contain_is_no_constant():
    class Mission(gymnasium.spaces.Space):
        def __init__(self):
            super().__init__(dtype=str)

        def sample(self):
            return "go"

        def contains(self, x):
            return x == "go"

    read = spaces.AsBytes(gymnasium.spaces.Dict({"mission": Mission(), "n": gymnasium.spaces.Discrete(2)}))
    assert read({"mission": "go", "n": 1}).view(np.int32).tolist() == [1]
    for wrong in ("stop", np.array([1]), None):
        with pytest.raises(
            spaces.NotInSpaceError, match=f"'mission' of the observation {re.escape(str(wrong))}.*, which"
        ):
            read({"mission": wrong, "n": 1})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("place", ["reset", "step"])
@pytest.mark.parametrize("code", [0, None, 3, "the simulator has gone"])
def test_an_environment_that_ends_the_interpreter_is_told_with_its_words(make, backend, place, code):
    env = make("module:helpers.third_party:Closed", 2, options={"place": place, "code": code}, **backend)
    with pytest.raises(EnvError, match=re.escape(f": sys.exit({code!r}) was called (")) as caught:
        play_from_reset(env, 1)
    assert re.search(r"third_party.py, line \d+\) \(env \d, episode 0, step [01]\)$", str(caught.value))


def test_an_environment_that_ends_the_interpreter_when_it_is_made_cannot_be_made():
    with pytest.raises(
        UsageError, match=r"cannot be made: SystemExit: the simulator has gone \(.*third_party.py, line"
    ):
        envs.make("module:helpers.third_party:Closed", 2, options={"place": "init"})


def test_what_an_environment_does_when_it_is_closed_is_printed_and_stops_nothing(capsys):
    env = envs.make("module:helpers.third_party:Closed", 2, options={"place": "close"}, **BACKENDS[0])
    env.reset()
    env.close()
    assert "sys.exit('the simulator has gone') was called" in capsys.readouterr().err


def test_parts_may_be_numbered(make):
    env = make("module:helpers.third_party:Numbered", 2)
    assert env.reset().numpy().view(np.int32).tolist() == [[2, 1]] * 2
    assert [part.name for part in env.observation.parts] == ["0", "1"]


@pytest.mark.parametrize("shown", ["list", "doubles"])
def test_parts_of_observations_may_be_lists_doubles_and_outside_their_bounds(make, shown):
    env = make("module:helpers.third_party:Naming", 2, options={"shown": shown})
    plain = make("module:helpers.third_party:Naming", 2)
    assert torch.equal(env.reset(), plain.reset())
    assert torch.equal(act(env)[0], act(plain)[0])


CARELESS, CARELESS_PAIR = "module:helpers.third_party:Careless", "module:helpers.third_party:CarelessPair"


def assert_told_in_one_line(make, name, how, message):
    env = make(name, 2, options={"how": how})
    with pytest.raises(EnvError) as caught:
        play_from_reset(env, 3)
    assert str(caught.value).startswith(f"{name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("old reset", "(float32, shape (3,)), not the 2 values (observation, info)"),
        (
            "old step",
            "step() returned 4 values, not the 5 values (observation, reward, terminated, truncated, info)",
        ),
        (
            "wide",
            "reset() returned the observation [0. 0. 0. 0.] (float32, shape (4,)), "
            "which is not in its observation_space, Box(",
        ),
        (
            "wide later",
            "step() returned the observation [0. 0. 0. 0.] (float32, shape (4,)), "
            "which is not in its observation_space",
        ),
        ("complex", "(complex64, shape (3,)), which is not in its observation_space, Box("),
        ("nothing", "reset() returned the observation None, which is not in its observation_space"),
        ("no reward", "step() returned the reward None, which is not a number"),
        ("rewards", "step() returned the reward [1. 1. 1.] (float64, shape (3,)), which is not a number"),
        ("word", "step() returned the reward much, which is not a number"),
    ],
)
def test_an_environment_that_does_not_keep_gymnasiums_interface_is_told_so_in_one_line(make, how, message):
    assert_told_in_one_line(make, CARELESS, how, message)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("old reset", "not the 2 values (observations, infos)"),
        (
            "old step",
            "step() returned 4 values, not the 5 values (observations, rewards, terminations, truncations, inf",
        ),
        (
            "one array",
            "reset() returned [[0. 0.] [0. 0.]] (float32, shape (2, 2)), "
            "not a dict with one observation for each agent",
        ),
        ("stranger", "reset() returned an observation for c; possible_agents are ['a', 'b']"),
        ("late", "reset() returned no observation for b; the playing agents are ['a', 'b']"),
        ("dead unseen", "step() returned no observation for b; the playing agents are ['a', 'b']"),
        ("live unseen", "step() returned no observation for b; the playing agents are ['a', 'b']"),
        (
            "narrow later",
            "step() returned for a the observation [0.] (float32, shape (1,)), "
            "which is not in its observation_space, Box(",
        ),
        ("no reward", "step() returned an observation for b, but its rewards are {'a': 1.0}"),
        ("word", "step() returned for b the reward much, which is not a number"),
        ("one number", "step() returned an observation for a, but its rewards are 1.0"),
    ],
)
def test_an_environment_that_does_not_keep_pettingzoos_interface_is_told_so_in_one_line(make, how, message):
    assert_told_in_one_line(make, CARELESS_PAIR, how, message)


@pytest.mark.parametrize("how", ["lists", "outside"])
def test_agents_may_be_shown_lists_and_numbers_outside_the_bounds_of_their_space(make, how):
    env, plain = make(CARELESS_PAIR, 2, options={"how": how}), make(CARELESS_PAIR, 2)
    assert torch.equal(env.reset(), plain.reset())
    for _ in range(5):
        for a, b in zip(act(env), act(plain), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("how", ["list", "array", "double"])
def test_lists_and_doubles_are_observations_and_arrays_of_one_number_are_rewards(make, how):
    env, plain = make(CARELESS, 2, options={"how": how}), make(CARELESS, 2)
    assert torch.equal(env.reset(), plain.reset())
    for a, b in zip(act(env), act(plain), strict=True):
        assert torch.equal(a, b)


def test_numbers_outside_the_bounds_of_their_space_are_observations(make):
    assert (make(CARELESS, 2, options={"how": "outside"}).reset() == 1e6).all()


def test_a_reset_that_raises_is_not_tried_again_without_its_seed(make):
    env = make(CARELESS, 2, options={"raising": "reset"})
    with pytest.raises(EnvError) as caught:
        env.reset()
    text = str(caught.value)
    assert text.endswith("RuntimeError: the map is missing")
    assert "third_party.py" in text
    assert text.count("Traceback") == 1
    assert "pufferlib" not in text


@pytest.mark.parametrize(
    "text",
    ["m:f(a=1).g(b=2)", "m:f(a=1)(b=2)", "m:f(1)", "m:f(**{'a': 1})", "m:f(a=open('x'))", "m:f(a=1"],
)
def test_a_wrapper_that_is_not_one_call_with_keywords_is_refused(text):
    with pytest.raises(UsageError, match=r"is not MODULE:CALLABLE\(keyword=value, ...\)"):
        envs.make(COUNTING, 2, wrappers=[text])


CHILD = (
    "import sys, torch; from memexp import envs;"
    f"env = envs.make('{COUNTING}', 4, backend='multiprocessing', workers=2); env.reset();"
    "print(*(p.pid for p in env._vec.processes), flush=True);"
    "{then}"
)


@pytest.mark.parametrize(
    ("how", "then"),
    [
        (signal.SIGKILL, "sys.stdin.read()"),
        (signal.SIGTERM, "sys.stdin.read()"),
        (None, "sys.exit()"),
        (None, "raise SystemExit(env.step(torch.zeros(7, dtype=torch.int64)))"),
    ],
)
def test_no_worker_outlives_the_process_that_started_it(how, then):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(then=then)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    if how:
        process.send_signal(how)
    process.wait(60)
    _, alive = psutil.wait_procs(workers, 30)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_leave_it_to_the_trainer_what_a_signal_to_all_processes_means(make, number):
    env = make(COUNTING, 4, backend="multiprocessing", workers=2)
    env.reset()
    for process in env._vec.processes:
        os.kill(process.pid, number)
    play(env, 50)
    assert all(process.is_alive() for process in env._vec.processes)


def test_workers_end_with_their_envs(make):
    env = make(COUNTING, 4, backend="multiprocessing", workers=2)
    env.reset()
    workers = [psutil.Process(process.pid) for process in env._vec.processes]
    env.close()
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.parametrize("world", rollouts.WORLDS)
def test_the_same_seeds_give_the_same_results_with_and_without_pufferlib_and_workers(world, monkeypatch):
    found = {rollouts.digest(world, backend["backend"]) for backend in BACKENDS}
    monkeypatch.setattr("memexp.envs.puffer.workers.pufferlib", None)
    found |= {rollouts.digest(world, backend["backend"]) for backend in BACKENDS}
    assert len(found) == 1


@pytest.mark.parametrize("library", [pytest.param(True, marks=NEEDS_PUFFER), False])
def test_a_dead_worker_is_one_line_whoever_steps_the_environments(library, make, monkeypatch):
    if not library:
        monkeypatch.setattr("memexp.envs.puffer.workers.pufferlib", None)
    env = make(COUNTING, 4, backend="multiprocessing", workers=2)
    env.reset()
    os.kill(env._vec.processes[1].pid, signal.SIGKILL)
    with pytest.raises(EnvError, match=r"^worker 1, which ran 2 environments, died \(killed by SIGKILL\)"):
        play(env, 50)


@pytest.mark.parametrize("seen", third_party.Showing.SEEN)
def test_every_space_of_observations_arrives_as_it_was_shown(make, seen):
    env = make("module:helpers.third_party:Showing", 2, options={"seen": seen})
    plain = third_party.Showing(seen)
    obs = env.reset()
    for _ in range(3):
        act(env)
    from memexp.envs.base import mix64
    from memexp.policy.gym_encoders import read_part
    from memexp.spaces import StructSpace

    expected, _ = plain.reset(seed=mix64(0, 0, 0) >> 33)
    obs = env.reset()
    flat = np.concatenate([np.ravel(leaf) for leaf in leaves(expected)]).astype(np.float32)
    if isinstance(env.observation, StructSpace):
        shown = torch.cat([read_part(obs[:1], part).float().flatten() for part in env.observation.parts])
    else:
        shown = obs[0].float().flatten()
    assert shown.tolist() == flat.tolist()


def test_parts_of_a_dict_stand_one_after_the_other_and_categories_count_from_zero(make):
    """Offsets, kinds and numbers of every part, read out of the bytes by hand."""
    env = make("module:helpers.third_party:Showing", 3, seed=8, options={"seen": "dict"})
    parts = [(part.name, part.space, part.offset, part.shape, part.dtype) for part in env.observation.parts]
    assert parts == [
        ("a", VectorSpace(3, normalise=True), 0, (3,), "float32"),
        ("b", CategoriesSpace((4,)), 12, (1,), "int32"),
        ("c.d", ImageSpace((7, 7, 3)), 16, (7, 7, 3), "uint8"),
        ("c.e", CategoriesSpace((2, 9)), 164, (2,), "int32"),
    ]
    rows = env.reset().numpy()
    assert rows.shape == (3, 172)
    seen = set()
    for row in rows:
        a, b, d, e = row[:12].view(np.float32), row[12:16].view(np.int32), row[16:163], row[164:172].view(np.int32)
        assert (np.abs(a) <= 1).all()
        assert np.ptp(a) > 0
        assert 0 <= b[0] < 4
        assert 0 <= e[0] < 2
        assert 0 <= e[1] < 9
        assert len(set(d.tolist())) > 50
        seen.add((*a.tolist(), *b.tolist(), *d.tolist(), *e.tolist()))
    assert len(seen) == 3


@pytest.mark.parametrize(("seen", "counts"), [("name", (5,)), ("names", (3, 4, 2)), ("late names", (5,))])
def test_categories_reach_the_policy_as_the_environment_numbers_them(make, seen, counts):
    env = make("module:helpers.third_party:Showing", 64, options={"seen": seen})
    (part,) = env.observation.parts
    assert part.space == CategoriesSpace(counts)
    numbers = env.reset().numpy().view(np.int32)
    least = 2 if seen == "late names" else 0
    for column, count in zip(numbers.T, counts, strict=True):
        assert set(column.tolist()) == set(range(least, count))


def test_a_dict_of_pixels_and_numbers_keeps_the_numbers_of_each_step(make):
    env = make("module:helpers.third_party:Naming", 2, options={"later": 2})
    rows = [env.reset().clone(), *(act(env)[0].clone() for _ in range(2))]
    name, place = ([part for part in env.observation.parts if part.name == key] for key in ("name", "place"))
    shown = [row.numpy()[0, name[0].offset :][:8].view(np.int32).tolist() for row in rows]
    assert shown == [[8, 3], [8, 3], [8, 2]]
    assert rows[2].numpy()[1, place[0].offset :][:8].view(np.float32).tolist() == [0.5, 7.0]


def test_a_message_names_env_episode_and_step_also_where_an_earlier_episode_is_meant(make):
    knobs = {"first_env": 5, "backend": "serial"}
    env = make("module:helpers.third_party:Going", 2, options={"how": "nan reward", "length": 3}, **knobs)
    env.reset()
    with pytest.raises(EnvError, match=r"the reward nan, .* \(env 5, episode 0, step 3\)$"):  # it ends there
        play(env, 3)
    env = make(CARELESS, 2, options={"how": "wide later"}, **knobs)
    with pytest.raises(EnvError, match=r"\(env 5, episode 0, step 2\)$"):
        play_from_reset(env, 2)


def leaves(value):
    """Everything in a nested observation, in order."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key])]
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("done", ["choice", "choices", "torques", "free", "late choice"])
def test_every_space_of_actions_reaches_the_environment(make, done):
    env = make("module:helpers.third_party:Showing", 3, options={"done": done})
    obs, generator = env.reset(), torch.Generator().manual_seed(0)
    for _ in range(14):
        env.step(envs.base.random_actions(env, obs, generator) * (3 if done in ("torques", "free") else 1))
    assert len(env.pop_episodes()["return"]) == 6
    expected = {"choices": MultiDiscreteActions((2, 3)), "torques": ContinuousActions(2), "free": ContinuousActions(2)}
    assert env.actions == expected.get(done, env.actions)


def test_continuous_actions_between_minus_one_and_one_span_the_bounds(make):
    env = make("module:helpers.third_party:Showing", 1, options={"done": "torques"})
    for given, meant in [(-1, [-2, 0]), (1, [2, 1]), (0, [0, 0.5]), (9, [2, 1])]:
        assert env._translate(torch.full((1, 2), float(given))).tolist() == [meant]


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("gym:CartPoll-v1", {}, "unknown environment 'gym:CartPoll-v1'.*did you mean 'CartPole-v1'"),
        ("gym:CartPole-v1", {"options": {"wheels": 4}}, "cannot be made.*wheels"),
        ("gym:no_such_package:Thing-v0", {}, "there is no module 'no_such_package'"),
        ("module:helpers.third_party:Count", {}, "has no 'Count'; did you mean 'Counting'"),
        (
            "module:helpers.third_party:Zzz",
            {},
            "has no 'Zzz'; known: Blinking, .*Counting, ((?!spaces|Any).)*$",
        ),
        ("module:helpers.third_party", {}, "is not MODULE:CALLABLE"),
        ("module:helpers.third_party:Graphic", {}, "'hint' of the observation is Graph, which no encoder reads"),
        ("module:helpers.third_party:Showing", {"options": {"done": "dict"}}, "actions are Dict.*env.wrappers"),
        ("gym:CartPole-v1", {"wrappers": ["memexp.envs.wrappers:hid"]}, "has no 'hid'; did you mean 'hide'"),
        ("gym:CartPole-v1", {"wrappers": ["memexp.envs.wrappers:hide(1, 3)"]}, "keyword=value"),
        ("gym:CartPole-v1", {"workers": 3, "backend": "multiprocessing"}, "env.workers=3 does not divide the 2 envs"),
        (CARELESS, {"options": {"raising": "init"}}, r"RuntimeError: no licence found \(.*third_party.py, line \d+\)"),
        ("pettingzoo:no_such_v1", {}, "there is no module 'no_such_v1'"),
        ("pettingzoo:classic.tictactoe_v3", {}, r"turn-based \(AEC\)"),
        ("module:pettingzoo.classic.tictactoe_v3:env", {}, r"turn-based \(AEC\)"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(name, knobs, message):
    with pytest.raises(UsageError, match=message) as caught:
        envs.make(name, 2, **knobs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("columns", ["[1, 4]", "[-1]", "[0, 1, 2, 3]"])
def test_a_wrapper_hides_no_columns_that_are_not_there_and_not_all(columns):
    with pytest.raises(
        UsageError, match=rf"hide\(columns={re.escape(columns)}\): the environment's observations are Box"
    ):
        envs.make("gym:CartPole-v1", 2, wrappers=[f"memexp.envs.wrappers:hide(columns={columns})"])


def test_a_wrapper_hides_what_memory_would_have_to_keep(make):
    hidden = make("gym:CartPole-v1", 2, wrappers=["memexp.envs.wrappers:hide(columns=[1, 3])"])
    plain = make("gym:CartPole-v1", 2)
    assert torch.equal(hidden.reset(), plain.reset()[:, [0, 2]])


def test_a_wrapper_leaves_actions_out(make):
    env = make("gym:CartPole-v1", 2, wrappers=["memexp.envs.wrappers:only_actions(actions=[1])"])
    plain = make("gym:CartPole-v1", 2)
    assert env.num_actions == 1
    env.reset(), plain.reset()
    for _ in range(5):
        assert torch.equal(act(env, 0)[0], act(plain, 1)[0])
    with pytest.raises(UsageError, match="actions are Discrete"):
        make("gym:CartPole-v1", 2, wrappers=["memexp.envs.wrappers:only_actions(actions=[2])"])


def test_waiting_for_workers_takes_no_longer_than_they_need(make):
    """A smoke test of the waiting loop: many steps, each of which would hang for ever if a signal were lost."""
    env = make(COUNTING, 4, backend="multiprocessing", workers=2)
    env.reset()
    started = time.monotonic()
    for _ in range(200):
        act(env)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("given", "threshold", "solved"), [(3.0, 475, None), (3.0, None, None), (None, 475, 475), (None, None, None)]
)
def test_the_registrys_threshold_counts_as_solved_unless_a_ceiling_is_given_never_the_range_of_one_reward(
    given, threshold, solved
):
    env = third_party.Counting()
    env.reward_range = (0, 1)
    env.spec = gymnasium.envs.registration.EnvSpec("Counting-v0", reward_threshold=threshold)
    assert source.solved_return(ThirdParty(id=COUNTING, ceiling_return=given), env) == solved


@pytest.mark.parametrize(
    ("cores", "ranks", "workers"), [(None, 1, 4), ("16", 1, 4), ("4", 1, 2), ("2", 1, 0), ("8", 2, 2), (None, 4, 0)]
)
def test_workers_take_the_cores_that_are_left_to_the_run(monkeypatch, cores, ranks, workers):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    monkeypatch.delenv(CORES, raising=False) if cores is None else monkeypatch.setenv(CORES, cores)
    assert number_of_workers(ThirdParty(id="gym:CartPole-v1"), 64) == workers


@pytest.mark.parametrize("cores", ["", "two", "0", "-1", "1.5"])
def test_a_number_of_cores_that_is_none_is_refused(monkeypatch, cores):
    monkeypatch.setenv(CORES, cores)
    with pytest.raises(UsageError, match=f"^MEMEXP_CORES={re.escape(cores)} is not a number of cores"):
        number_of_workers(ThirdParty(id="gym:CartPole-v1"), 64)
