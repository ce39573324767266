"""Seeds decide what is played: another seed gives other episodes, the same seed the same, in every game and adapter."""

import numpy as np
import pytest
import torch
from helpers.cvc import RICH, SMALL
from scipy.stats import chi2

from memexp import envs
from memexp.curriculum.config import NUM_TASKS
from memexp.curriculum.uniform import held_out_tasks, training_tasks
from memexp.envs.grid.cpu_envs import EpisodeTable, Prepared

GAMES = {
    "tmaze": {"length": 1},
    "tmaze_cue": {"length": 1},
    "chain_recall": {"episode_length": 6},
    "delayed_cue": {"delay": 5},
    "assembly_lines": {"curriculum_style": "level_0"},
    "cvc_random_maps": SMALL | RICH | {"max_steps": [6]},
    "gym:CartPole-v1": {"max_steps": 6, "backend": "serial"},
    "module:helpers.third_party:Counting": {"backend": "serial"},
}
NUM_ENVS, STEPS = 40, 20
"""Two different seeds show the same cues in 40 T-mazes once in 10^12 times."""


def episodes(name, seed, num_envs=NUM_ENVS, first_env=0):
    """All that `num_envs` environments show and pay in some steps, `[steps, num_agents, ...]`; actions are the same."""
    env = envs.make(name, num_envs, seed=seed, first_env=first_env, **GAMES[name])
    obs = [env.reset().float().reshape(env.num_agents, -1).clone()]
    for step in range(STEPS):
        shown, *told = env.step(torch.full((env.num_agents,), step % 2))
        told = [one.float().reshape(env.num_agents, 1) for one in told]
        obs.append(torch.cat([shown.float().reshape(env.num_agents, -1), *told], 1))
    env.close()
    return obs[0], torch.stack(obs[1:])


def equal(left, right):
    return all(map(torch.equal, left, right))


@pytest.mark.parametrize("name", GAMES)
def test_the_same_seed_gives_the_same_episodes_and_every_other_seed_others(name):
    runs = {seed: episodes(name, seed) for seed in (0, 1, 2, 2**32, 2**33 + 1)}
    assert equal(runs[1], episodes(name, 1))
    seeds = list(runs)
    for i, left in enumerate(seeds):
        for right in seeds[i + 1 :]:
            assert not torch.equal(runs[left][0], runs[right][0]), (left, right)
            assert not torch.equal(runs[left][1], runs[right][1]), (left, right)


@pytest.mark.parametrize("name", GAMES)
def test_environments_of_one_batch_play_different_episodes(name):
    first, _ = episodes(name, 3)
    by_env = first.reshape(NUM_ENVS, -1)
    distinct = len(by_env.unique(dim=0))
    fewest = {"tmaze": 2, "tmaze_cue": 2, "chain_recall": 4, "delayed_cue": 4}.get(name, NUM_ENVS // 2)
    assert distinct >= fewest
    shifted, _ = episodes(name, 3, first_env=1)
    assert torch.equal(shifted.reshape(NUM_ENVS, -1)[:-1], by_env[1:])


@pytest.mark.parametrize("name", ["tmaze", "tmaze_cue", "chain_recall", "cvc_random_maps", "gym:CartPole-v1"])
def test_an_environment_does_not_repeat_its_first_episode(name):
    env = envs.make(name, NUM_ENVS, seed=4, **GAMES[name])
    begun = [env.reset().float().reshape(NUM_ENVS, -1).clone()]
    for step in range(40):  # forward and left: an episode of a T-maze of length 1; all environments end together
        obs, _, terminated, truncated = env.step(torch.full((env.num_agents,), step % 2))
        if (terminated | truncated).all() and len(begun) < 4:
            begun.append(obs.float().reshape(NUM_ENVS, -1).clone())
    env.close()
    assert len(begun) == 4
    for i, left in enumerate(begun):
        for right in begun[i + 1 :]:
            assert (left != right).any(1).float().mean() > 0.2


ADAPTERS = {
    "puffer": lambda seed: envs.make_puffer("chain_recall", 40, seed),
    "gymnasium": lambda seed: envs.make_gymnasium("chain_recall", 40, seed),
    "gymnasium of one": lambda seed: envs.make_gymnasium_env("chain_recall", seed),
    "pettingzoo": lambda seed: envs.make_pettingzoo("cvc_random_maps", seed, **GAMES["cvc_random_maps"]),
}


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("given", ["made with", "reset with"])
def test_an_exported_environment_is_decided_by_the_seed_that_it_is_made_or_reset_with(name, given):
    def shown(seed):
        env = ADAPTERS[name](seed if given == "made with" else 77)
        obs, _ = env.reset() if given == "made with" else env.reset(seed=seed)
        seen = [np.stack(list(obs.values())) if isinstance(obs, dict) else np.array(obs)]
        for _ in range(10):
            actions = dict.fromkeys(env.agents, 0) if name == "pettingzoo" else np.zeros(40, np.int64)
            obs, *_ = env.step(0 if name == "gymnasium of one" else actions)
            seen.append(np.stack(list(obs.values())) if isinstance(obs, dict) and obs else np.array(obs))
        return seen[:6]

    runs = [shown(seed) for seed in (1, 1, 2)]
    assert all(map(np.array_equal, runs[0], runs[1]))
    assert not all(map(np.array_equal, runs[0], runs[2]))


def default_tasks(seed):
    """The tasks of environments that nobody gives a source of tasks."""
    return lambda env, episode: EpisodeTable(1, seed, env, None, lambda _: Prepared(None, ())).task_of(0, episode)


SOURCES = {
    "default": (default_tasks, 0),
    "training": (training_tasks, 0),
    "held out": (held_out_tasks, NUM_TASKS),
}


@pytest.mark.parametrize("name", SOURCES)
def test_tasks_are_uniform_and_independent_of_one_another_over_envs_episodes_and_seeds(name):
    source, least = SOURCES[name]
    tasks = np.array(
        [[[source(seed)(env, episode) for episode in range(40)] for env in range(40)] for seed in range(8)]
    )
    assert least <= tasks.min() < least + 1000
    assert least + NUM_TASKS - 1000 < tasks.max() < least + NUM_TASKS
    assert len(np.unique(tasks)) > tasks.size - 150  # of 12,800 draws 82 meet an earlier one on average

    def uniform(numbers):
        observed, expected = np.bincount(numbers.ravel() % NUM_TASKS * 50 // NUM_TASKS, minlength=50), numbers.size / 50
        statistic = ((observed - expected) ** 2 / expected).sum()
        return chi2(49).ppf(0.0005) < statistic < chi2(49).ppf(0.9995)

    assert uniform(tasks)
    for axis in range(3):  # the difference of two uniform numbers that are independent is uniform modulo their range
        assert uniform(np.diff(tasks, axis=axis))


def test_finished_episodes_have_tasks_of_their_own_that_the_seed_decides():
    def played(seed):
        env = envs.make("cvc_random_maps", 8, seed=seed, **GAMES["cvc_random_maps"])
        env.reset()
        for _ in range(5 * 6):
            env.step(torch.zeros(env.num_agents, dtype=torch.int64))
        columns = env.pop_episodes()
        return columns["task"][np.lexsort((columns["world"],))].tolist()

    assert played(1) == played(1)
    assert len(set(played(1))) == 8 * 5
    assert not set(played(1)) & set(played(2))
