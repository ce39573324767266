"""One environment that writes its steps into the buffers of PufferLib, or of `vector.py` where that is not installed.

The step that ends an episode starts the next one. So no action is lost, and no step is added that the environment never
made, as in PufferLib's own emulation. The buffer holds two observations for each agent: the one to act on, and the true
last one of an episode that has just ended. Both reach the trainer through shared memory.
"""

import re
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from memexp.config import UsageError, exit_text
from memexp.envs.base import mix64
from memexp.envs.config import ThirdParty
from memexp.envs.puffer import masks, source
from memexp.envs.puffer.api_checks import ApiError, CheckedEnv, CheckedParallelEnv
from memexp.envs.puffer.vector import Buffers, PufferEnv, make_buffers

ACT, LAST = 0, 1
"""Indices of the two observations."""
INFO_NAME = re.compile(r"[\w.][-\w. ]{0,63}")
"""Names of the numbers in `info` that are kept."""
_RANDOM_PLAY = 1


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

    def __init__(
        self, config: ThirdParty, stream: int, number: int, row: int, board: Board, buf: Buffers | None = None
    ):
        self._stream, self._number, self._row, self._board = stream, number, row, board
        self._name, self._config = config.id, config
        env = source.make_one(config)
        self.modules = [*(cls.__module__ for cls in source.classes_of(env)), *(name for name, _ in config.imports)]
        self._limit = source.step_limit(config, env)
        self.solved_return = source.solved_return(config, env)
        self.observation, self.action, self.mask = _spaces(env, config)
        self.join = getattr(env, "join", None) if self.mask else None
        if source.is_parallel(env):
            self._checked = CheckedParallelEnv(env)
            shown = self._checked.observation_space(env.possible_agents[0])
            self.num_agents = len(env.possible_agents)
        else:
            self._checked = CheckedEnv(env)
            shown, self.num_agents = self._checked.observation_space, 1
        assert isinstance(shown, gymnasium.spaces.Box)
        self.single_observation_space = gymnasium.spaces.Box(
            np.stack([shown.low] * 2), np.stack([shown.high] * 2), dtype=shown.dtype
        )
        self.single_action_space, self.first_action = self.action, 0
        self._is_scalar = isinstance(self.action, gymnasium.spaces.Discrete)
        if isinstance(self.action, gymnasium.spaces.Discrete):  # PufferLib assumes that they start at 0
            self.single_action_space = gymnasium.spaces.Discrete(int(self.action.n))
            self.first_action = int(self.action.start)
        buf = buf or make_buffers(self.single_observation_space, self.num_agents)
        self.observations, self.rewards = buf["observations"], buf["rewards"]
        self.terminals, self.truncations = buf["terminals"], buf["truncations"]
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
        for info in self._guarded(self._checked.close):
            print(info["error"], file=sys.stderr)

    def _guarded(self, do: Any, *arguments: Any) -> list[dict[str, str]]:
        try:
            do(*arguments)
        except (Exception, SystemExit) as error:
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
            self._step(
                np.stack([np.asarray(masks.sample(space, self._allowed(row))) for row in range(self.num_agents)])
            )
        self.rewards[:], self.terminals[:], self.truncations[:] = 0, False, False

    def _begin(self) -> None:
        self._steps = 0
        self._alive[:] = True
        obs, info = self._checked.reset(seed=self._seed())
        self._show(obs)
        self._check_masks(info, "reset()")

    def _show(self, obs: Any) -> None:
        """Write the observations to act on: of the agents that have one, else zeros."""
        if isinstance(self._checked, CheckedEnv):
            self.observations[0, ACT] = obs
            return
        for row, agent in enumerate(self._checked.possible_agents):
            self.observations[row, ACT] = obs.get(agent, 0)

    def _allowed(self, row: int) -> np.ndarray | None:
        """The action mask of an agent; None: all actions are allowed."""
        return self.mask.read(self.observations[row, ACT]) if self.mask else None

    def _check_masks(self, info: Any, where: str) -> None:
        """Raise ApiError if the mask of an observation to act on allows nothing, or if there should be none."""
        is_single = isinstance(self._checked, CheckedEnv)
        if self.mask is None:
            masks.refuse_late(self._config, [info] if is_single else _values(info), where)
        else:
            self.mask.refuse_empty(self.observations[:, ACT], where, in_turns=not is_single)

    def _seed(self, *purpose: int) -> int:
        """A seed of 31 bits for the running episode."""
        return mix64(self._stream, self._number, int(self._board.episode[self._row]), *purpose) >> 33

    def _step(self, actions: np.ndarray) -> None:
        if self.first_action:
            actions = actions + self.first_action
        self._steps += 1
        late = self._steps >= self._limit
        if isinstance(self._checked, CheckedParallelEnv):
            self._step_all(self._checked, actions, late)
            return
        obs, reward, *ended, info = self._checked.step(actions[0] if self._is_scalar else actions.ravel())
        terminated, truncated = (flag if isinstance(flag, bool) else bool(np.any(flag)) for flag in ended)
        self.observations[0, ACT] = obs
        over = terminated or truncated
        self.rewards[0], self.terminals[0] = reward, terminated
        self.truncations[0] = not terminated and (over or late)
        if over or late:
            self._end(not over, [info])
        else:
            self._check_masks(info, "step()")

    def _step_all(self, env: CheckedParallelEnv, actions: np.ndarray, late: bool) -> None:
        """A step of several agents. Some of them may have finished before the others."""
        agents = env.possible_agents
        chosen = {agent: action for agent, action in zip(agents, actions, strict=True) if agent in env.agents}
        obs, rewards, terminated, truncated, infos = env.step(chosen)
        self._show(obs)
        over = not env.agents or all(terminated.values()) or all(truncated.values())
        last = over or late
        ended = np.array([agent not in obs or bool(terminated[agent]) for agent in agents])
        cut = np.array([agent in obs and bool(truncated[agent]) for agent in agents])
        counted = self._alive | last  # a finished agent is done again only at the end
        self.rewards[:] = [rewards.get(agent, 0) for agent in agents]
        self.terminals[:] = ended & counted
        self.truncations[:] = (cut | (last & ~ended)) & ~ended & counted
        dones = ended | cut
        self._alive &= ~dones
        if last:
            self._end(not over, [*env.infos.values()])
            return
        self._check_masks(infos, "step()")
        if dones.any():
            self.observations[dones, LAST] = self.observations[dones, ACT]

    def _end(self, cut: bool, infos: list[Any]) -> None:
        """Keep the true last observations, tell the numbers of the last infos, and start the next episode."""
        if numbers := means_of_numbers(infos, self._tellers):
            self._told = [{"row": self._row, "numbers": numbers}]
        self.observations[:, LAST] = self.observations[:, ACT]
        self._board.cut[self._row] = cut
        self._board.episode[self._row] += 1
        self._begin()


