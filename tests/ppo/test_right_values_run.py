"""A run's right values, stated from outside: what the seed decides, what evaluation measures, what is carried on."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.training import tiny, tiny_cvc
from torch import nn

from memexp import envs
from memexp.config import override
from memexp.envs.config import ChainRecall
from memexp.policy.actions import Categorical
from memexp.ppo.distributed import Ranks
from memexp.ppo.evaluate import evaluate
from memexp.ppo.trainer import Trainer
from memexp.recipes import any as any_environment

ALONE = Ranks(0, 1, torch.device("cpu"))


def trainer_of(recipe="tmaze", **changes):
    return Trainer(tiny(recipe, **{"cortex__pattern": "X", "cortex__mem_len": 8, **changes}), ALONE)


def cartpole(seed=0):
    words = {"trainer.num_envs": 4, "trainer.horizon": 8, "trainer.num_minibatches": 2, "seed": seed}
    return Trainer(override(any_environment.train(pattern="X", mem_len=4, d_hidden=16), words), ALONE)


# --- the seed ---------------------------------------------------------------------------------------------------------


def drawn(seed):
    """What a run of this seed draws before its first update, by what it is drawn for."""
    trainer = trainer_of("chain_recall", seed=seed, env__episode_length=16)
    order = torch.stack([torch.rand(16, generator=trainer.shuffle) for _ in range(2)])
    weights = torch.cat([p.detach().flatten() for p in trainer.policy.parameters()])
    uniform = torch.stack([trainer.noise.sample() for _ in range(4)])
    still = torch.zeros(16, dtype=torch.int64)
    symbols = torch.stack([trainer.env.step(still)[0].clone() for _ in range(8)])
    return {"environments": symbols, "weights": weights, "actions": uniform, "minibatches": order}


@pytest.mark.parametrize("what", ["environments", "weights", "actions", "minibatches"])
def test_the_seed_decides_what_is_drawn(what):
    one, again, other = (drawn(seed)[what] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert (one != other).float().mean() > 0.2  # not a few numbers of many


def test_agents_draw_numbers_of_their_own_at_every_step():
    uniform = drawn(1)["actions"]
    assert uniform.unique().numel() == uniform.numel()


def test_the_seed_decides_the_tasks_and_every_episode_of_every_copy_has_its_own():
    one, again, other = (
        [trainer_of(seed=seed).tasks(world, episode) for world in range(8) for episode in range(8)]
        for seed in (1, 1, 2)
    )
    assert one == again
    assert not set(one) & set(other)
    assert len(set(one)) == len(one)


def test_the_seed_decides_how_somebody_elses_environment_begins():
    first = []
    for seed in (1, 1, 2):
        trainer = cartpole(seed)
        first.append(trainer.env.reset().clone())
        trainer.close()
    assert torch.equal(first[0], first[1])
    assert not torch.isclose(first[0], first[2]).all(1).any()


# --- episodes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tmaze", "chain_recall"])
def test_a_control_environment_shows_something_else_in_other_episodes_and_other_copies(name):
    knobs = {"tmaze": {"length": 1}, "chain_recall": {"k": 1, "episode_length": 4}}[name]
    env = envs.make(name, 32, seed=0, **knobs)
    obs, shown = env.reset(), []
    for _ in range(64):
        shown.append(obs[:, :2].argmax(1).clone() if name == "tmaze" else obs.argmax(1).clone())
        forward = obs[:, 2] == 1 if name == "tmaze" else torch.ones(32, dtype=torch.bool)
        cue = obs[:, :2].sum(1) == 1 if name == "tmaze" else forward
        shown[-1][~cue] = -1
        obs = env.step(torch.where(forward, 0, 1))[0]
    shown = torch.stack(shown, 1)
    options = 2 if name == "tmaze" else 4
    seen = shown[shown >= 0]
    shares = torch.bincount(seen, minlength=options) / len(seen)
    assert torch.allclose(shares, torch.full((options,), 1 / options), atol=0.06)
    for row in shown:
        assert row[row >= 0].unique().numel() == options
    assert shown.unique(dim=0).shape[0] == 32


@pytest.mark.slow
def test_every_episode_of_a_grid_game_has_a_task_of_its_own():
    trainer = Trainer(tiny_cvc(curriculum__kind="uniform", env__max_steps=12, trainer__horizon=32), ALONE)
    parts = []
    for _ in range(3):
        trainer.collect()
        parts.append(trainer.pop_episodes())
    worlds = np.concatenate([part["world"] for part in parts])
    tasks = np.concatenate([part["task"] for part in parts])
    assert set(worlds) == set(range(8))
    for world in range(8):
        own = tasks[worlds == world]
        assert len(own) > 2
        assert len(set(own)) == len(own)
    assert len(set(tasks)) == len(tasks)


# --- evaluation -------------------------------------------------------------------------------------------------------


class MostlyRight(nn.Module):
    """Names the symbol that it sees with probability 0.7, each of the three others with 0.1."""

    actions = Categorical(4)

    def init_state(self, batch, device):
        return {}

    def forward(self, obs, state, resets):
        return (0.1 + 0.6 * obs).log(), obs.sum(-1), {}


def test_an_evaluation_draws_actions_with_the_policys_probabilities():
    """The greedy policy would have 1, the uniform one 0.25. The mean of 6,400 draws has a standard error of 0.006."""
    world = ChainRecall(k=0, num_symbols=4, episode_length=32)
    mean = evaluate(MostlyRight(), world, 200, 0, ALONE, nullcontext())
    assert mean == pytest.approx(0.7, abs=0.02)
    assert evaluate(MostlyRight(), world, 200, 0, ALONE, nullcontext()) == mean
    assert evaluate(MostlyRight(), world, 200, 1, ALONE, nullcontext()) != mean


# --- what is carried on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["X", "L"])
def test_the_memory_at_the_start_of_a_rollout_is_that_after_the_one_before(pattern):
    """Episodes last through several rollouts, so that memory holds what was seen before them."""
    trainer = trainer_of("chain_recall", env__episode_length=100, cortex__pattern=pattern)
    trainer.collect()
    for _ in range(3):
        s = trainer.segments
        obs, resets, start, dones = s.obs.clone(), s.resets.clone(), s.start, s.dones.clone()
        with torch.no_grad():
            _, _, after = trainer.policy(obs, start, resets)
        trainer.collect()
        assert torch.equal(s.resets[:, 0], dones[:, -1])
        for name, leaf in after.items():
            torch.testing.assert_close(s.start[name], leaf, rtol=1e-5, atol=1e-6)
        assert all(leaf.abs().sum() > 0 for leaf in after.values() if leaf.is_floating_point())


def test_observations_are_normalised_by_the_means_and_deviations_of_all_that_was_seen():
    trainer, seen = cartpole(), []
    for _ in range(3):
        trainer.train_step()
        seen.append(trainer.segments.obs.flatten(0, 1).double())
    seen = torch.cat(seen)
    obs = torch.tensor([[0.3, -0.2, 0.1, 0.4]])
    norm = trainer.policy.encoder.norm
    trainer.close()
    expected = (obs.double() - seen.mean(0)) / seen.std(0, correction=0)
    torch.testing.assert_close(norm(obs).double(), expected.clamp(-10, 10), rtol=1e-3, atol=1e-3)


# --- several ranks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "expected"), [("sum", [1.0, 7.0]), ("max", [3.0, 5.0])])
def test_reductions_over_ranks_are_what_their_names_say(how, expected, monkeypatch):
    other = torch.tensor([3.0, 2.0])
    operations = {dist.ReduceOp.SUM: torch.add, dist.ReduceOp.MAX: torch.maximum, dist.ReduceOp.MIN: torch.minimum}

    def all_reduce(tensor, op=dist.ReduceOp.SUM):
        tensor.copy_(operations[op](tensor, other))

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    assert getattr(Ranks(0, 2, torch.device("cpu")), how)(torch.tensor([-2.0, 5.0])).tolist() == expected


# --- what a switch does to a training ---------------------------------------------------------------------------------


def final_entropy(coefficient):
    """Mean entropy in the last updates of a training that solves its task: nats."""
    changes = {"trainer__entropy_coefficient": coefficient, "trainer__total_timesteps": 128 * 40}
    trainer = trainer_of("chain_recall", env__k=0, trainer__target_kl="none", trainer__learning_rate=0.02, **changes)
    lines = [trainer.train_step()["policy/entropy"] for _ in range(40)]
    return sum(lines[-5:]) / 5


def test_an_entropy_bonus_keeps_the_policy_random():
    none, much = final_entropy(0.0), final_entropy(3.0)
    assert none < 0.6
    assert much > 1.3  # ln 4 = 1.386 at most
