"""Reference levels: what each scripted player earns in an environment."""

import numpy as np

from memexp import envs
from memexp.config import Config
from memexp.envs.play import first_episodes
from memexp.envs.players.player import PLAYERS, make_player

WORLDS = 64
"""Worlds played at a time: players with memory keep a map each."""


def reference_returns(config: Config, kind: str, episodes: int, seed: int) -> np.ndarray:
    """Returns of every agent's first episode in `episodes` worlds with uniformly random tasks, world-major."""
    returns = []
    for first in range(0, episodes, WORLDS):
        env = envs.build(config, min(WORLDS, episodes - first), "cpu", seed, first)
        returns.append(first_episodes(env, make_player(env, kind, seed + first).act))
    return np.concatenate(returns)


def reference_levels(config: Config, episodes: int, seed: int) -> dict[str, float]:
    """Player -> its mean return over `episodes` worlds, the same for every player.

    Raises UsageError for an environment without scripted players.
    """
    return {kind: float(reference_returns(config, kind, episodes, seed).mean()) for kind in PLAYERS}
