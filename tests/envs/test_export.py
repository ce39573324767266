"""Our worlds in the hands of other projects: PufferLib, Gymnasium, PettingZoo."""

import json
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from helpers.cvc import SMALL
from pettingzoo.test import parallel_api_test, parallel_seed_test

from memexp import envs
from memexp.config import UsageError

TRAINER = Path(__file__).parents[1] / "helpers" / "puffer_trainer.py"
GRID = SMALL | {"max_steps": [20]}


needs_puffer = pytest.mark.skipif(find_spec("pufferlib") is None, reason="PufferLib is not installed")


@needs_puffer
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["native", "Multiprocessing"])
def test_pufferlibs_own_trainer_learns_our_env(backend, tmp_path):
    command = [sys.executable, str(TRAINER), "tmaze_cue", backend, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["first"] < 0.7 < 0.9 < found["last"]


@needs_puffer
@pytest.mark.parametrize(("name", "knobs"), [("tmaze", {}), ("chain_recall", {}), ("cvc_random_maps", GRID)])
def test_a_puffer_env_shows_what_the_env_shows(name, knobs):
    import pufferlib

    env, world = envs.make_puffer(name, 3, seed=5, **knobs), envs.make(name, 3, seed=5, **knobs)
    assert isinstance(env, pufferlib.PufferEnv)
    assert env.num_agents == world.num_agents
    seen, _ = env.reset()
    assert (seen == world.reset().numpy()).all()
    ended = 0
    for step in range(80):
        actions = torch.randint(world.num_actions, (world.num_agents,), generator=torch.Generator().manual_seed(step))
        *arrays, infos = env.step(actions.numpy().astype(np.int32))
        for array, tensor in zip(arrays, world.step(actions), strict=True):
            assert array.dtype == tensor.numpy().dtype
            assert (array == tensor.numpy()).all()
        for info in infos:
            episodes = world.pop_episodes()
            assert info["episode_return"] == pytest.approx(episodes["return"])
            ended += len(info["episode_length"])
    assert ended > 0


def test_without_pufferlib_its_environment_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pufferlib.pufferlib", None)
    monkeypatch.delitem(sys.modules, "memexp.envs.export.puffer", raising=False)
    with pytest.raises(UsageError, match=r"make_puffer needs 'pufferlib.*memexp\[puffer\]"):
        envs.make_puffer("tmaze")


@needs_puffer
def test_envs_of_different_puffer_workers_differ():
    import pufferlib.vector

    vec = pufferlib.vector.make(
        partial(envs.make_puffer, "chain_recall", 16),
        backend="Multiprocessing",
        num_envs=2,
        num_workers=2,
        overwork=True,
    )
    try:
        obs, _ = vec.reset(seed=3)
        assert (obs[:16] != obs[16:]).any()
    finally:
        vec.close()


@pytest.mark.parametrize("name", ["tmaze", "tmaze_cue", "chain_recall", "assembly_lines"])
def test_one_env_passes_gymnasiums_check(name):
    check_env(envs.make_gymnasium_env(name), skip_render_check=True)


def test_a_vector_env_keeps_the_true_last_observation_and_takes_gymnasiums_wrappers():
    plain = envs.make_gymnasium("tmaze", 8, seed=1, length=2)
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(plain)
    obs, _ = env.reset()
    assert env.observation_space.contains(obs)
    rng, ended = np.random.default_rng(0), 0
    for _ in range(60):
        actions = rng.integers(3, size=8)
        assert env.action_space.contains(actions)
        obs, _, terminated, truncated, infos = env.step(actions)
        done = terminated | truncated
        assert env.observation_space.contains(obs)
        assert (obs[done][:, 2] == 1).all()  # the next episode's start
        if terminated.any():
            assert (infos["_final_obs"] == done).all()
            assert (infos["final_obs"][terminated][:, 4] == 1).all()  # the junction, where the episode ended
            assert set(infos["episode"]["r"][done]) <= {0.0, 1.0}
        ended += done.sum()
    assert ended > 8


def test_a_vector_env_reset_without_a_seed_goes_on_to_other_episodes_and_with_one_begins_anew():
    env = envs.make_gymnasium("chain_recall", 64, seed=1)
    first, _ = env.reset(seed=4)
    env.step(np.zeros(64, np.int64))
    second, _ = env.reset()
    third, _ = env.reset(seed=4)
    assert (first != second).any()
    assert (first == third).all()


def test_envs_of_several_agents_are_no_gymnasium_environment():
    with pytest.raises(UsageError, match=r"5 agents, a Gymnasium environment has one.*make_pettingzoo"):
        envs.make_gymnasium("cvc_random_maps", 2, **GRID)


@pytest.mark.parametrize("make", [pytest.param(envs.make_puffer, marks=needs_puffer), envs.make_gymnasium])
@pytest.mark.parametrize(("name", "knobs"), [("gym:CartPole-v1", {}), ("any", {"id": "gym:Pendulum-v1"})])
def test_environments_of_others_are_not_exported_as_if_they_were_ours(make, name, knobs):
    with pytest.raises(UsageError, match=f"^{name}: this environment is not memexp's"):
        make(name, 2, **knobs)


@pytest.mark.parametrize(("name", "knobs"), [("cvc_random_maps", GRID), ("tmaze", {"length": 2})])
def test_an_env_passes_pettingzoos_checks(name, knobs):
    parallel_api_test(envs.make_pettingzoo(name, **knobs), num_cycles=50)
    parallel_seed_test(lambda: envs.make_pettingzoo(name, **knobs), num_cycles=50)
