"""Which episode every world of a grid game plays, and the worlds themselves where the engine runs on the CPU."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memexp.envs.base import TaskSource, mix64
from memexp.envs.grid import columns as col
from memexp.envs.grid.rooms import room_for
from memexp.envs.grid.state import COMMON, Sizes, State, allocate
from memexp.envs.grid.step import GIVEN, RANDOM, begin_worlds, step_worlds
from memexp.envs.grid.tables import Tables, load

MAX_TASK_ID = 1_000_000
"""Tasks that are drawn uniformly have ids from 0 to this, as in the original."""
TASKS_KEPT = 4096
"""How many tasks' tables are kept for when the task is played again."""
_MAP, _DESYNC = 1, 2  # what a seed derived from (seed, world, episode) is for, besides the task

Outcome = tuple[Tensor, Tensor, Tensor]
"""Observations `[N, 200, 3]`, rewards `[N]` and ends of episodes `[N]`."""


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


class Roster:
    """Episode and task of each of `num_envs` worlds: both are functions of the seed and the world's global number.

    Every random number of an episode follows from (seed, global number of the world, number of the episode).
    """

    def __init__(
        self, num_envs: int, seed: int, first_world: int, tasks: TaskSource | None, prepare: Callable[[int], Prepared]
    ) -> None:
        self.num_envs = num_envs
        self.first_world = first_world
        self.prepare = lru_cache(TASKS_KEPT)(prepare)
        self._seed, self._tasks = seed, tasks
        self.episode = np.zeros(num_envs, np.int64)
        self.task = np.zeros(num_envs, np.int64)
        self.facts = np.zeros((num_envs, len(self.prepare(0).facts)))
        self.cut = np.zeros(num_envs, np.bool_)
        """Worlds whose running episode is left out of the statistics."""

    def restart(self) -> None:
        """Every world plays its first episode."""
        self.episode[:] = 0
        self.cut[:] = False

    def task_of(self, w: int, episode: int) -> int:
        """The task of an episode of world w that begins now."""
        world = self.first_world + w
        if self._tasks is None:
            return mix64(self._seed, world, episode) % (MAX_TASK_ID + 1)
        return self._tasks(world, episode)

    def foretell(self, w: int, episode: int) -> int | None:
        """The task of an episode that begins later, None: nobody knows yet. A source whose answers change with time
        has a method `foretell` (see curriculum/schedule.py); any other is simply asked."""
        source = getattr(self._tasks, "foretell", None)
        return source(self.first_world + w, episode) if source else self.task_of(w, episode)

    def note(self, w: int, task_id: int) -> None:
        """World w begins its episode with this task."""
        self.task[w] = task_id
        self.facts[w] = self.prepare(task_id).facts

    def load(self, s: State, row: int, w: int, episode: int, task_id: int) -> None:
        """Make row `row` of `s` ready to begin an episode of world w."""
        load(s, row, self.prepare(task_id).tables)
        s.rng[row] = mix64(self._seed, self.first_world + w, episode, _MAP) | 1

    def steps_out_of_phase(self, max_steps: np.ndarray) -> np.ndarray:
        """Random steps `[W]`, each below the length of the world's first episode."""
        seeds = [mix64(self._seed, self.first_world + w, 0, _DESYNC) for w in range(self.num_envs)]
        return (np.array(seeds, np.uint64) % max_steps.astype(np.uint64)).astype(np.int64)

    def ended(self, worlds: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of the episodes that these worlds have ended, as fields of Ended."""
        return {"number": self.first_world + worlds, "task": self.task[worlds], "facts": self.facts[worlds]}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name).copy() for name in _COUNTERS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in _COUNTERS:
            np.copyto(getattr(self, name), state[name])


_COUNTERS = ("episode", "task", "facts", "cut")


class HostWorlds:
    """The worlds in the host's memory: the returned tensors are the very memory that the engine writes."""

    def __init__(self, roster: Roster, sizes: Sizes) -> None:
        self.state = allocate(roster.num_envs, sizes)
        self._roster = roster
        self._scratch = room_for(sizes.height, sizes.width)
        self._actions = np.zeros((roster.num_envs, sizes.agents), np.int64)
        self._one_step = np.ones(roster.num_envs, np.int64)
        self._left: list[Ended] = []
        s, n = self.state, roster.num_envs * sizes.agents
        self._obs = torch.from_numpy(s.obs.reshape(n, col.NUM_TOKENS, 3))
        self._reward = torch.from_numpy(s.rewards.reshape(n))
        self._ends = torch.from_numpy(s.terminated)
        self.final_obs = torch.from_numpy(s.final_obs.reshape(n, col.NUM_TOKENS, 3))

    def reset(self) -> Outcome:
        """Begin every world's first episode."""
        self._roster.restart()
        self._left.clear()
        self.state.terminated[:] = False
        self._begin(np.arange(self._roster.num_envs))
        return self._outcome()

    def ready(self) -> None:
        """Nothing has to be done before a step."""

    def step(self, actions: Tensor) -> Outcome:
        """One step of every world; those that end begin their next episode."""
        np.copyto(self._actions, actions.numpy().reshape(self._actions.shape))
        step_worlds(self.state, self._actions, self._one_step, GIVEN)
        ended = np.flatnonzero(self.state.terminated)
        if len(ended):
            self._keep(ended[~self._roster.cut[ended]])
            self._roster.cut[ended] = False
            self._roster.episode[ended] += 1
            self._begin(ended)
        return self._outcome()

    def desync(self) -> Outcome:
        """Carry every world to a random step of its first episode by random play."""
        self.reset()
        steps = self._roster.steps_out_of_phase(self.state.world[:, col.MAX_STEPS])
        step_worlds(self.state, self._actions, steps, RANDOM)
        self._roster.cut |= steps > 0
        return self._outcome()

    def pop_ended(self) -> list[Ended]:
        """What the episodes that ended since the last call leave behind, in the order of steps, then worlds."""
        left, self._left = self._left, []
        return left

    def state_dict(self) -> dict[str, Any]:
        names = [name for name in self.state._fields if name not in ("final_obs", *COMMON)]
        return {
            "arrays": {name: getattr(self.state, name).copy() for name in names},
            **self._roster.state_dict(),
            "ended": [tuple(part) for part in self._left],
        }

    def load_state_dict(self, state: dict[str, Any]) -> Outcome:
        for name, array in state["arrays"].items():
            np.copyto(getattr(self.state, name), array)
        self._roster.load_state_dict(state)
        self._left = [Ended(*part) for part in state["ended"]]
        return self._outcome()

    def _begin(self, worlds: np.ndarray) -> None:
        """Start a new episode in each of these worlds (row numbers)."""
        for w in worlds.tolist():
            episode = int(self._roster.episode[w])
            task_id = self._roster.task_of(w, episode)
            self._roster.note(w, task_id)
            self._roster.load(self.state, w, w, episode, task_id)
        begin_worlds(self.state, worlds, self._scratch, False)

    def _keep(self, worlds: np.ndarray) -> None:
        """Note what the finished episodes of these worlds leave behind, before it is overwritten."""
        if len(worlds):
            kept = {name: getattr(self.state, name)[worlds] for name in Ended._fields if name in self.state._fields}
            self._left.append(Ended(**kept, **self._roster.ended(worlds)))

    def _outcome(self) -> Outcome:
        agents = len(self._reward) // len(self._ends)
        ends = self._ends if agents == 1 else self._ends.repeat_interleave(agents)
        return self._obs, self._reward, ends
