"""One environment as PufferLib steps it: a native PufferEnv around PufferLib's emulation of the environment.

PufferLib's vectorisation starts the next episode one step late: it loses an action and adds a step that the environment
never made. An EmulatedEnv starts the next episode at once. Its buffer holds two observations for each agent: the one to
act on, and the true last one of an episode that has just ended. Both reach the trainer through shared memory.
"""

import re
import sys
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pufferlib
from pufferlib.emulation import GymnasiumPufferEnv, PettingZooPufferEnv
from pufferlib.pufferlib import PufferEnv, set_buffers

from memexp.config import UsageError, exit_text
from memexp.envs.base import mix64
from memexp.envs.config import ThirdParty
from memexp.envs.puffer import source, spaces
from memexp.envs.puffer.api_checks import ApiError, CheckedEnv, CheckedParallelEnv

ACT, LAST = 0, 1
"""Indices of the two observations."""
INFO_NAME = re.compile(r"[\w.][-\w. ]{0,63}")
"""Names of the numbers in `info` that are kept."""
_RANDOM_PLAY = 1
_FLAGS = ("rewards", "terminals", "truncations", "teacher_actions", "masks", "actions")


class Board(NamedTuple):
    """What an environment and the trainer tell each other besides PufferLib's buffers: shared arrays `[num_envs]`."""

    episode: Any  # int64: number of the running episode; before a reset, the number of the episode to start
    warm_up: Any  # int64: number of random steps after a reset
    cut: Any  # int8: the limit of this project, not the environment, cut the episode that has just ended


class EmulatedEnv(PufferEnv):
    """Environment `number` of a run, in row `row` of the board. Its episodes are seeded by (stream, number, episode).

    If the environment raises, a step or reset returns the info {"error": text}; with an exception PufferLib would
    leave the trainer waiting.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    truncations: np.ndarray

    def __init__(self, config: ThirdParty, stream: int, number: int, row: int, board: Board, buf: Any = None):
        self._stream, self._number, self._row, self._board = stream, number, row, board
        self._name = config.id
        env = source.make_one(config)
        self.modules = [*(cls.__module__ for cls in source.classes_of(env)), *(name for name, _ in config.imports)]
        self._limit = source.step_limit(config, env)
        self.solved_return = source.solved_return(config, env)
        self.observation, self.action = _spaces(env, config.id)
        if source.is_parallel(env):
            self._checked = CheckedParallelEnv(env)
            self._inner: Any = PettingZooPufferEnv(env=self._checked)
        else:
            self._checked = CheckedEnv(env)
            self._inner = GymnasiumPufferEnv(env=self._checked)
        self._inner.is_observation_checked = True  # CheckedEnv did it, and says where
        shown = self._inner.single_observation_space
        self.single_observation_space = gymnasium.spaces.Box(
            np.stack([shown.low] * 2), np.stack([shown.high] * 2), dtype=shown.dtype
        )
        self.single_action_space, self._first_action = self.action, 0
        if isinstance(self.action, gymnasium.spaces.Discrete):  # PufferLib assumes that they start at 0
            self.single_action_space = gymnasium.spaces.Discrete(int(self.action.n))
            self._first_action = int(self.action.start)
        self.num_agents = self._inner.num_agents
        super().__init__(buf)
        own = {name: np.zeros_like(getattr(self, name)) for name in _FLAGS}
        set_buffers(self._inner, {**own, "observations": self.observations[:, ACT]})
        self._steps = 0
        self._tellers: dict[str, int] = {}  # number in the last infos -> most agents that told it
        self._alive = np.ones(self.num_agents, bool)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, list[dict[str, str]]]:
        """Start the episode that the board names, then make its warm-up steps. PufferLib's seed is ignored."""
        return self.observations, self._guarded(self._reset)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        self._told: list[dict[str, Any]] = []
        infos = self._guarded(self._step, actions) or self._told
        return self.observations, self.rewards, self.terminals, self.truncations, infos

    def close(self) -> None:
        for info in self._guarded(self._inner.close):
            print(info["error"], file=sys.stderr)

    def _guarded(self, do: Any, *arguments: Any) -> list[dict[str, str]]:
        try:
            do(*arguments)
        except (Exception, SystemExit) as raised:
            error = self._checked.failure or raised
            error = ApiError(exit_text(error)) if isinstance(error, SystemExit) else error
            place = f"env {self._number}, episode {self._board.episode[self._row]}, step {self._steps}"
            if isinstance(error, ApiError):
                return [{"error": f"{self._name}: {error} ({place})"}]
            return [{"error": f"{self._name} raised an error ({place}):\n{own_traceback(error)}"}]
        return []

    def _reset(self) -> None:
        self._begin()
        space = self.single_action_space
        space.seed(self._seed(_RANDOM_PLAY))
        for _ in range(self._board.warm_up[self._row]):
            self._step(np.stack([np.asarray(space.sample()) for _ in range(self.num_agents)]))
        self.rewards[:], self.terminals[:], self.truncations[:] = 0, False, False

    def _begin(self) -> None:
        self._steps = 0
        self._alive[:] = True
        self._inner.reset(seed=self._seed())

    def _seed(self, *purpose: int) -> int:
        """A seed of 31 bits for the running episode."""
        return mix64(self._stream, self._number, int(self._board.episode[self._row]), *purpose) >> 33

    def _step(self, actions: np.ndarray) -> None:
        if self._first_action:
            actions = actions + self._first_action
        self._steps += 1
        late = self._steps >= self._limit
        if isinstance(self._inner, PettingZooPufferEnv):
            self._step_all(actions, late)
            return
        _, reward, terminated, truncated, _ = self._inner.step(actions)
        assert isinstance(self._checked, CheckedEnv)
        infos = [self._checked.info]
        over = terminated or truncated
        self.rewards[0], self.terminals[0] = reward, terminated
        self.truncations[0] = not terminated and (over or late)
        if over or late:
            self._end(not over, infos)

    def _step_all(self, actions: np.ndarray, late: bool) -> None:
        """A step of several agents. Some of them may have finished before the others."""
        inner = self._inner
        inner.step(actions)
        over = inner.done
        last = over or late
        dones = inner.terminals | inner.truncations
        counted = self._alive | last  # PufferLib reports a finished agent as done again at every later step
        self.rewards[:] = inner.rewards
        self.terminals[:] = inner.terminals & counted
        self.truncations[:] = (inner.truncations | (last & ~dones)) & ~inner.terminals & counted
        self._alive &= ~dones
        if last:
            assert isinstance(self._checked, CheckedParallelEnv)
            self._end(not over, [*self._checked.infos.values()])
        elif dones.any():
            self.observations[dones, LAST] = self.observations[dones, ACT]

    def _end(self, cut: bool, infos: list[Any]) -> None:
        """Keep the true last observations, tell the numbers of the last infos, and start the next episode."""
        if numbers := _means_of_numbers(infos, self._tellers):
            self._told = [{"row": self._row, "numbers": numbers}]
        self.observations[:, LAST] = self.observations[:, ACT]
        self._board.cut[self._row] = cut
        self._board.episode[self._row] += 1
        self._begin()


