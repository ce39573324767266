"""Our environments for Gymnasium: many as one vector environment, or one as an ordinary environment."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from memexp.config import UsageError
from memexp.envs.export import ExportedEnvs

Info = dict[str, Any]


def _single_agent(name: str, num_envs: int, seed: int, knobs: dict[str, Any]) -> ExportedEnvs:
    exported = ExportedEnvs(name, num_envs, seed, knobs)
    if exported.env.num_agents != num_envs:
        raise UsageError(
            f"{name} has {exported.env.num_agents // num_envs} agents, a Gymnasium environment has one: "
            "use make_pettingzoo or make_puffer"
        )
    return exported


class GymnasiumVecEnv(gymnasium.vector.VectorEnv):
    """`num_envs` environments of one agent, with same-step autoreset.

    The step that ends an episode returns the first observation of the next one. Then `infos["final_obs"]` holds the
    true last observations, and `infos["_final_obs"]` is True for the environments that finished.
    """

    def __init__(self, name: str, num_envs: int, seed: int, knobs: dict[str, Any]):
        self._envs = _single_agent(name, num_envs, seed, knobs)
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.num_envs = num_envs
        self.single_observation_space = self._envs.observation_space
        self.single_action_space = self._envs.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Start new episodes in all environments. `seed` is one number for all of them; a list is refused."""
        if seed is not None and not isinstance(seed, (int, np.integer)):
            raise UsageError("seed must be one number, not a list: each environment derives its own stream from it")
        return self._envs.reset(None if seed is None else int(seed)).copy(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Info]:
        given = torch.from_numpy(np.asarray(actions).astype(np.int64))
        obs, reward, terminated, truncated = (array.copy() for array in self._envs.step(given))
        dones = terminated | truncated
        infos = {}
        if dones.any():
            infos = {"final_obs": self._envs.env.final_obs.numpy().copy(), "_final_obs": dones}
        return obs, reward, terminated, truncated, infos


class GymnasiumEnv(gymnasium.Env):
    """One environment of one agent."""

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(self, name: str, seed: int, knobs: dict[str, Any]):
        self._envs = _single_agent(name, 1, seed, knobs)
        self.observation_space = self._envs.observation_space
        self.action_space = self._envs.action_space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        super().reset(seed=seed)
        return self._envs.reset(seed)[0].copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Info]:
        obs, reward, terminated, truncated = self._envs.step(torch.tensor([int(action)]))
        if terminated[0] or truncated[0]:
            obs = self._envs.env.final_obs.numpy()
        return obs[0].copy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), {}
