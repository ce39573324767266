"""Evaluation: the acting policy on held-out tasks."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing

import numpy as np
import torch
from torch import Tensor

from memexp import envs
from memexp.config import Config
from memexp.curriculum.uniform import held_out_tasks
from memexp.envs.base import TaskSource, VecEnv, mix64
from memexp.envs.suites import suite
from memexp.policy.model import Policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.episodes import first_episodes
from memexp.ppo.rollout import ActionNoise

_EVALUATION = 0xE7A1
"""Stream of worlds that training never sees."""


def held_out_worlds(
    world: Config, num_envs: int, seed: int, device: str = "cpu", first: int = 0, tasks: TaskSource | None = None
) -> VecEnv:
    """Worlds number `first` and following of a run's evaluation; `tasks` instead of the held-out ones."""
    return envs.build(world, num_envs, device, mix64(seed, _EVALUATION), first, tasks=tasks or held_out_tasks(seed))


def held_out_noise(seed: int, env: VecEnv, first: int, total: int) -> ActionNoise:
    """What the policy samples with in a run's evaluation: the agents of `env`, number `first` and following of
    `total` over all ranks."""
    return ActionNoise(mix64(seed, _EVALUATION) >> 1, env.num_agents, first, total, env.device, env.actions.shape)


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
        env = held_out_worlds(world, end - first, seed, str(ranks.device), first)
        n, agents = env.num_agents, env.num_agents // env.num_envs  # of one world
        noise = held_out_noise(seed, env, first * agents, episodes * agents)
        state = policy.init_state(n, ranks.device)

        def choose(obs: Tensor, resets: Tensor) -> Tensor:
            nonlocal state
            logits, _, state = policy(obs, state, resets)
            return policy.actions.sample(logits, noise.sample())

        with cast, closing(env):
            returns = first_episodes(env, choose)["return"]
        total += total.new_tensor([returns.sum(dtype=np.float64), len(returns)])
    total_return, count = ranks.sum(total).tolist()
    return total_return / count


def evaluate_all(
    config: TrainConfig, policy: Policy, ranks: Ranks, cast: Callable[[], AbstractContextManager]
) -> dict[str, float]:
    """eval/return over held-out tasks, and eval/<setting>/return over the environment's suite, as far as planned."""
    plan, means = config.evaluation, {}
    if plan.episodes:
        means["eval/return"] = evaluate(policy, config.env, plan.episodes, config.seed, ranks, cast())
    return means | evaluate_suite(policy, config.env, plan.suite_episodes, config.seed, ranks, cast)


def evaluate_suite(
    policy: Policy, world: Config, episodes: int, seed: int, ranks: Ranks, cast: Callable[[], AbstractContextManager]
) -> dict[str, float]:
    """Mean return `eval/<setting>/return` of every setting of the environment's suite, each as in `evaluate`."""
    settings = suite(world).items() if episodes else ()
    return {f"eval/{name}/return": evaluate(policy, one, episodes, seed, ranks, cast()) for name, one in settings}
