"""Batches, which one vector environment steps: who resets them, seeds, what is learnt from, and what goes wrong."""

import re
from contextlib import nullcontext

import pytest
import torch
from helpers.third_party import Showing

from memexp import envs
from memexp.config import UsageError
from memexp.envs.base import EnvError, random_actions
from memexp.policy.actions import Categorical
from memexp.ppo.rollout import ActionNoise, Actor, Segments, collect
from memexp.ppo.timing import Stopwatch

BATCH, LENGTHS = "module:helpers.batches:batch", "module:helpers.batches:lengths"
MODES = ("Disabled", "SameStep", "NextStep")


def act(env, number=0):
    return [tensor.clone() for tensor in env.step(torch.full((env.num_agents,), number))]


def play(env, steps):
    for _ in range(steps):
        act(env)


def next_played(env, number):
    """The next step in which every environment of the batch plays."""
    if env.resetting is not None and env.resetting.any():
        assert env.resetting.all()
        obs, reward, terminated, truncated = act(env, 2)
        assert (reward == 0).all()  # and `terminated`: the memory of what was shown before is cleared
        assert (terminated.all(), truncated.any()) == (True, False)
        assert (obs[:, 0] == 0).all()
    return act(env, number)


@pytest.mark.parametrize("how", ["", "tensors"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [False, True])
def test_every_step_and_every_true_last_observation_is_as_in_environments_stepped_one_by_one(make, mode, cut, how):
    env = make(BATCH, 4, options={"length": 5, "cut": cut, "mode": mode, "how": how})
    assert (env.reset()[:, 0] == 0).all()
    for step in range(1, 13):
        number, ends = step % 3, step % 5 == 0
        obs, reward, terminated, truncated = next_played(env, number)
        assert (reward == (step - 1) % 5 + 1).all()
        assert (terminated == (ends and not cut)).all()
        assert (truncated == (ends and cut)).all()
        if mode != "NextStep":
            assert (obs[:, 0] == step % 5).all()
        if ends:
            assert (env.final_obs[:, 0] == 5).all()
            assert (env.final_obs[:, 2] == number).all()
            assert len(env.final_obs[:, 1].unique()) == 4  # every environment has draws of its own
    episodes = env.pop_episodes()
    assert episodes["return"].tolist() == [15.0] * 8
    assert episodes["length"].tolist() == [5] * 8
    assert episodes["world"].tolist() == [0, 1, 2, 3] * 2
    assert (episodes["env/cut"] == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_what_a_batch_shows_depends_on_seed_first_environment_and_episodes_alone(make, mode):
    def shown(seed=3, first=0):
        env = make(BATCH, 4, seed=seed, first_env=first, options={"mode": mode})
        return torch.stack([env.desync().clone(), *(act(env)[0] for _ in range(20))], 1)

    assert torch.equal(shown(), shown())
    assert not torch.equal(shown(), shown(seed=4))
    assert not torch.equal(shown(), shown(first=4))
    env = make(BATCH, 4, options={"mode": mode})
    first = env.reset().clone()
    act(env)
    assert torch.equal(env.reset(), first)
    assert len(first[:, 1].unique()) == 4


@pytest.mark.parametrize("mode", MODES)
def test_a_restored_batch_begins_other_episodes_the_same_ones_every_time(make, mode):
    env, again = (make(BATCH, 4, seed=2, options={"mode": mode}) for _ in range(2))
    begun = env.desync().clone()
    state = env.state_dict()
    for _ in range(7):
        act(env)
    assert not env.continues
    a, b = env.load_state_dict(state).clone(), again.load_state_dict(state).clone()
    assert torch.equal(a, b)
    assert not torch.equal(a, begun)
    for _ in range(8):
        assert torch.equal(act(env)[0], act(again)[0])
    later = env.load_state_dict(env.state_dict())
    assert not torch.equal(later, a)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_random_steps_of_a_batch_are_counted(make, mode):
    env = make(BATCH, 4, options={"length": 1000, "mode": mode})
    assert env.desync()[:, 0].sum() == env.random_steps == 4 * 256


def test_environments_that_memexp_resets_are_out_of_phase_and_only_whole_episodes_count(make):
    env = make(BATCH, 64, options={"length": 40, "mode": "Disabled"})
    env.desync()
    ends = [act(env)[2].sum().item() for _ in range(80)]
    assert max(ends) < 16
    assert len(env.pop_episodes()["return"]) == sum(ends) - 64


def test_episodes_are_cut_where_the_user_says_if_memexp_resets_them(make):
    env = make(BATCH, 2, max_steps=7, options={"of": "Endless", "mode": "Disabled"})
    env.reset()
    for step in range(1, 15):
        obs, _, terminated, truncated = act(env)
        assert not terminated.any()
        assert (truncated == (step % 7 == 0)).all()
        assert (obs[:, 0] == step % 7).all()
        if step == 7:
            assert (env.final_obs[:, 0] == 7).all()
    assert env.pop_stats()["env/cut"] == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_whose_episodes_never_end_is_refused(make, monkeypatch, mode):
    monkeypatch.setattr("memexp.envs.puffer.source.LIMIT", 50)
    env = make(BATCH, 2, options={"of": "Endless", "mode": mode})
    env.reset()
    with pytest.raises(UsageError, match=r"no episode ended within .* steps: .*env\.(max_steps|options)"):
        play(env, 60)


class Knowing(torch.nn.Module):
    """A policy whose value is the steps since its memory was reset, plus what it sees; its action follows the steps."""

    actions = Categorical(3)

    def forward(self, obs, state, resets):
        age = torch.where(resets, 0.0, state["age"]) + 1
        logits = torch.nn.functional.one_hot(age.long() % 3, 3) * 1e9
        return logits, 100 * age + obs.sum(-1), {"age": age}


def rollout(env, horizon):
    obs, n = env.reset(), env.num_agents
    actor = Actor(obs, {"age": torch.zeros(n)}, torch.ones(n, dtype=torch.bool))
    segments, cpu = Segments.empty(env, obs, horizon), torch.device("cpu")
    noise = ActionNoise(0, n, 0, n, cpu)
    last = collect(Knowing(), env, actor, noise, segments, 0.5, nullcontext(), Stopwatch(cpu))
    return {**vars(segments), "last": last}, actor


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("horizon", [3, 9, 16])
def test_nothing_is_learnt_from_steps_that_only_reset(make, horizon, cut):
    """The segments are those of the same environments where memexp resets them, which adds no steps."""
    expected, _ = rollout(make(LENGTHS, 5, options={"mode": "Disabled", "cut": cut}), horizon)
    same, _ = rollout(make(LENGTHS, 5, options={"mode": "SameStep", "cut": cut}), horizon)
    found, actor = rollout(make(LENGTHS, 5, options={"mode": "NextStep", "cut": cut}), horizon)
    for name, value in expected.items():
        if name == "start":
            assert torch.equal(found[name]["age"], value["age"])
            continue
        assert torch.equal(same[name], value), name
        ended = value[:, -1] if name == "dones" else expected["dones"][:, -1]
        rows = slice(None) if name != "last" else ~ended  # nothing reads the value after an end
        assert torch.equal(found[name][rows], value[rows]), name
    assert expected["dones"].any()
    assert (actor.state["age"] >= 1).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seen", Showing.SEEN)
def test_every_space_of_observations_arrives_as_a_batch_as_it_does_one_by_one(make, seen, mode):
    env = make(BATCH, 3, options={"of": "Showing", "seen": seen, "mode": mode})
    one_by_one = make("module:helpers.third_party:Showing", 3, options={"seen": seen})
    assert (env.observation, env.reading) == (one_by_one.observation, one_by_one.reading)
    shown = env.reset()
    for _ in range(14):
        given = env._vec.env.unwrapped._observations
        assert torch.equal(shown, one_by_one.encode(given))
        shown = act(env)[0]


def test_a_batch_is_read_as_one_environment_of_it_shows(make):
    pytest.importorskip("minigrid")
    options = {"id": "MiniGrid-MemoryS7-v0", "vectorization_mode": "sync"}
    env, single = make("module:gymnasium:make_vec", 2, options=options), make("gym:MiniGrid-MemoryS7-v0", 2)
    assert (env.reading, env.because) == (single.reading, single.because)
    assert env.reading["image"] == "names"
    assert env.reset().shape == single.reset().shape
    act(env)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("done", ["choice", "choices", "torques", "free", "late choice"])
def test_every_space_of_actions_reaches_a_batch(make, done, mode):
    env = make(BATCH, 3, options={"of": "Showing", "done": done, "mode": mode})
    obs = env.reset()
    for _ in range(8):
        env.step(random_actions(env, obs, torch.Generator().manual_seed(1)))
    assert env.pop_stats()["episode/count"] == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["", "ragged"])
def test_numbers_of_the_last_info_are_columns_of_episodes(make, mode, how):
    env = make(BATCH, 3, options={"of": "Scored", "mode": mode, "how": how})
    env.reset()
    for _ in range(12):
        act(env)
    episodes = env.pop_episodes()
    assert {name for name in episodes if name.startswith("env/")} <= {
        "env/success", "env/score", "env/array", "env/rare", "env/cut",
    }  # fmt: skip
    assert set(episodes["env/success"]) == {1.0}
    assert set(episodes["env/score"]) == {2.5}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("nan observation", r"step\(\) returned the observation \[ ?nan .*\] \(.*\), which holds nan"),
        ("nan reward", r"step\(\) returned the reward nan"),
        ("huge reward", r"step\(\) returned the reward 1e\+300"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_with_their_place(make, how, what, mode):
    env = make("module:helpers.batches:going", 2, options={"how": how, "mode": mode}, first_env=5)
    env.reset()
    act(env)
    act(env)
    said = f"^[^\n]*: {what}, no finite number in single precision " + r"\(env 6, episode 0, step 3\)$"
    with pytest.raises(EnvError, match=said):
        act(env)


@pytest.mark.parametrize(
    ("how", "mode", "message"),
    [
        ("few rewards", "NextStep", r"step\(\) returned \[1.\].* as rewards, not 3 numbers"),
        ("words", "NextStep", r"step\(\) returned \['no' .*, not 3 numbers"),
        ("old step", "SameStep", r"step\(\) returned 4 values, not the 5 values \(observation, reward,"),
        ("few obs", "Disabled", r"step\(\) returned .*; 3 observations of Box\(.* are expected"),
        ("wide obs", "SameStep", r"step\(\) returned the observation \[0. .* \(env 5, episode 0, step 1\)"),
        ("no obs", "NextStep", r"step\(\) returned the observation None, .*; 3 observations"),
        ("forgets", "SameStep", r"truncated an episode and reset it .* without infos\['final_obs'\] \(env 5, episode"),
        ("no flags", "Disabled", r"step\(\) returned \[nan nan nan\].* as flags of episodes' ends, not 0 and 1"),
        ("few last", "SameStep", r"final_obs .*expected are 3 observations, .* \(env 6, episode 0, step 3\)"),
        ("flat last", "SameStep", r"final_obs .*expected are 3 observations, .* \(env 5, episode 0, step 2\)"),
        ("two libraries", "Disabled", r"step\(\) and reset\(\) returned arrays of different libraries"),
        ("resets all", "Disabled", r"reset\(options=\{'reset_mask': mask\}\) changed environments whose mask is False"),
    ],
)
def test_a_batch_that_does_not_keep_the_interface_is_told_so_in_one_line(make, how, mode, message):
    ending = "forgets", "resets all", "few last", "flat last", "two libraries"
    of = {"of": (2, 3, 4), "cut": True} if how in ending else {}
    env = make("module:helpers.batches:odd", 3, options={"mode": mode, "how": how, **of}, first_env=5)
    env.reset()
    with pytest.raises(EnvError) as caught:
        play(env, 3)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_an_error_in_a_batch_is_told_with_its_own_traceback(make):
    env = make("module:helpers.batches:going", 2, options={"how": "crash"})
    env.reset()
    with pytest.raises(EnvError, match=r"(?s)step\(\) of the batch:.*third_party.py.*the wheel came off"):
        play(env, 3)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("no_batch", {}, "takes num_envs, but made a Counting, not a VectorEnv of Gymnasium"),
        ("wrong_size", {}, r"made 5 environments, not the num_envs=4 that it was given"),
        ("without_parameter", {}, "is a SyncVectorEnv, .*; a function that makes a VectorEnv takes num_envs"),
        ("Batch", {"options": {"num_envs": 3}}, "leave num_envs out of options"),
        ("Batch", {"options": {"lenth": 3}}, "cannot be made: TypeError: .*'lenth'"),
        ("Batch", {"workers": 2}, "leave out env.workers and env.backend"),
        ("Batch", {"backend": "multiprocessing"}, "leave out env.workers and env.backend"),
        ("Batch", {"max_steps": 9}, r"resets its environments itself \(NEXT_STEP\), so env.max_steps cannot cut"),
        (
            "batch",
            {"options": {"how": "silent"}},
            r"metadata\['autoreset_mode'\] is None, not .*NEXT_STEP",
        ),
        ("batch", {"options": {"how": "unknown"}}, r"metadata\['autoreset_mode'\] is 'Sometimes', not"),
        ("bare", {}, "has no single_observation_space"),
        ("Pool", {}, "makes an EnvPool, which takes seeds only when it is made: name it envpool:ID"),
        ("batch", {"options": {"of": "Graphic"}}, "'hint' of the observation is Graph, which no encoder reads"),
        ("batch", {"wrappers": ["gymnasium.wrappers:FlattenObservation"]}, "wrapper '.*' cannot be made"),
    ],
)
def test_what_cannot_be_a_batch_is_told_in_one_line(name, knobs, message):
    with pytest.raises(UsageError, match=message) as caught:
        envs.make(f"module:helpers.batches:{name}", 4, **knobs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vec:CartPoll-v1", r"unknown environment 'vec:CartPoll-v1' .*vec:MODULE:ID.*; did you mean 'CartPole-v1'"),
        ("vec:Acrobot-v1", "Gymnasium has no vector environment of it; gym:Acrobot-v1 steps one by one"),
        ("vek:CartPole-v1", "is not gym:ID, MODULE:CALLABLE, pettingzoo:MODULE or vec:ID; did you mean 'vec'"),
    ],
)
def test_a_batch_that_does_not_exist_is_told_in_one_line(name, message):
    with pytest.raises(UsageError, match=message):
        envs.make(name, 4)


