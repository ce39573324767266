"""Wrappers that change how much memory an environment requires, or how fast agents learn it.

For `env.wrappers`: `memexp.envs.wrappers:hide(columns=[1, 3])`.
"""

from collections.abc import Sequence

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

from memexp.config import UsageError

AnyEnv = gymnasium.Env | VectorEnv


def hide(env: AnyEnv, columns: Sequence[int]) -> AnyEnv:
    """Hides these columns of the observation vector. CartPole's velocities are columns 1 and 3."""
    space = env.single_observation_space if isinstance(env, VectorEnv) else env.observation_space
    length = space.shape[0] if space.shape else 0
    if not (isinstance(space, gymnasium.spaces.Box) and space.shape == (length,) and set(columns) < set(range(length))):
        raise UsageError(f"hide(columns={list(columns)}): the environment's observations are {space}")
    shown = np.setdiff1d(np.arange(length), columns)
    rest = gymnasium.spaces.Box(space.low[shown], space.high[shown], dtype=space.dtype.type)
    if isinstance(env, VectorEnv):
        cut = gymnasium.wrappers.vector.TransformObservation
        return cut(env, lambda obs: obs[..., shown], single_observation_space=rest)
    return gymnasium.wrappers.TransformObservation(env, lambda obs: obs[shown], rest)


def hide_velocities(env: AnyEnv) -> AnyEnv:
    """CartPole without its two velocities, which the agent must then infer from earlier observations."""
    return hide(env, (1, 3))


def only_actions(env: gymnasium.Env, actions: Sequence[int]) -> gymnasium.Env:
    """Keeps only these discrete actions, renumbered from 0. MiniGrid's mazes need three (0, 1, 2) of seven."""
    kept = [int(action) for action in actions]
    space = env.action_space
    if not (isinstance(space, gymnasium.spaces.Discrete) and kept and all(map(space.contains, kept))):
        raise UsageError(f"only_actions(actions={kept}): the environment's actions are {space}")
    return gymnasium.wrappers.TransformAction(env, lambda n: kept[n], gymnasium.spaces.Discrete(len(kept)))


def fully_observed(env: gymnasium.Env) -> gymnasium.Env:
    """A POPGym environment that shows its whole state (POPGym's Markovian wrapper), so that it needs no memory."""
    from popgym.core.observability import Observability
    from popgym.wrappers import Markovian

    return Markovian(env, Observability.FULL)  # type: ignore[arg-type]
