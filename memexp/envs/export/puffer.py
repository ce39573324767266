"""Our environments as a native `pufferlib.PufferEnv`: many in one process, written into PufferLib's buffers."""

from typing import Any

import numpy as np
import torch
from pufferlib.pufferlib import PufferEnv

from memexp.envs.export import ExportedEnvs

Infos = list[dict[str, list[float]]]


class NativePufferEnv(PufferEnv):
    """`num_envs` environments; each agent is a row of the buffers. The step that ends an episode starts the next one.

    After a step in which episodes ended, infos holds one dictionary of lists: episode_return, episode_length and the
    statistics env/...
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    truncations: np.ndarray
    agents_per_batch: int
    """PufferLib's trainer needs it for a recurrent policy, but PufferEnv does not set it."""

    def __init__(self, name: str, num_envs: int, seed: int, buf: dict[str, np.ndarray] | None, knobs: dict[str, Any]):
        self._envs = ExportedEnvs(name, num_envs, seed, knobs)
        self.single_observation_space = self._envs.observation_space
        self.single_action_space = self._envs.action_space
        self.num_agents = self.agents_per_batch = self._envs.env.num_agents
        super().__init__(buf)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, Infos]:
        self.observations[:] = self._envs.reset(seed)
        self.rewards[:] = 0
        self.terminals[:] = self.truncations[:] = False
        return self.observations, []

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Infos]:
        given = torch.from_numpy(np.asarray(actions).astype(np.int64))
        self.observations[:], self.rewards[:], self.terminals[:], self.truncations[:] = self._envs.step(given)
        infos = self._infos() if self.terminals.any() or self.truncations.any() else []
        return self.observations, self.rewards, self.terminals, self.truncations, infos

    def _infos(self) -> Infos:
        episodes = self._envs.env.pop_episodes()
        names = {"return": "episode_return", "length": "episode_length"}
        columns = {names.get(key, key): column for key, column in episodes.items() if key not in ("world", "task")}
        return [{key: column[~np.isnan(column)].tolist() for key, column in columns.items()}] if columns else []

    def close(self) -> None:
        """Nothing to do: the environments live in this process."""