def test_a_class_of_batches_is_named_as_any_environment(make):
    env = make("helpers.batches:Batch", 3, options={"length": 2})
    env.reset()
    for _ in range(5):
        act(env)
    assert env.pop_stats() == {"episode/count": 6, "episode/return": 3, "episode/length": 2, "env/cut": 0}


def test_gymnasiums_own_batch_plays_as_one_by_one_does(make):
    """The same rules: random play lasts as long."""
    levels = []
    for kind in ("vec", "gym"):
        env = make(f"{kind}:CartPole-v1", 64)
        assert (env.solved_return, env.num_actions) == (475, 2)
        obs, generator = env.reset(), torch.Generator().manual_seed(0)
        for _ in range(400):
            env.step(random_actions(env, obs, generator))
        episodes = env.pop_episodes()
        assert (episodes["length"] == episodes["return"]).all()
        levels.append(episodes["return"].mean())
    assert abs(levels[0] - levels[1]) < 1.5  # means of about 1,100 episodes, standard error 0.35 each


def test_a_batch_may_hide_what_memory_would_have_to_keep(make):
    env = make("vec:CartPole-v1", 3, wrappers=["memexp.envs.wrappers:hide_velocities"])
    whole = make("vec:CartPole-v1", 3)
    assert torch.equal(env.reset(), whole.reset()[:, [0, 2]])
    assert torch.equal(act(env)[0], act(whole)[0][:, [0, 2]])
