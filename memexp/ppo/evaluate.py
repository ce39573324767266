"""Evaluation: mean returns of the acting policy on held-out tasks and in the settings of a suite."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing

import numpy as np
import torch
from torch import Tensor

from memexp import envs
from memexp.config import Config
from memexp.curriculum.uniform import held_out_tasks
from memexp.envs.base import Episodes, TaskSource, VecEnv, concatenated, mix64
from memexp.envs.suites import suite
from memexp.policy.model import Policy
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.rollout import ActionNoise

_EVALUATION = 0xE7A1
"""Random stream of environments that training never uses."""

Choose = Callable[[Tensor, Tensor], Tensor]
"""(observations `[N, ...]`, resets `[N]`) -> actions `[N]`."""


def first_episodes(env: VecEnv, choose: Choose, on_progress: Callable[[float], None] | None = None) -> Episodes:
    """The first episode of every environment, in the order of environments: long episodes count like short ones.

    `on_progress` gets the number of finished episodes after every step. If all episodes last until their time limits,
    each unfinished one counts as the share of its time that has passed.
    """
    obs = env.reset()
    limits, steps = env.time_limits(), 0
    resets = torch.ones(env.num_agents, dtype=torch.bool, device=env.device)
    parts, finished = [], np.zeros(0, np.int64)
    while len(finished) < env.num_envs:
        obs, _, terminated, truncated = env.step(choose(obs, resets))
        resets, steps = terminated | truncated, steps + 1
        if bool(resets.any()):
            parts.append(env.pop_episodes())
            finished = np.union1d(finished, parts[-1]["world"])
        if on_progress:
            passed = 0.0 if limits is None else float((steps / limits).clip(max=1).sum())
            on_progress(max(len(finished), passed))
    episodes = concatenated(parts)
    _, first = np.unique(episodes["world"], return_index=True)
    return {name: column[first] for name, column in episodes.items()}


def held_out_worlds(
    env_config: Config, num_envs: int, seed: int, device: str = "cpu", first: int = 0, tasks: TaskSource | None = None
) -> VecEnv:
    """Environments of a run's evaluation, from number `first` on; `tasks` replace the held-out ones."""
    tasks = tasks or held_out_tasks(seed)
    return envs.build(env_config, num_envs, device, mix64(seed, _EVALUATION), first, tasks=tasks)


def held_out_noise(seed: int, env: VecEnv, first: int, total: int) -> ActionNoise:
    """Action noise of a run's evaluation for the agents of `env`: from number `first` on, of `total` over all ranks."""
    return ActionNoise(mix64(seed, _EVALUATION) >> 1, env.num_agents, first, total, env.device, env.actions.shape)


@torch.no_grad()
def evaluate(
    policy: Policy, env_config: Config, episodes: int, seed: int, ranks: Ranks, cast: AbstractContextManager
) -> float:
    """Mean return of the policy, which samples its actions, over the first episodes of as many environments.

    Tasks are held out. Every rank calls this and runs its share; the result does not depend on the number of ranks.
    """
    first, end = (episodes * rank // ranks.world_size for rank in (ranks.rank, ranks.rank + 1))
    total = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    if first < end:
        env = held_out_worlds(env_config, end - first, seed, str(ranks.device), first)
        n, agents = env.num_agents, env.num_agents // env.num_envs  # of all environments, of one
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
    """What `config.evaluation` asks for: eval/return, and eval/<setting>/return for each setting of the suite."""
    plan, means = config.evaluation, {}
    if plan.episodes:
        means["eval/return"] = evaluate(policy, config.env, plan.episodes, config.seed, ranks, cast())
    for name, setting in suite(config.env).items() if plan.suite_episodes else ():
        means[f"eval/{name}/return"] = evaluate(policy, setting, plan.suite_episodes, config.seed, ranks, cast())
    return means
