"""Playing every world's first episode to its end: what evaluations and reference levels are means over."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from memexp.envs.base import Episodes, VecEnv, concatenated

Choose = Callable[[Tensor, Tensor], Tensor]
"""(observations `[N, ...]`, resets `[N]`) -> actions `[N]`."""


def first_episodes(env: VecEnv, choose: Choose, tell: Callable[[float], None] | None = None) -> Episodes:
    """The first episode of every world, in the order of worlds: long episodes count as much as short ones.

    `tell` hears after every step how many worlds have finished; where episodes last as long as their time limits, an
    unfinished one counts by the share of it that has passed.
    """
    obs = env.reset()
    limits, played = env.time_limits(), 0
    resets = torch.ones(env.num_agents, dtype=torch.bool, device=env.device)
    parts, finished = [], np.zeros(0, np.int64)
    while len(finished) < env.num_envs:
        obs, _, terminated, truncated = env.step(choose(obs, resets))
        resets, played = terminated | truncated, played + 1
        if bool(resets.any()):
            parts.append(env.pop_episodes())
            finished = np.union1d(finished, parts[-1]["world"])
        if tell:
            passed = 0.0 if limits is None else float((played / limits).clip(max=1).sum())
            tell(max(len(finished), passed))
    episodes = concatenated(parts)
    _, first = np.unique(episodes["world"], return_index=True)
    return {name: column[first] for name, column in episodes.items()}
