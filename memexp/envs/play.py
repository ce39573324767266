"""Playing whole episodes: `first_episodes`."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from memexp.envs.base import VecEnv

Choose = Callable[[Tensor, Tensor], Tensor]
"""(observations `[N, ...]`, resets `[N]`) -> actions `[N]`."""


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
