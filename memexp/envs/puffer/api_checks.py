"""Checks that an environment keeps the interface of Gymnasium or PettingZoo. A breach gives a message of one line."""

from collections.abc import Container, Iterable
from typing import Any

import gymnasium
import numpy as np

from memexp.envs.puffer import spaces
from memexp.envs.puffer.spaces import short

STEP = "observation, reward, terminated, truncated, info"
PARALLEL_STEP = "observations, rewards, terminations, truncations, infos"


class ApiError(Exception):
    """An environment broke its interface. The message says what it returned and what was expected."""


class CheckedEnv(gymnasium.Wrapper):
    """A Gymnasium environment whose results are checked. An observation that is no Box becomes bytes."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._read = ObservationReader(env.observation_space)
        self.observation_space = self._read.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = unpacked(self.env.reset(seed=seed), "reset()", "observation, info")
        return self._read(obs, "reset() returned"), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, *rest = unpacked(self.env.step(action), "step()", STEP)
        return self._read(obs, "step() returned"), _number(reward, "step() returned the reward"), *rest


class CheckedParallelEnv:
    """A PettingZoo parallel environment whose results are checked. An observation that is no Box becomes bytes.

    All agents have the same observation space and play from the start. A step must return an observation and a reward
    for every agent that played before it, including those that finish in it.
    """

    def __init__(self, env: Any):
        self.env = env
        self._read = ObservationReader(env.observation_space(env.possible_agents[0]))
        self._known = frozenset(env.possible_agents)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def observation_space(self, agent: Any) -> gymnasium.Space:
        return self._read.space

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        obs, infos = unpacked(self.env.reset(seed=seed), "reset()", "observations, infos")
        self.infos: dict[Any, Any] = {}  # the latest of each agent
        return self._checked(obs, self.env.possible_agents, "reset()"), infos

    def step(self, actions: dict[Any, Any]) -> tuple[dict, dict, dict, dict, dict]:
        playing = list(self.env.agents)
        obs, rewards, terminated, truncated, infos = unpacked(self.env.step(actions), "step()", PARALLEL_STEP)
        obs = self._checked(obs, playing, "step()")
        self.infos = {**self.infos, **infos} if isinstance(infos, dict) else self.infos
        for values, name in ((rewards, "rewards"), (terminated, "terminations"), (truncated, "truncations")):
            for agent in _missing(obs, values if isinstance(values, dict) else {}):
                raise ApiError(f"step() returned an observation for {agent}, but its {name} are {short(values)}")
        numbers = {agent: _number(rewards[agent], f"step() returned for {agent} the reward") for agent in obs}
        return obs, numbers, terminated, truncated, infos

    def _checked(self, obs: Any, playing: list[Any], where: str) -> dict[Any, Any]:
        if not isinstance(obs, dict):
            raise ApiError(f"{where} returned {short(obs)}, not a dict with one observation for each agent")
        for agent in _missing(playing, obs):
            raise ApiError(f"{where} returned no observation for {agent}; the playing agents are {short(playing)}")
        for agent in _missing(obs, self._known):
            known = short(self.env.possible_agents)
            raise ApiError(f"{where} returned an observation for {agent}; possible_agents are {known}")
        read = self._read
        return {agent: read(one, f"{where} returned for {agent}").copy() for agent, one in obs.items()}


def _missing(agents: Iterable[Any], there: Container[Any]) -> list[Any]:
    return [agent for agent in agents if agent not in there]


class ObservationReader:
    """Checks each observation of a space and converts it: to a Box's own dtype, or from any other space to bytes.

    The next call may overwrite the array that a call returns. batch: `(N,)` for N observations at once.
    """

    def __init__(self, space: gymnasium.Space, batch: tuple[int, ...] = ()):
        encode = None if isinstance(space, gymnasium.spaces.Box) else spaces.AsBytes(space, batch)
        self.space, self._read = (encode.space, encode) if encode else (space, spaces.reader(space, batch))
        self._given = space

    def __call__(self, obs: Any, where: str) -> np.ndarray:
        try:
            array = self._read(obs)
        except spaces.NotInSpaceError as error:
            raise ApiError(f"{where} {error}") from None
        if array is None:
            raise ApiError(f"{where} {spaces.not_in(obs, self._given, '')}")
        return array


def unpacked(result: Any, where: str, expected: str) -> tuple[Any, ...]:
    """The result of a call, which must be a tuple of as many values as `expected` names."""
    count = expected.count(",") + 1
    if not (isinstance(result, tuple) and len(result) == count):
        returned = f"{len(result)} values" if isinstance(result, tuple) else short(result)
        raise ApiError(f"{where} returned {returned}, not the {count} values ({expected})")
    return result


def _number(reward: Any, what: str) -> float:
    if not isinstance(reward, int | float):
        array = np.asarray(reward)
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise ApiError(f"{what} {short(reward)}, which is not a number")
        reward = array.item()
    if not abs(reward) <= spaces.MOST:
        raise ApiError(f"{what} {reward}, {spaces.NOT_FINITE}")
    return float(reward)
