"""What the exported worlds share: spaces in Gymnasium's words, and resets as Gymnasium understands them."""

from typing import Any

import gymnasium
import numpy as np
from torch import Tensor

from memexp import envs
from memexp.config import UsageError
from memexp.envs.base import VecEnv, mix64
from memexp.spaces import ObservationSpace, TokenSpace, VectorSpace


def observation_box(space: ObservationSpace) -> gymnasium.spaces.Box:
    """One row's observation as a Box."""
    if isinstance(space, TokenSpace):
        return gymnasium.spaces.Box(0, 255, (space.num_tokens, 3), np.uint8)
    if isinstance(space, VectorSpace):
        return gymnasium.spaces.Box(-np.inf, np.inf, (space.size,), np.float32)
    raise AssertionError(f"{space} is of none of this project's worlds")


class Worlds:
    """Worlds on the CPU that can be reset with another seed, or with none: then to episodes not seen before."""

    def __init__(self, name: str, num_envs: int, seed: int, knobs: dict[str, Any]):
        self._name, self._num_envs, self._knobs = name, num_envs, knobs
        self._seed, self._resets = seed, 0
        if name == "any" or ":" in name:
            raise UsageError(f"{name}: this environment is somebody else's; only memexp's own worlds are exported")
        self._begun: Tensor | None = None  # first observations of episodes that nobody has acted in yet
        self.env: VecEnv = envs.make(name, num_envs, seed=seed, **knobs)
        self.observation_space = observation_box(self.env.observation)
        self.action_space = gymnasium.spaces.Discrete(self.env.num_actions)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """First observations `[N, ...]` of new episodes; a seed begins its own sequence of episodes anew."""
        if seed is None and self._begun is not None:
            return self._begun.numpy()
        if seed is not None:
            self._seed, self._resets = seed, 0
        stream = mix64(self._seed, self._resets) if self._resets else self._seed
        self._resets += 1
        self.env = envs.make(self._name, self._num_envs, seed=stream, **self._knobs)
        self._begun = self.env.reset()
        return self._begun.numpy()

    def step(self, actions: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """As VecEnv.step, in numpy; the arrays are the worlds' own."""
        obs, reward, terminated, truncated = self.env.step(actions)
        self._begun = obs if bool((terminated | truncated).all()) else None
        return obs.numpy(), reward.numpy(), terminated.numpy(), truncated.numpy()
