"""Our environments for other libraries: PufferLib, Gymnasium, PettingZoo. `memexp.envs` has the functions to make them.

puffer.py      a `pufferlib.PufferEnv` for PufferLib's vectorisation and trainer
pufferl.py     PufferLib's trainer, also for a CPU build of torch
gymnasium.py   a `gymnasium.vector.VectorEnv`, and a `gymnasium.Env` of one environment
pettingzoo.py  a `pettingzoo.ParallelEnv` of one environment's agents
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from torch import Tensor

from memexp import envs
from memexp.config import UsageError
from memexp.envs.base import VecEnv, mix64
from memexp.spaces import ObservationSpace, TokenSpace, VectorSpace


def observation_box(space: ObservationSpace) -> spaces.Box:
    """The observation of one agent as a Box."""
    if isinstance(space, TokenSpace):
        return spaces.Box(0, 255, space.shape, np.uint8)
    if isinstance(space, VectorSpace):
        return spaces.Box(-np.inf, np.inf, space.shape, np.float32)
    raise AssertionError(f"none of our environments has {space}")


class ExportedEnvs:
    """Environments on the CPU. A reset without a seed starts new episodes; a seed restarts its sequence."""

    def __init__(self, name: str, num_envs: int, seed: int, knobs: dict[str, Any]):
        self._name, self._num_envs, self._knobs = name, num_envs, knobs
        self._seed, self._resets = seed, 0
        if name == "any" or ":" in name:
            raise UsageError(f"{name}: this environment is not memexp's; only memexp's own environments are exported")
        self._begun: Tensor | None = None  # first observations, if no action has followed them yet
        self.env: VecEnv = envs.make(name, num_envs, seed=seed, **knobs)
        self.observation_space = observation_box(self.env.observation)
        self.action_space = spaces.Discrete(self.env.num_actions)

    def reset(self, seed: int | None = None) -> np.ndarray:
        """First observations `[N, ...]` of new episodes."""
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
        """`VecEnv.step` with numpy arrays, which the next step overwrites."""
        obs, reward, terminated, truncated = self.env.step(actions)
        self._begun = obs if bool((terminated | truncated).all()) else None
        return obs.numpy(), reward.numpy(), terminated.numpy(), truncated.numpy()
