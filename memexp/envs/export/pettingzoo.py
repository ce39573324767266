"""One of our environments as a PettingZoo parallel environment; needs the extra `suites`."""

from typing import Any

import gymnasium
import numpy as np
import torch
from pettingzoo import ParallelEnv

from memexp.envs.export import ExportedEnvs


class PettingZooEnv(ParallelEnv):
    """One environment with agents agent_0, agent_1, ... Their episodes end together."""

    def __init__(self, name: str, seed: int, knobs: dict[str, Any]):
        self._envs = ExportedEnvs(name, 1, seed, knobs)
        self.metadata = {"name": f"memexp_{name}", "render_modes": []}
        self.render_mode = None
        self.possible_agents = [f"agent_{i}" for i in range(self._envs.env.num_agents)]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> gymnasium.spaces.Box:
        return self._envs.observation_space

    def action_space(self, agent: str) -> gymnasium.spaces.Discrete:
        return self._envs.action_space

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None):
        self.agents = list(self.possible_agents)
        return self._by_agent(self._envs.reset(seed).copy()), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]):
        """One step. `actions` must hold an action for every agent."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        given = torch.tensor([int(actions[agent]) for agent in self.possible_agents])
        obs, reward, terminated, truncated = self._envs.step(given)
        if (terminated | truncated).any():
            obs = self._envs.env.final_obs.numpy()
        parts = obs.copy(), reward.tolist(), terminated.tolist(), truncated.tolist(), [{} for _ in self.agents]
        result = tuple(self._by_agent(part) for part in parts)
        if (terminated | truncated).all():
            self.agents = []
        return result

    def _by_agent(self, rows: np.ndarray | list[Any]) -> dict[str, Any]:
        return dict(zip(self.possible_agents, rows, strict=True))
