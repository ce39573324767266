"""Mean returns: of the acting policy on held-out tasks, and of the uniformly random policy."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from memexp import envs
from memexp.config import Config
from memexp.curriculum.uniform import held_out_tasks, training_tasks
from memexp.envs.base import VecEnv, mix64
from memexp.policy.model import Policy
from memexp.ppo.rollout import Dice, sample

Choose = Callable[[Tensor, Tensor], Tensor]
"""(observations `[N, ...]`, resets `[N]`) -> actions `[N]`."""

_EVALUATION, _RANDOM = 0xE7A1, 0x3A4D
"""Streams of worlds that training never sees."""


def first_episodes(env: VecEnv, choose: Choose) -> np.ndarray:
    """Returns `[num_agents]` of every agent's first episode: long episodes count as much as short ones."""
    obs = env.reset()
    resets = torch.ones(env.num_agents, dtype=torch.bool, device=env.device)
    total = torch.zeros(env.num_agents, device=env.device)
    running = resets.clone()
    while running.any():
        obs, reward, terminated, truncated = env.step(choose(obs, resets))
        total += reward * running
        resets = terminated | truncated
        running &= ~resets
    return total.cpu().numpy()


@torch.no_grad()
def evaluate(policy: Policy, world: Config, episodes: int, seed: int, device: torch.device) -> float:
    """Mean return of the acting (sampling) policy over `episodes` worlds with held-out tasks."""
    env = envs.build(world, episodes, str(device), mix64(seed, _EVALUATION), tasks=held_out_tasks(seed))
    dice = Dice(mix64(seed, _EVALUATION) >> 1, env.num_agents, 0, env.num_agents, device)
    state = policy.init_state(env.num_agents, device)

    def choose(obs: Tensor, resets: Tensor) -> Tensor:
        nonlocal state
        logits, _, state = policy(obs, state, resets)
        return sample(logits, dice.roll())

    return float(first_episodes(env, choose).mean())


def random_return(world: Config, episodes: int, seed: int) -> float:
    """Mean return of the uniformly random policy over `episodes` worlds with tasks drawn as in training."""
    env = envs.build(world, episodes, "cpu", mix64(seed, _RANDOM), tasks=training_tasks(seed))
    generator = torch.Generator().manual_seed(mix64(seed, _RANDOM) >> 1)

    def choose(obs: Tensor, resets: Tensor) -> Tensor:
        return torch.randint(env.num_actions, (env.num_agents,), generator=generator)

    return float(first_episodes(env, choose).mean())
