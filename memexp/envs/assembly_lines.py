"""assembly_lines: one agent carries resources along a chain of stations until they become hearts (at most 15).

The game is MettaGrid's, bit by bit; the engine is in grid/, the tasks are in assembly_tasks.py. Every episode has a
task (`tasks(world, episode)`, else a uniformly random one) and a map of its own, both functions of the seed, the
world's global number and the episode's number.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.config import UsageError
from memexp.envs.assembly_tasks import (
    MAX_TASK_ID,
    RESOURCES,
    ROOMS,
    SINK_COOLDOWN,
    STYLES,
    TERRAINS,
    Style,
    Task,
    sample_task,
)
from memexp.envs.base import Episodes, TaskSource, VecEnv, mix64
from memexp.envs.config import AssemblyLines
from memexp.envs.grid import columns as col
from memexp.envs.grid.ascii import ascii_world
from memexp.envs.grid.maps import room_for
from memexp.envs.grid.state import Sizes, allocate
from memexp.envs.grid.stats import stat_number
from memexp.envs.grid.step import GIVEN, RANDOM, begin_worlds, step_worlds
from memexp.envs.grid.tables import Game, Protocol, Station, Tables, build, load
from memexp.spaces import TokenSpace

HEART_LIMIT = 15
_NUMBER = {name: number for number, name in enumerate(RESOURCES)}
_HEART = _NUMBER["heart"]
_LIMITS = [([number], HEART_LIMIT if number == _HEART else 1) for number in range(len(RESOURCES))]
_REWARDS = [(stat_number("heart.amount", RESOURCES), 1.0, np.inf)]
_MAP, _DESYNC = 1, 2  # what a seed derived from (seed, world, episode) is for, besides the task


def game_of(task: Task, num_vibes: int) -> Game:
    """The rules of a task for the engine. Station o of the task is object o and type o."""
    tags = {name: tag for tag, name in enumerate(sorted(("agent", "wall", *task.stations)))}
    chain = [_NUMBER[resource] for resource in task.resources]
    protocols = [
        Protocol([(taken, 1)] if taken >= 0 else [], [(made, 1)], task.cooldown)
        for taken, made in zip([-1, *chain], [*chain, _HEART], strict=True)
    ]
    protocols += [Protocol([(resource, 1) for resource in chain], [], SINK_COOLDOWN)] * task.num_sinks
    return Game(
        max_steps=task.max_steps,
        types=[Station(tags[name], [protocol]) for name, protocol in zip(task.stations, protocols, strict=True)],
        agent_tag=tags["agent"],
        wall_tag=tags["wall"],
        num_vibes=num_vibes,
        rewards=_REWARDS,
        limits=_LIMITS,
        terrain=TERRAINS.index(task.terrain),
    )


def _prepare(task: Task, num_vibes: int) -> tuple[Tables, int]:
    """The engine's tables of a task, with the size of its room and the number of stations; the length of its chain."""
    tables = build(game_of(task, num_vibes))
    tables.world[col.HEIGHT], tables.world[col.WIDTH] = task.height + 2 * col.BORDER, task.width + 2 * col.BORDER
    tables.world[col.NUM_OBJECTS] = len(task.stations)
    return tables, len(task.resources)


def sizes_of(style: Style) -> Sizes:
    """How large worlds must be for every task of a style."""
    side = max(ROOMS[room][1] for room in style.rooms) + 2 * col.BORDER
    stations = max(style.chain_lengths) + 1 + max(style.num_sinks)
    return Sizes(side, side, objects=stations, types=stations, protocols=stations, vibes=0)


