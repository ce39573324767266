"""The grid games as a VecEnv: worlds of the engine in grid/, in the very memory that the engine writes.

Every episode has a task (`tasks(world, episode)`, else a uniformly random one) and a map of its own, both functions of
the seed, the world's global number and the episode's number.
"""

from abc import abstractmethod
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memexp.config import UsageError
from memexp.envs.base import Episodes, TaskSource, VecEnv, mix64
from memexp.envs.grid import columns as col
from memexp.envs.grid.ascii import ascii_world
from memexp.envs.grid.rooms import room_for
from memexp.envs.grid.state import COMMON, Sizes, State, allocate
from memexp.envs.grid.step import GIVEN, RANDOM, begin_worlds, step_worlds
from memexp.envs.grid.tables import Tables, load
from memexp.spaces import TokenSpace

MAX_TASK_ID = 1_000_000
"""Tasks that are drawn uniformly have ids from 0 to this, as in the original."""
TASKS_KEPT = 4096
"""How many tasks' tables are kept for when the task is played again."""
_MAP, _DESYNC = 1, 2  # what a seed derived from (seed, world, episode) is for, besides the task


class Prepared(NamedTuple):
    """A task made ready for the engine."""

    tables: Tables
    facts: tuple[float, ...]
    """What the statistics of an episode need to know of its task; the same number for every task of an environment."""


class Ended(NamedTuple):
    """What E ended episodes leave behind in the state arrays."""

    world: np.ndarray
    """int64 [E, WORLD_COLUMNS]."""
    objects: np.ndarray
    """int32 [E, O, OBJECT_COLUMNS]."""
    agent_stats: np.ndarray
    """float32 [E, A, AGENT_STAT_COLUMNS]."""
    game_stats: np.ndarray
    """float32 [E, GAME_STATS]."""
    milestones: np.ndarray
    """int32 [E, A, M]."""
    number: np.ndarray
    """int64 [E]: global number of the world."""
    task: np.ndarray
    """int64 [E]: task id."""
    facts: np.ndarray
    """float64 [E, F]: see Prepared."""


