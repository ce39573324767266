"""Rollouts: what is kept of each step, sampling, and what truncation bootstraps from."""

from contextlib import nullcontext

import pytest
import torch

from memexp import envs
from memexp.policy.actions import Categorical, log_prob, sample
from memexp.ppo.rollout import ActionNoise, Actor, Segments, collect
from memexp.ppo.timing import Stopwatch


class Marking(torch.nn.Module):
    """A policy whose value names the observation (its symbol + 1) plus 100 times the steps since the memory's reset."""

    actions = Categorical(8)

    def init_state(self, batch, device):
        return {"age": torch.zeros(batch)}

    def forward(self, obs, state, resets):
        age = torch.where(resets, 0.0, state["age"]) + 1
        logits = torch.zeros(*obs.shape[:-1], obs.shape[-1])
        return logits, obs.argmax(-1) + 1 + 100 * age, {"age": age}


def rollout(env, horizon, gamma=0.5):
    policy, obs = Marking(), env.reset()
    n = env.num_agents
    actor = Actor(obs, policy.init_state(n, "cpu"), torch.ones(n, dtype=torch.bool))
    segments = Segments.empty(env, obs, horizon)
    noise = ActionNoise(0, n, 0, n, torch.device("cpu"))
    last = collect(policy, env, actor, noise, segments, gamma, nullcontext(), Stopwatch(torch.device("cpu")))
    return segments, last, actor


def test_truncation_bootstraps_from_the_true_last_observation_and_the_old_memory():
    episode, k = 5, 4
    symbols = []  # of one world, by episode and step, the true last observation included
    watched = envs.make("chain_recall", 3, k=k, episode_length=episode, num_symbols=8, seed=3)
    obs = watched.reset()
    for _ in range(2 * episode):
        symbols.append(obs.argmax(-1).clone())
        obs, _, _, truncated = watched.step(torch.zeros(3, dtype=torch.int64))
        if truncated.any():
            last = watched.final_obs.argmax(-1)
            break
    env = envs.make("chain_recall", 3, k=k, episode_length=episode, num_symbols=8, seed=3)
    segments, _, _ = rollout(env, episode + 2)
    step = episode - 1
    assert segments.dones[:, step].all()
    assert segments.dones.sum() == 3
    paid = segments.rewards[:, step] - 0.5 * (last + 1 + 100 * (episode + 1))  # memory saw episode + 1 observations
    assert ((paid.abs() < 1e-4) | ((paid - 1).abs() < 1e-4)).all()
    assert segments.resets[:, 0].all()
    assert segments.resets[:, episode].all()
    assert segments.resets.sum() == 6


def test_a_new_episodes_first_observation_reaches_the_policy():
    env = envs.make("tmaze", 64, length=2, seed=1)
    segments, _, _ = rollout(env, 40)
    begins = segments.resets
    cue_shown = segments.obs[..., :2].sum(-1) == 1
    assert begins.sum() > 64
    assert (cue_shown == begins).all()


def test_the_next_rollout_starts_where_the_last_one_stopped():
    env = envs.make("chain_recall", 4, k=1, episode_length=100, seed=0)
    segments, last, actor = rollout(env, 8)
    values = segments.values
    assert (values[:, -1] // 100 == 8).all()
    assert (last // 100 == 9).all()
    assert (actor.state["age"] == 8).all()


@pytest.mark.parametrize("num_actions", [2, 5, 21])
def test_actions_are_drawn_with_the_policys_probabilities(num_actions):
    logits = torch.randn(num_actions, generator=torch.Generator().manual_seed(num_actions))
    n = 100_000
    uniform = (torch.arange(n) + 0.5) / n  # every quantile once
    counts = torch.bincount(sample(logits.expand(n, -1), uniform), minlength=num_actions)
    assert (counts / n - logits.softmax(0)).abs().max() < 2 / n * num_actions + 1e-5
    probabilities = log_prob(logits.expand(num_actions, -1), torch.arange(num_actions)).exp()
    torch.testing.assert_close(probabilities, logits.softmax(0))


def test_what_an_agent_rolls_does_not_depend_on_the_number_of_ranks():
    whole = ActionNoise(7, 8, 0, 8, torch.device("cpu"))
    halves = [ActionNoise(7, 4, first, 8, torch.device("cpu")) for first in (0, 4)]
    for _ in range(3):
        assert torch.equal(whole.sample(), torch.cat([half.sample() for half in halves]))
