"""Wrappers that take from an environment what would make memory superfluous, or give what makes it so.

For `env.wrappers`: `memexp.envs.wrappers:hide(columns=[1, 3])`.
"""

from collections.abc import Sequence

import gymnasium
import numpy as np


def hide(env: gymnasium.Env, columns: Sequence[int]) -> gymnasium.Env:
    """The environment without these entries of its observation vector: CartPole's velocities are 1 and 3."""
    space = env.observation_space
    assert isinstance(space, gymnasium.spaces.Box)
    shown = np.setdiff1d(np.arange(space.shape[0]), columns)
    rest = gymnasium.spaces.Box(space.low[shown], space.high[shown], dtype=space.dtype.type)
    return gymnasium.wrappers.TransformObservation(env, lambda obs: obs[shown], rest)


def hide_velocities(env: gymnasium.Env) -> gymnasium.Env:
    """CartPole that shows positions and angles alone: how fast they change must be remembered."""
    return hide(env, (1, 3))


def fully_observed(env: gymnasium.Env) -> gymnasium.Env:
    """A POPGym environment that shows its whole state (Markovian): what its partner without it needs memory for."""
    from popgym.core.observability import Observability
    from popgym.wrappers import Markovian

    return Markovian(env, Observability.FULL)  # type: ignore[arg-type]
