"""The grid games as a VecEnv: worlds of the engine in grid/, in the very memory that the engine writes.

Every episode has a task (`tasks(world, episode)`, else a uniformly random one) and a map of its own, both functions of
the seed, the world's global number and the episode's number. The engine runs where the tensors are: on the CPU
(grid_worlds.py) or inside kernels on the device (grid_device.py), with the same results bit by bit.
"""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.config import UsageError
from memexp.envs.base import Episodes, TaskSource, VecEnv
from memexp.envs.grid import columns as col
from memexp.envs.grid.ascii import ascii_world
from memexp.envs.grid.cpu_envs import Ended, HostWorlds, Prepared, Roster
from memexp.envs.grid.state import Sizes, State
from memexp.spaces import TokenSpace


class GridEnv(VecEnv):
    """`num_envs` worlds of `sizes.agents` agents each. Observations are tokens; an episode ends after max_steps.

    On the CPU the returned tensors are the very memory that the engine writes. Actions: 0 noop, 1-4 move north, south,
    west, east (or use what stands there), from 5 on change the vibe; any other index does nothing.
    """

    shortest_truncation = None
    funnel: tuple[str, ...]
    """Names of the milestones on the way to reward, in their order."""

    def __init__(
        self, sizes: Sizes, num_vibes: int, num_envs: int, device: str, seed: int, first_world: int,
        tasks: TaskSource | None,
    ) -> None:  # fmt: skip
        if num_envs < 1:
            raise UsageError(f"num_envs must be at least 1, not {num_envs}")
        self.num_envs, self.num_agents = num_envs, num_envs * sizes.agents
        self.num_actions = col.FIRST_VIBE_ACTION + num_vibes
        self.observation = _token_space(num_vibes)
        self._roster = Roster(num_envs, seed, first_world, tasks, self.prepare)
        if torch.device(device).type == "cpu":
            self._worlds = HostWorlds(self._roster, sizes)
        else:
            from memexp.envs.grid.device_envs import DeviceWorlds

            self._worlds = DeviceWorlds(self._roster, sizes, device)
        self.final_obs = self._worlds.final_obs
        self.device = self.final_obs.device
        self.graphable = self.device.type == "cuda"
        self._truncated = torch.zeros(self.num_agents, dtype=torch.bool, device=self.device)

    @property
    def state(self) -> State:
        """The engine's arrays: everything about every world, for players with full sight and for recordings.

        Where the engine runs on a device: copies of them.
        """
        return self._worlds.state

    def time_limits(self) -> np.ndarray:
        return self.state.world[:, col.MAX_STEPS].copy()

    @abstractmethod
    def prepare(self, task_id: int) -> Prepared:
        """The task's game as the engine's tables."""

    @abstractmethod
    def statistics(self, ended: Ended) -> dict[str, np.ndarray]:
        """Statistic -> one value `[E]` an episode."""

    def task_id(self, world: int) -> int:
        """The task that the world of row `world` is playing."""
        return int(self._roster.task[world])

    def reset(self) -> Tensor:
        return self._worlds.reset()[0]

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self.ready()
        return self.launch(actions)

    def ready(self) -> None:
        self._worlds.ready()

    def launch(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if actions.shape != (self.num_agents,):
            raise ValueError(f"actions must have shape [{self.num_agents}], not {list(actions.shape)}")
        return *self._worlds.step(actions), self._truncated

    def desync(self) -> Tensor:
        return self._worlds.desync()[0]

    def pop_episodes(self) -> Episodes:
        left = self._worlds.pop_ended()
        if not left:
            return {}
        ended = Ended(*(np.concatenate(parts) for parts in zip(*left, strict=True)))
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
        return self._worlds.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        return self._worlds.load_state_dict(state)[0]

    def ascii(self, world: int) -> str:
        """The world of row `world` as text."""
        return ascii_world(self.state, world)


def _token_space(num_vibes: int) -> TokenSpace:
    """What agents see. Tags, vibes, actions and goals are names; vibes that mean nothing are one category."""
    categories = [0] * col.NUM_FEATURES
    vibes = min(num_vibes, col.MEANINGFUL_VIBES) + 1
    categories[col.F_TAG], categories[col.F_VIBE] = col.NUM_TAGS, vibes
    categories[col.F_LAST_ACTION], categories[col.F_GOAL] = col.FIRST_VIBE_ACTION + vibes, col.NUM_FEATURES
    return TokenSpace(col.NUM_TOKENS, col.NORMALIZATION, tuple(categories), col.UNPLACED, col.WINDOW)


def _common_statistics(ended: Ended) -> dict[str, np.ndarray]:
    """Statistics that every grid game has; shares are of an agent's actions, everything is a mean over agents.

    tokens: mean length of an observation; tokens_dropped: tokens a step that found no room in it; longest_still: the
    longest run of actions without motion, steps.
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