def means_of_numbers(infos: list[Any], tellers: dict[str, int]) -> dict[str, float]:
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


def _values(infos: Any) -> list[Any]:
    return [*infos.values()] if isinstance(infos, dict) else []


def _spaces(env: Any, config: ThirdParty) -> tuple[gymnasium.Space, gymnasium.Space, masks.ActionMask | None]:
    """Observation space, action space, and the mask in observations; the same for all agents.

    Raises UsageError for a space that cannot be used.
    """
    if not source.is_parallel(env):
        observation, action = env.observation_space, env.action_space
    else:
        first = env.possible_agents[0]
        observation, action = env.observation_space(first), env.action_space(first)
        for agent in env.possible_agents:
            if (env.observation_space(agent), env.action_space(agent)) != (observation, action):
                raise UsageError(
                    f"{config.id}: agents {first} and {agent} have different spaces, but one policy plays all agents"
                )
    return observation, action, masks.mask_of(config, observation, action)


def own_traceback(error: Exception) -> str:
    """The traceback without the frames of this package that led to the environment.

    An explicit limit, because libraries set sys.tracebacklimit to 0 (SkyPilot does, and leaves it after an error).
    """
    ours = str(Path(__file__).parent)
    frames = error.__traceback__
    while frames and frames.tb_next and frames.tb_frame.f_code.co_filename.startswith(ours):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames, limit=100)).rstrip()
