"""One environment as PufferLib drives it: a native PufferEnv around PufferLib's emulation of it.

PufferLib's vectorisation begins the next episode one step late: an action is lost and a step is made that never was. A
World begins it at once. Its buffer holds two observations a row: the one to act on, and the true last one of an episode
that has just ended, so that both reach the trainer through shared memory.
"""

import traceback
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pufferlib
from pufferlib.emulation import GymnasiumPufferEnv, PettingZooPufferEnv
from pufferlib.pufferlib import PufferEnv, set_buffers

from memexp.config import UsageError
from memexp.envs.base import mix64
from memexp.envs.config import ThirdParty
from memexp.envs.puffer import source, spaces
from memexp.envs.puffer.api_checks import BrokenPromiseError, ParallelPromises, Promises

ACT, LAST = 0, 1
"""Places of the two observations."""
_RANDOM_PLAY = 1


class Board(NamedTuple):
    """What a world and its trainer tell each other besides PufferLib's buffers; shared arrays `[num_envs]`."""

    episode: Any
    """int64: number of the running episode; when worlds are reset, the one to begin with."""
    warm_up: Any
    """int64: steps of random play after a reset."""
    cut: Any
    """int8: the episode that has just ended was cut by this project's limit."""


class World(PufferEnv):
    """World number `number` of a run, in row `row` of the board. Episodes are seeded by (stream, number, episode).

    An exception of the environment is returned as the info {"error": text}: PufferLib would leave the trainer waiting.
    """

    observations: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    truncations: np.ndarray

    def __init__(self, config: ThirdParty, stream: int, number: int, row: int, board: Board, buf: Any = None):
        self._stream, self._number, self._row, self._board = stream, number, row, board
        self._name = config.id
        env = source.make_one(config)
        self._limit = source.step_limit(config, env)
        self.ceiling = source.ceiling(config, env)
        self.observation, self.action = _spaces(env, config.id)
        parallel = source.is_parallel(env)
        self._promises = ParallelPromises(env) if parallel else Promises(spaces.without_constants(env))
        self._inner = _emulate(self._promises)
        self._inner.is_observation_checked = True  # as here, not against bounds and for NaN, whose place nobody learns
        shown = self._inner.single_observation_space
        self.single_observation_space = gymnasium.spaces.Box(
            np.stack([shown.low] * 2), np.stack([shown.high] * 2), dtype=shown.dtype
        )
        self.single_action_space, self._first_action = self.action, 0
        if isinstance(self.action, gymnasium.spaces.Discrete):  # PufferLib takes names to begin at 0
            self.single_action_space = gymnasium.spaces.Discrete(int(self.action.n))
            self._first_action = int(self.action.start)
        self.num_agents = self._inner.num_agents
        super().__init__(buf)
        own = {name: np.zeros_like(getattr(self, name)) for name in _FLAGS}
        set_buffers(self._inner, {**own, "observations": self.observations[:, ACT]})
        self._steps = 0
        self._alive = np.ones(self.num_agents, bool)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, list[dict[str, str]]]:
        """Begin the episode that the board names, play at random as long as it says; PufferLib's seed means nothing."""
        return self.observations, self._guarded(self._reset)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[dict[str, str]]]:
        infos = self._guarded(self._step, actions)
        return self.observations, self.rewards, self.terminals, self.truncations, infos

    def close(self) -> None:
        self._inner.close()

    def _guarded(self, do: Any, *arguments: Any) -> list[dict[str, str]]:
        try:
            do(*arguments)
        except Exception as raised:
            error = self._promises.failure or raised
            if isinstance(error, BrokenPromiseError):
                return [{"error": f"{self._name}: {error}"}]
            return [{"error": f"{self._name} raised an error of its own:\n{own_traceback(error)}"}]
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
        """31 bits for the running episode."""
        return mix64(self._stream, self._number, int(self._board.episode[self._row]), *purpose) >> 33

    def _step(self, actions: np.ndarray) -> None:
        if self._first_action:
            actions = actions + self._first_action
        self._steps += 1
        late = self._steps >= self._limit
        if isinstance(self._inner, PettingZooPufferEnv):
            self._step_all(actions, late)
        else:
            _, reward, terminated, truncated, _ = self._inner.step(actions)
            over = terminated or truncated
            self.rewards[0], self.terminals[0], self.truncations[0] = (
                reward,
                terminated,
                not terminated and (over or late),
            )
            if over or late:
                self._end(cut=not over)

    def _step_all(self, actions: np.ndarray, late: bool) -> None:
        """A step of several agents, of which some may have ended before the others."""
        inner = self._inner
        inner.step(actions)
        over = inner.done
        last = over or late
        ends = inner.terminals | inner.truncations
        counted = self._alive | last  # PufferLib says of an agent that has died that it ends, at every step
        self.rewards[:] = inner.rewards
        self.terminals[:] = inner.terminals & counted
        self.truncations[:] = (inner.truncations | (last & ~ends)) & ~inner.terminals & counted
        self._alive &= ~ends
        if last:
            self._end(cut=not over)
        elif ends.any():
            self.observations[ends, LAST] = self.observations[ends, ACT]

    def _end(self, cut: bool) -> None:
        """Keep the true last observations and begin the next episode."""
        self.observations[:, LAST] = self.observations[:, ACT]
        self._board.cut[self._row] = cut
        self._board.episode[self._row] += 1
        self._begin()


_FLAGS = ("rewards", "terminals", "truncations", "teacher_actions", "masks", "actions")


def _spaces(env: Any, name: str) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Spaces of observations and actions, the same for all agents. Raises UsageError where nothing can be learnt."""
    if not source.is_parallel(env):
        seen, done = spaces.without_constants(env).observation_space, env.action_space
    else:
        first = env.possible_agents[0]
        seen, done = env.observation_space(first), env.action_space(first)
        for agent in env.possible_agents:
            if (env.observation_space(agent), env.action_space(agent)) != (seen, done):
                raise UsageError(f"{name}: agents {first} and {agent} see or do different things; one policy plays all")
    spaces.observation_space(seen, name)
    spaces.action_space(done, name)
    return seen, done


def _emulate(env: Any) -> Any:
    """PufferLib's emulation; observations that are no Box become bytes first."""
    if source.is_parallel(env):
        boxed = isinstance(env.observation_space(env.possible_agents[0]), gymnasium.spaces.Box)
        return PettingZooPufferEnv(env=env if boxed else spaces.ParallelAsBytes(env))
    boxed = isinstance(env.observation_space, gymnasium.spaces.Box)
    return GymnasiumPufferEnv(env=env if boxed else spaces.GymnasiumAsBytes(env))


def own_traceback(error: Exception) -> str:
    """The traceback from the environment's own lines on, without those that led to them."""
    ours = tuple(str(Path(file).parent) for file in (__file__, str(pufferlib.__file__)))
    frames = error.__traceback__
    while frames and frames.tb_next and frames.tb_frame.f_code.co_filename.startswith(ours):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()
