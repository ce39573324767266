"""Mean returns: of the acting policy on held-out tasks, and of the uniformly random policy."""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from memexp import envs
from memexp.config import Config
from memexp.curriculum.uniform import held_out_tasks, training_tasks
from memexp.envs.base import mix64
from memexp.envs.play import first_episodes
from memexp.policy.model import Policy
from memexp.ppo.distributed import Ranks
from memexp.ppo.rollout import Dice, sample

_EVALUATION, _RANDOM = 0xE7A1, 0x3A4D
"""Streams of worlds that training never sees."""


@torch.no_grad()
def evaluate(
    policy: Policy, world: Config, episodes: int, seed: int, ranks: Ranks, cast: AbstractContextManager
) -> float:
    """Mean return of the acting (sampling) policy over `episodes` worlds with held-out tasks.

    Every rank calls this and plays its share of the worlds; the result does not depend on the number of ranks.
    """
    first, end = (episodes * rank // ranks.world_size for rank in (ranks.rank, ranks.rank + 1))
    total = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    if first < end:
        env = envs.build(
            world, end - first, str(ranks.device), mix64(seed, _EVALUATION), first, tasks=held_out_tasks(seed)
        )
        n, agents = env.num_agents, env.num_agents // env.num_envs  # of one world
        dice = Dice(mix64(seed, _EVALUATION) >> 1, n, first * agents, episodes * agents, ranks.device)
        state = policy.init_state(n, ranks.device)

        def choose(obs: Tensor, resets: Tensor) -> Tensor:
            nonlocal state
            logits, _, state = policy(obs, state, resets)
            return sample(logits, dice.roll())

        with cast:
            returns = first_episodes(env, choose)
        total += total.new_tensor([returns.sum(dtype=np.float64), len(returns)])
    total_return, count = ranks.sum(total).tolist()
    return total_return / count


def random_return(world: Config, episodes: int, seed: int) -> float:
    """Mean return of the uniformly random policy over `episodes` worlds with tasks drawn as in training."""
    env = envs.build(world, episodes, "cpu", mix64(seed, _RANDOM), tasks=training_tasks(seed))
    generator = torch.Generator().manual_seed(mix64(seed, _RANDOM) >> 1)

    def choose(obs: Tensor, resets: Tensor) -> Tensor:
        return torch.randint(env.num_actions, (env.num_agents,), generator=generator)

    return float(first_episodes(env, choose).mean())
