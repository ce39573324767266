"""`GridEnv`: the grid games as a VecEnv.

Each episode has its own task (`tasks(env index, episode)`, else a uniformly random one) and its own map. Both are
functions of the seed, the global env index and the number of the episode. The engine runs where the tensors are: on
the CPU (cpu_envs.py) or in kernels on a GPU (device_envs.py), with the same results bit by bit.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.config import UsageError
from memexp.envs.base import Episodes, TaskSource, VecEnv
from memexp.envs.grid import columns as col
from memexp.envs.grid.cpu_envs import CpuEnvs, EpisodeTable, Finished, Prepared
from memexp.envs.grid.state import Sizes, State
from memexp.spaces import TokenSpace


class GridEnv(VecEnv):
    """`num_envs` environments of a grid game. Observations are tokens; an episode ends after max_steps.

    On the CPU the returned tensors share the engine's memory. Actions: 0 noop; 1-4 move north, south, west, east (or
    use the object there); from 5 on change the vibe. Any other index does nothing.
    """

    shortest_truncation = None
    funnel: tuple[str, ...]
    """Names of the milestones on the way to reward, in order."""

    config: Any

    def __init__(
        self, config: Any, num_envs: int, device: str = "cpu", seed: int = 0, first_env: int = 0,
        tasks: TaskSource | None = None,
    ) -> None:  # fmt: skip
        """See `memexp.envs.make`."""
        if num_envs < 1:
            raise UsageError(f"num_envs must be at least 1, not {num_envs}")
        self.config = config
        sizes = self.sizes()
        self.num_envs, self.num_agents = num_envs, num_envs * sizes.agents
        self.num_actions = col.FIRST_VIBE_ACTION + config.num_vibes
        self.observation = _token_space(config.num_vibes)
        self._table = EpisodeTable(num_envs, seed, first_env, tasks, self.prepare)
        if torch.device(device).type == "cpu":
            self._engine = CpuEnvs(self._table, sizes)
        else:
            from memexp.envs.grid.device_envs import DeviceEnvs

            self._engine = DeviceEnvs(self._table, sizes, device)
        self.final_obs = self._engine.final_obs
        self.device = self.final_obs.device
        self.graphable = self.device.type == "cuda"
        self._truncated = torch.zeros(self.num_agents, dtype=torch.bool, device=self.device)

    @property
    def state(self) -> State:
        """The engine's arrays: everything about every environment. On a GPU these are copies."""
        return self._engine.state

    def time_limits(self) -> np.ndarray:
        return self.state.world[:, col.MAX_STEPS].copy()

    @abstractmethod
    def sizes(self) -> Sizes:
        """Sizes of the engine's arrays that suffice for every task of `config`."""

    @abstractmethod
    def prepare(self, task_id: int) -> Prepared:
        """The rules of a task as tables of the engine."""

    @abstractmethod
    def statistics(self, ended: Finished) -> dict[str, np.ndarray]:
        """Statistic -> its value in each episode `[E]`."""

    def task_id(self, i: int) -> int:
        """The task of the running episode of environment i of this batch."""
        return int(self._table.task[i])

    def reset(self) -> Tensor:
        return self._engine.reset()[0]

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self.ready()
        return self.launch(actions)

    def ready(self) -> None:
        self._engine.ready()

    def launch(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if actions.shape != (self.num_agents,):
            raise ValueError(f"actions must have shape [{self.num_agents}], not {list(actions.shape)}")
        return *self._engine.step(actions), self._truncated

    def desync(self) -> Tensor:
        obs, *_ = self._engine.desync()
        self.random_steps = self._table.random_steps * (self.num_agents // self.num_envs)
        return obs

    def pop_episodes(self) -> Episodes:
        batches = self._engine.pop_finished()
        if not batches:
            return {}
        ended = Finished(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
        reached = (ended.milestones != col.NOT_YET).mean(1)
        stats = {f"funnel/{name}": reached[:, i] for i, name in enumerate(self.funnel)}
        stats |= _common_statistics(ended) | self.statistics(ended)
        columns = {
            "return": ended.agent_stats[:, :, col.RETURN].mean(1),
            "length": ended.world[:, col.STEP],
            "world": ended.number,
            "task": ended.task,
        }
        return columns | {f"env/{name}": column.astype(np.float64) for name, column in stats.items()}

    def state_dict(self) -> dict[str, Any]:
        return self._engine.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        return self._engine.load_state_dict(state)[0]


def _token_space(num_vibes: int) -> TokenSpace:
    """Observations. Tags, vibes, actions and goals are categories; vibes without meaning share one category."""
    categories = [0] * col.NUM_FEATURES
    vibes = min(num_vibes, col.MEANINGFUL_VIBES) + 1
    categories[col.F_TAG], categories[col.F_VIBE] = col.NUM_TAGS, vibes
    categories[col.F_LAST_ACTION], categories[col.F_GOAL] = col.FIRST_VIBE_ACTION + vibes, col.NUM_FEATURES
    return TokenSpace(col.NUM_TOKENS, col.NORMALIZATION, tuple(categories), col.UNPLACED, col.WINDOW)


def _common_statistics(ended: Finished) -> dict[str, np.ndarray]:
    """Statistics of every grid game, means over agents. Shares are shares of an agent's actions.

    tokens: mean length of an observation; tokens_dropped: tokens per step that did not fit; longest_still: most steps
    in a row without motion.
    """
    world, agents, game = ended.world, ended.agent_stats.mean(1), ended.game_stats
    length, num_agents = world[:, col.STEP], ended.agent_stats.shape[1]
    per_agent = 1 / (num_agents * (length + 1))
    shares = {
        "noop_share": agents[:, col.SUCCEEDED + col.NOOP],
        "move_failed_share": agents[:, col.FAILED + col.MOVE],
        "vibe_share": agents[:, col.SUCCEEDED + col.CHANGE_VIBE],
        "invalid_share": agents[:, col.INVALID] / 2,
    }
    return {
        "max_steps": world[:, col.MAX_STEPS],
        "room_cells": (world[:, col.HEIGHT] - 2 * col.BORDER) * (world[:, col.WIDTH] - 2 * col.BORDER),
        "longest_still": agents[:, col.LONGEST_STILL],
        "tokens": game[:, col.WRITTEN] * per_agent,
        "tokens_dropped": game[:, col.DROPPED] * per_agent,
        **{name: count / length for name, count in shares.items()},
    }
