"""`EpisodeTable`, which says what each environment plays, and `CpuEnvs`, the environments of a grid game on the CPU."""

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
"""Uniformly drawn tasks have ids from 0 to this, as in MettaGrid."""
TASKS_KEPT = 4096
"""Number of tasks whose tables stay cached."""
_MAP, _DESYNC = 1, 2  # purposes of seeds derived from (seed, env index, episode), besides the task

Outcome = tuple[Tensor, Tensor, Tensor]
"""Observations `[N, 200, 3]`, rewards `[N]` and dones `[N]`."""


class Prepared(NamedTuple):
    """A task as the engine takes it."""

    tables: Tables
    facts: tuple[float, ...]
    """What the statistics of an episode need to know about its task. Every task of an environment has as many facts."""


class Finished(NamedTuple):
    """The final state of E finished episodes: rows of the arrays of State, then what the episodes were."""

    world: np.ndarray  # int64 [E, WORLD_COLUMNS]
    objects: np.ndarray  # int32 [E, O, OBJECT_COLUMNS]
    agent_stats: np.ndarray  # float32 [E, A, AGENT_STAT_COLUMNS]
    game_stats: np.ndarray  # float32 [E, GAME_STATS]
    milestones: np.ndarray  # int32 [E, A, M]
    number: np.ndarray  # int64 [E]: global env index
    task: np.ndarray  # int64 [E]: task id
    facts: np.ndarray  # float64 [E, F]: see Prepared


