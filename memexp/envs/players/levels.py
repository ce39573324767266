"""Reference levels: what each scripted player earns in an environment."""

import numpy as np
import torch

from memexp import envs
from memexp.config import Config
from memexp.envs.base import VecEnv
from memexp.envs.players.player import PLAYERS, Player, make_player


def first_returns(env: VecEnv, player: Player) -> np.ndarray:
    """Returns `[N]` of every agent's first episode: long episodes count as much as short ones."""
    obs = env.reset()
    resets = torch.ones(env.num_agents, dtype=torch.bool)
    total = torch.zeros(env.num_agents)
    running = resets.clone()
    while running.any():
        obs, reward, terminated, truncated = env.step(player.act(obs, resets))
        total += reward * running
        resets = terminated | truncated
        running &= ~resets
    return total.numpy()


def reference_levels(config: Config, episodes: int, seed: int) -> dict[str, float]:
    """Player -> its mean return over the same `episodes` worlds with uniformly random tasks."""
    levels = {}
    for kind in PLAYERS:
        env = envs.build(config, episodes, "cpu", seed)
        levels[kind] = float(first_returns(env, make_player(env, kind, seed)).mean())
    return levels