class AssemblyLinesEnv(VecEnv):
    """`num_envs` worlds of one agent each. Observations are tokens; an episode ends (terminated) after max_steps.

    On the CPU the returned tensors are the very memory that the engine writes. Actions: 0 noop, 1-4 move north, south,
    west, east (or use the station there), from 5 on change the vibe, which does nothing; nor do other indices.
    """

    def __init__(
        self,
        config: AssemblyLines,
        num_envs: int,
        device: str = "cpu",
        seed: int = 0,
        first_world: int = 0,
        tasks: TaskSource | None = None,
        style: Style | None = None,
    ) -> None:
        """See `memexp.envs.make`; `style` draws tasks from something else than the config's curriculum style."""
        if num_envs < 1:
            raise UsageError(f"num_envs must be at least 1, not {num_envs}")
        style = style or STYLES[config.curriculum_style]
        sizes = sizes_of(style)
        self.config = config
        self.num_envs = self.num_agents = num_envs
        self.num_actions = col.FIRST_VIBE_ACTION + config.num_vibes
        self.observation = TokenSpace(col.NUM_TOKENS, col.NORMALIZATION, col.WINDOW)
        self.device = torch.device(device)
        # With obstacles a station may be out of reach, and then nobody earns anything.
        self.ceiling_return = float(HEART_LIMIT) if style.terrains == TERRAINS[:1] else None
        self._seed, self._first_world, self._tasks = seed, first_world, tasks
        self._game = lru_cache(1024)(lambda task_id: _prepare(sample_task(task_id, style), config.num_vibes))
        self._state = allocate(num_envs, sizes)
        self._scratch = room_for(sizes.height, sizes.width)
        self._actions = np.zeros((num_envs, 1), np.int64)
        self._one_step = np.ones(num_envs, np.int64)
        self._episode = np.zeros(num_envs, np.int64)
        self._task = np.zeros(num_envs, np.int64)
        self._chain_length = np.zeros(num_envs, np.int64)
        self._cut = np.zeros(num_envs, np.bool_)
        self._finished: list[tuple[np.ndarray, ...]] = []

        s = self._state
        self._host = [torch.from_numpy(a) for a in (s.obs[:, 0], s.rewards[:, 0], s.terminated, s.final_obs[:, 0])]
        self._obs, self._reward, self._terminated, self.final_obs = (t.to(self.device) for t in self._host)
        self._truncated = torch.zeros(num_envs, dtype=torch.bool, device=self.device)

    def reset(self) -> Tensor:
        self._episode[:] = 0
        self._cut[:] = False
        self._finished.clear()
        self._begin(np.arange(self.num_envs))
        return self._publish()[0]

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions must have shape [{self.num_envs}], not {list(actions.shape)}")
        self._actions[:, 0] = actions.cpu().numpy()
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
        if not self._finished:
            return {}
        columns = [np.concatenate(parts) for parts in zip(*self._finished, strict=True)]
        self._finished.clear()
        return _episode_columns(*columns)

    def state_dict(self) -> dict[str, Any]:
        names = [name for name in self._state._fields if name not in ("window", "final_obs")]
        return {
            "arrays": {name: getattr(self._state, name).copy() for name in names},
            "episode": self._episode.copy(),
            "task": self._task.copy(),
            "chain_length": self._chain_length.copy(),
            "cut": self._cut.copy(),
            "finished": [tuple(parts) for parts in self._finished],
        }

    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        for name, array in state["arrays"].items():
            np.copyto(getattr(self._state, name), array)
        for name in ("episode", "task", "chain_length", "cut"):
            np.copyto(getattr(self, f"_{name}"), state[name])
        self._finished = [tuple(parts) for parts in state["finished"]]
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
            tables, self._chain_length[w] = self._game(task_id)
            load(self._state, w, tables)
            self._state.rng[w] = mix64(self._seed, world, episode, _MAP) | 1
        begin_worlds(self._state, worlds, self._scratch, False)

    def _keep(self, worlds: np.ndarray) -> None:
        """Note what the finished episodes of these worlds leave behind, before it is overwritten."""
        s = self._state
        if len(worlds):
            kept = (s.world[worlds], s.objects[worlds, :, col.USES], s.agent_stats[worlds, 0], s.game_stats[worlds])
            self._finished.append((*kept, self._first_world + worlds, self._task[worlds], self._chain_length[worlds]))

    def _publish(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Observations, rewards, terminated and truncated on the device."""
        if self.device.type != "cpu":
            for target, source in zip((self._obs, self._reward, self._terminated), self._host, strict=False):
                target.copy_(source)
            if self._state.terminated.any():
                self.final_obs.copy_(self._host[3])
        return self._obs, self._reward, self._terminated, self._truncated


def _episode_columns(
    world: np.ndarray,
    uses: np.ndarray,
    agent: np.ndarray,
    game: np.ndarray,
    number: np.ndarray,
    task: np.ndarray,
    chain_length: np.ndarray,
) -> Episodes:
    """What ended episodes left in the state arrays -> columns. Shares are of the episode's actions or stations.

    env/chain_progress: share of the chain's stations that were used at least once; env/sink_uses: how often a sink
    swallowed resources; env/tokens: mean length of an observation; env/longest_still: steps without motion.
    """
    length = world[:, col.STEP]
    station = np.arange(uses.shape[1])
    in_chain = station <= chain_length[:, None]
    in_sinks = ~in_chain & (station < world[:, [col.NUM_OBJECTS]])
    moved, changed = agent[:, col.SUCCEEDED + col.MOVE], agent[:, col.SUCCEEDED + col.CHANGE_VIBE]
    used = (uses * (in_chain | in_sinks)).sum(1)
    shares = {
        "noop_share": agent[:, col.SUCCEEDED + col.NOOP],
        "move_share": moved - used,
        "use_share": used,
        "move_failed_share": agent[:, col.FAILED + col.MOVE],
        "vibe_share": changed,
        "invalid_share": agent[:, col.INVALID] / 2,
    }
    stats = {
        "hearts": game[:, col.CREATED + _HEART],
        "chain_length": chain_length,
        "num_sinks": world[:, col.NUM_OBJECTS] - chain_length - 1,
        "max_steps": world[:, col.MAX_STEPS],
        "room_cells": (world[:, col.HEIGHT] - 2 * col.BORDER) * (world[:, col.WIDTH] - 2 * col.BORDER),
        "chain_progress": ((uses > 0) & in_chain).sum(1) / in_chain.sum(1),
        "sink_uses": (uses * in_sinks).sum(1),
        "longest_still": agent[:, col.LONGEST_STILL],
        "tokens": game[:, col.WRITTEN] / (length + 1),
    }
    stats |= {name: count / length for name, count in shares.items()}
    columns = {"return": agent[:, col.RETURN], "length": length, "world": number, "task": task}
    return columns | {f"env/{name}": column.astype(np.float64) for name, column in stats.items()}
