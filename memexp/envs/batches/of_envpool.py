"""EnvPool's environments, which threads in C++ step."""

# pyright: reportMissingImports=false

from functools import partial
from typing import Any

import envpool
import numpy as np
import optree
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from memexp.config import cores_left
from memexp.machine import cores

BOOKKEEPING = ("env_id", "players", "elapsed_step")
"""Parts of EnvPool's infos that say nothing about an episode."""


def make(id: str, num_envs: int, **options: Any) -> "EnvPool":
    """`options` are those of `envpool.make`, such as max_episode_steps."""
    return EnvPool(id, num_envs, options)


class EnvPool(VectorEnv):
    """`num_envs` environments of EnvPool. memexp resets those whose episodes have ended."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, id: str, num_envs: int, options: dict[str, Any]) -> None:
        options = {"num_threads": min(num_envs, cores_left(cores())), **options}
        self._make: Any = partial(envpool.make, id, env_type="gymnasium", num_envs=num_envs, **options)
        self._pool = self._make()
        self.num_envs, settings = num_envs, self._pool.config
        self.single_observation_space = self._pool.observation_space
        self.single_action_space = self._pool.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        limit, threshold = settings.get("max_episode_steps"), settings.get("reward_threshold")
        self.spec = EnvSpec(id, max_episode_steps=limit, reward_threshold=threshold)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._pool.close()
            self._pool = self._make(seed=seed)  # EnvPool takes no other seeds
        if not options or "reset_mask" not in options:
            self._obs, _ = self._pool.reset()
            return self._obs, {}
        rows = options["reset_mask"].nonzero()[0].astype(np.int32)
        fresh, _ = self._pool.reset(rows)

        def put(shown: np.ndarray, new: np.ndarray) -> np.ndarray:
            shown = shown.copy()
            shown[rows] = new
            return shown

        self._obs = optree.tree_map(put, self._obs, fresh)
        return self._obs, {}

    def step(self, actions: np.ndarray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._obs, *rest, infos = self._pool.step(actions)
        return self._obs, *rest, {name: values for name, values in infos.items() if name not in BOOKKEEPING}

    def close_extras(self) -> None:
        self._pool.close()
