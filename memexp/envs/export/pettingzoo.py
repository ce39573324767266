"""One of our worlds as a PettingZoo parallel environment; needs the extra `suites`."""

from typing import Any

import gymnasium
import numpy as np
import torch
from pettingzoo import ParallelEnv

from memexp.envs.export.worlds import Worlds


class ParallelWorld(ParallelEnv):
    """The agents of one world, agent_0 and following. Their episodes end together."""

    def __init__(self, name: str, seed: int, knobs: dict[str, Any]):
        self._worlds = Worlds(name, 1, seed, knobs)
        self.metadata = {"name": f"memexp_{name}", "render_modes": []}
        self.render_mode = None
        self.possible_agents = [f"agent_{i}" for i in range(self._worlds.env.num_agents)]
        self.agents: list[str] = []

    def observation_space(self, agent: str) -> gymnasium.spaces.Box:
        return self._worlds.observation_space

    def action_space(self, agent: str) -> gymnasium.spaces.Discrete:
        return self._worlds.action_space

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None):
        """First observations by agent, and empty infos."""
        self.agents = list(self.possible_agents)
        return self._by_agent(self._worlds.reset(seed).copy()), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]):
        """Observations, rewards, terminations, truncations and infos by agent; actions of all agents are needed."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        given = torch.tensor([int(actions[agent]) for agent in self.possible_agents])
        obs, reward, terminated, truncated = self._worlds.step(given)
        if (terminated | truncated).any():
            obs = self._worlds.env.final_obs.numpy()
        parts = obs.copy(), reward.tolist(), terminated.tolist(), truncated.tolist(), [{} for _ in self.agents]
        result = tuple(self._by_agent(part) for part in parts)
        if (terminated | truncated).all():
            self.agents = []
        return result

    def _by_agent(self, rows: np.ndarray | list[Any]) -> dict[str, Any]:
        return dict(zip(self.possible_agents, rows, strict=True))