def _means_of_numbers(infos: list[Any], tellers: dict[str, int]) -> dict[str, float]:
    """Name -> mean over the agents' infos, of every finite number whose name may stand in a file or a table.

    The episode lacks a number that fewer agents told than in another episode (`tellers`, which changes): a mean over
    some of them, such as those that succeeded, would mislead.
    """
    found: dict[str, list[float]] = {}
    for info in infos:
        for name, value in info.items() if isinstance(info, dict) else ():
            is_number = isinstance(value, bool | int | float | np.generic | np.ndarray)
            if is_number and isinstance(name, str) and INFO_NAME.fullmatch(name):
                array = np.asarray(value)
                if array.size == 1 and array.dtype.kind in "biuf" and np.isfinite(array).all():
                    found.setdefault(name, []).append(float(array.item()))
    tellers.update({name: max(tellers.get(name, 0), len(values)) for name, values in found.items()})
    return {name: float(np.mean(values)) for name, values in found.items() if len(values) == tellers[name]}


def _spaces(env: Any, name: str) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Observation and action space, the same for all agents. Raises UsageError for a space that cannot be used."""
    if not source.is_parallel(env):
        observation, action = env.observation_space, env.action_space
    else:
        first = env.possible_agents[0]
        observation, action = env.observation_space(first), env.action_space(first)
        for agent in env.possible_agents:
            if (env.observation_space(agent), env.action_space(agent)) != (observation, action):
                raise UsageError(
                    f"{name}: agents {first} and {agent} have different spaces, but one policy plays all agents"
                )
    spaces.observation_space(observation, name, defaultdict(lambda: "numbers"))  # any word: only for its errors
    spaces.action_space(action, name)
    return observation, action


def own_traceback(error: Exception) -> str:
    """The traceback without the frames of this package and of PufferLib that led to the environment.

    An explicit limit, because libraries set sys.tracebacklimit to 0 (SkyPilot does, and leaves it after an error).
    """
    ours = tuple(str(Path(file).parent) for file in (__file__, str(pufferlib.__file__)))
    frames = error.__traceback__
    while frames and frames.tb_next and frames.tb_frame.f_code.co_filename.startswith(ours):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames, limit=100)).rstrip()