class EpisodeTable:
    """The running episode and task of each of `num_envs` environments.

    Every random number of an episode is a function of (seed, global env index, number of the episode).
    """

    def __init__(
        self, num_envs: int, seed: int, first_env: int, tasks: TaskSource | None, prepare: Callable[[int], Prepared]
    ) -> None:
        self.num_envs = num_envs
        self.first_env = first_env
        self.prepare = lru_cache(TASKS_KEPT)(prepare)
        self._seed, self._tasks = seed, tasks
        self.episode = np.zeros(num_envs, np.int64)
        self.task = np.zeros(num_envs, np.int64)
        self.facts = np.zeros((num_envs, len(self.prepare(0).facts)))
        self.cut = np.zeros(num_envs, np.bool_)
        """Environments whose running episode the statistics leave out."""
        self.random_steps = 0

    def restart(self) -> None:
        """Every environment plays its first episode."""
        self.episode[:] = 0
        self.cut[:] = False

    def task_of(self, w: int, episode: int) -> int:
        """The task of an episode of environment w that starts now."""
        index = self.first_env + w
        if self._tasks is None:
            return mix64(self._seed, index, episode) % (MAX_TASK_ID + 1)
        return self._tasks(index, episode)

    def peek(self, w: int, episode: int) -> int | None:
        """The task of an episode that starts later; None: not known yet. A task source whose answers change with time
        has a method `peek` (see curriculum/schedule.py)."""
        source = getattr(self._tasks, "peek", None)
        return source(self.first_env + w, episode) if source else self.task_of(w, episode)

    def start(self, w: int, task_id: int) -> None:
        """Environment w starts its episode with this task."""
        self.task[w] = task_id
        self.facts[w] = self.prepare(task_id).facts

    def load(self, s: State, row: int, w: int, episode: int, task_id: int) -> None:
        """Prepare row `row` of `s` for an episode of environment w."""
        load(s, row, self.prepare(task_id).tables)
        s.rng[row] = mix64(self._seed, self.first_env + w, episode, _MAP) | 1

    def steps_out_of_phase(self, max_steps: np.ndarray) -> np.ndarray:
        """Random numbers of steps `[W]`, each below the length of the environment's first episode."""
        seeds = [mix64(self._seed, self.first_env + w, 0, _DESYNC) for w in range(self.num_envs)]
        steps = (np.array(seeds, np.uint64) % max_steps.astype(np.uint64)).astype(np.int64)
        self.random_steps += int(steps.sum())
        return steps

    def labels(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Fields of Finished that say which episodes these environments have finished."""
        return {"number": self.first_env + rows, "task": self.task[rows], "facts": self.facts[rows]}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name).copy() for name in _COUNTERS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in _COUNTERS:
            np.copyto(getattr(self, name), state[name])


_COUNTERS = ("episode", "task", "facts", "cut")


class CpuEnvs:
    """The environments in the memory of the CPU. The returned tensors share the engine's memory."""

    def __init__(self, table: EpisodeTable, sizes: Sizes) -> None:
        self.state = allocate(table.num_envs, sizes)
        self._table = table
        self._scratch = room_for(sizes.height, sizes.width)
        self._actions = np.zeros((table.num_envs, sizes.agents), np.int64)
        self._one_step = np.ones(table.num_envs, np.int64)
        self._finished: list[Finished] = []
        s, n = self.state, table.num_envs * sizes.agents
        self._obs = torch.from_numpy(s.obs.reshape(n, col.NUM_TOKENS, 3))
        self._reward = torch.from_numpy(s.rewards.reshape(n))
        self._dones = torch.from_numpy(s.terminated)
        self.final_obs = torch.from_numpy(s.final_obs.reshape(n, col.NUM_TOKENS, 3))

    def reset(self) -> Outcome:
        """Start the first episode of every environment."""
        self._table.restart()
        self._finished.clear()
        self.state.terminated[:] = False
        self._begin(np.arange(self._table.num_envs))
        return self._outcome()

    def ready(self) -> None:
        """Nothing to do before a step on the CPU."""

    def step(self, actions: Tensor) -> Outcome:
        """One step of every environment. Those that finish start their next episode."""
        np.copyto(self._actions, actions.numpy().reshape(self._actions.shape))
        step_worlds(self.state, self._actions, self._one_step, GIVEN)
        done = np.flatnonzero(self.state.terminated)
        if len(done):
            self._keep(done[~self._table.cut[done]])
            self._table.cut[done] = False
            self._table.episode[done] += 1
            self._begin(done)
        return self._outcome()

    def desync(self) -> Outcome:
        """Play at random to a random step of each first episode."""
        self.reset()
        steps = self._table.steps_out_of_phase(self.state.world[:, col.MAX_STEPS])
        step_worlds(self.state, self._actions, steps, RANDOM)
        self._table.cut |= steps > 0
        return self._outcome()

    def pop_finished(self) -> list[Finished]:
        """The episodes finished since the last call, ordered by step, then by environment."""
        popped, self._finished = self._finished, []
        return popped

    def state_dict(self) -> dict[str, Any]:
        names = [name for name in self.state._fields if name not in ("final_obs", *COMMON)]
        return {
            "arrays": {name: getattr(self.state, name).copy() for name in names},
            **self._table.state_dict(),
            "ended": [tuple(part) for part in self._finished],
        }

    def load_state_dict(self, state: dict[str, Any]) -> Outcome:
        for name, array in state["arrays"].items():
            np.copyto(getattr(self.state, name), array)
        self._table.load_state_dict(state)
        self._finished = [Finished(*part) for part in state["ended"]]
        return self._outcome()

    def _begin(self, rows: np.ndarray) -> None:
        """Start a new episode in each of these rows."""
        for w in rows.tolist():
            episode = int(self._table.episode[w])
            task_id = self._table.task_of(w, episode)
            self._table.start(w, task_id)
            self._table.load(self.state, w, w, episode, task_id)
        begin_worlds(self.state, rows, self._scratch, False)

    def _keep(self, rows: np.ndarray) -> None:
        """Keep the final state of the finished episodes in these rows before the next episode overwrites it."""
        if len(rows):
            kept = {name: getattr(self.state, name)[rows] for name in Finished._fields if name in self.state._fields}
            self._finished.append(Finished(**kept, **self._table.labels(rows)))

    def _outcome(self) -> Outcome:
        agents = len(self._reward) // len(self._dones)
        dones = self._dones if agents == 1 else self._dones.repeat_interleave(agents)
        return self._obs, self._reward, dones