class GridEnv(VecEnv):
    """`num_envs` worlds of `sizes.agents` agents each. Observations are tokens; an episode ends after max_steps.

    On the CPU the returned tensors are the very memory that the engine writes. Actions: 0 noop, 1-4 move north, south,
    west, east (or use what stands there), from 5 on change the vibe; any other index does nothing.
    """

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
        self.device = torch.device(device)
        self._seed, self._first_world, self._tasks = seed, first_world, tasks
        self._prepared = lru_cache(TASKS_KEPT)(self.prepare)
        self._state = allocate(num_envs, sizes)
        self._scratch = room_for(sizes.height, sizes.width)
        self._actions = np.zeros((num_envs, sizes.agents), np.int64)
        self._one_step = np.ones(num_envs, np.int64)
        self._episode = np.zeros(num_envs, np.int64)
        self._task = np.zeros(num_envs, np.int64)
        self._facts = np.zeros((num_envs, len(self._prepared(0).facts)))
        self._cut = np.zeros(num_envs, np.bool_)
        self._ended: list[Ended] = []

        s, n = self._state, self.num_agents
        rows = (s.obs.reshape(n, col.NUM_TOKENS, 3), s.rewards.reshape(n), s.final_obs.reshape(n, col.NUM_TOKENS, 3))
        self._host = [torch.from_numpy(array) for array in rows]
        self._obs, self._reward, self.final_obs = (tensor.to(self.device) for tensor in self._host)
        self._ends = torch.from_numpy(s.terminated)
        self._terminated = self._ends if sizes.agents == 1 and self.device.type == "cpu" else self._spread()
        self._truncated = torch.zeros(n, dtype=torch.bool, device=self.device)

    @property
    def state(self) -> State:
        """The engine's arrays: everything about every world, for players with full sight and for recordings."""
        return self._state

    def time_limits(self) -> np.ndarray:
        return self._state.world[:, col.MAX_STEPS].copy()

    @abstractmethod
    def prepare(self, task_id: int) -> Prepared:
        """The task's game as the engine's tables."""

    @abstractmethod
    def statistics(self, ended: Ended) -> dict[str, np.ndarray]:
        """Statistic -> one value `[E]` an episode."""

    def task_id(self, world: int) -> int:
        """The task that the world of row `world` is playing."""
        return int(self._task[world])

    def reset(self) -> Tensor:
        self._episode[:] = 0
        self._cut[:] = False
        self._ended.clear()
        self._begin(np.arange(self.num_envs))
        return self._publish()[0]

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if actions.shape != (self.num_agents,):
            raise ValueError(f"actions must have shape [{self.num_agents}], not {list(actions.shape)}")
        np.copyto(self._actions, actions.cpu().numpy().reshape(self._actions.shape))
        step_worlds(self._state, self._actions, self._one_step, GIVEN)
        ended = np.flatnonzero(self._state.terminated)
        if len(ended):
            self._keep(ended[~self._cut[ended]])
            self._cut[ended] = False
            self._episode[ended] += 1
            self._begin(ended)
        return self._publish()

    def desync(self) -> Tensor:
        self.reset()
        s = self._state
        seeds = [mix64(self._seed, self._first_world + w, 0, _DESYNC) for w in range(self.num_envs)]
        steps = (np.array(seeds, np.uint64) % s.world[:, col.MAX_STEPS].astype(np.uint64)).astype(np.int64)
        step_worlds(s, self._actions, steps, RANDOM)
        self._cut |= steps > 0
        return self._publish()[0]

    def pop_episodes(self) -> Episodes:
        if not self._ended:
            return {}
        ended = Ended(*(np.concatenate(parts) for parts in zip(*self._ended, strict=True)))
        self._ended.clear()
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
        names = [name for name in self._state._fields if name not in ("final_obs", *COMMON)]
        return {
            "arrays": {name: getattr(self._state, name).copy() for name in names},
            **{name: getattr(self, f"_{name}").copy() for name in _COUNTERS},
            "ended": [tuple(part) for part in self._ended],
        }

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        for name, array in state["arrays"].items():
            np.copyto(getattr(self._state, name), array)
        for name in _COUNTERS:
            np.copyto(getattr(self, f"_{name}"), state[name])
        self._ended = [Ended(*part) for part in state["ended"]]
        return self._publish()[0]

    def ascii(self, world: int) -> str:
        """The world of row `world` as text."""
        return ascii_world(self._state, world)

    def _begin(self, worlds: np.ndarray) -> None:
        """Start a new episode in each of these worlds (row numbers)."""
        for w in worlds.tolist():
            world, episode = self._first_world + w, int(self._episode[w])
            if self._tasks is None:
                task_id = mix64(self._seed, world, episode) % (MAX_TASK_ID + 1)
            else:
                task_id = self._tasks(world, episode)
            self._task[w] = task_id
            tables, self._facts[w] = self._prepared(task_id)
            load(self._state, w, tables)
            self._state.rng[w] = mix64(self._seed, world, episode, _MAP) | 1
        begin_worlds(self._state, worlds, self._scratch, False)

    def _keep(self, worlds: np.ndarray) -> None:
        """Note what the finished episodes of these worlds leave behind, before it is overwritten."""
        s = self._state
        if len(worlds):
            kept = {name: getattr(s, name)[worlds] for name in Ended._fields if name in s._fields}
            mine = {"number": self._first_world + worlds, "task": self._task[worlds], "facts": self._facts[worlds]}
            self._ended.append(Ended(**kept, **mine))

    def _spread(self) -> Tensor:
        """Which agents' episodes have ended, `[N]` on the device."""
        return self._ends.repeat_interleave(self.num_agents // self.num_envs).to(self.device)

    def _publish(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Observations, rewards, terminated and truncated on the device."""
        if self._terminated is not self._ends:
            self._terminated = self._spread()
        if self.device.type != "cpu":
            self._obs.copy_(self._host[0])
            self._reward.copy_(self._host[1])
            if self._state.terminated.any():
                self.final_obs.copy_(self._host[2])
        return self._obs, self._reward, self._terminated, self._truncated


def _token_space(num_vibes: int) -> TokenSpace:
    """What agents see. Tags, vibes, actions and goals are names; vibes that mean nothing are one category."""
    categories = [0] * col.NUM_FEATURES
    vibes = min(num_vibes, col.MEANINGFUL_VIBES) + 1
    categories[col.F_TAG], categories[col.F_VIBE] = col.NUM_TAGS, vibes
    categories[col.F_LAST_ACTION], categories[col.F_GOAL] = col.FIRST_VIBE_ACTION + vibes, col.NUM_FEATURES
    return TokenSpace(col.NUM_TOKENS, col.NORMALIZATION, tuple(categories), col.UNPLACED, col.WINDOW)


_COUNTERS = ("episode", "task", "facts", "cut")
"""Attributes of GridEnv (without the underscore) that are saved beside the engine's arrays."""


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
