"""The interfaces of Gymnasium and PettingZoo, as an environment must keep them; what breaks one is told in one line."""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import gymnasium
import numpy as np


class BrokenPromiseError(Exception):
    """The message says what the environment returned and what was to be returned."""


class Promises(gymnasium.Wrapper):
    """An environment held to Gymnasium's interface.

    PufferLib resets an environment again, without its seed, where the first reset raised: here that is the end, and
    `failure` what was raised.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._check = _Shown(env.observation_space)
        self.failure: Exception | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self.failure:
            raise BrokenPromiseError("reset() has failed before")
        try:
            obs, info = _two(self.env.reset(seed=seed), "observation, info")
            return self._check(obs, "reset() showed"), info
        except Exception as error:
            self.failure = error
            raise

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, *rest = _five(self.env.step(action), "observation, reward, terminated, truncated, info")
        return self._check(obs, "step() showed"), _number(reward, "step() paid"), *rest


class ParallelPromises:
    """A parallel environment held to PettingZoo's interface; what its agents see is the same space.

    Every agent plays from the start, and a step shows and pays something to each that played before it, also to those
    that end with it: PufferLib would take one that is missing for terminated, and its last reward for none.
    """

    failure: Exception | None = None

    def __init__(self, env: Any):
        self.env = env
        self._check = _Shown(env.observation_space(env.possible_agents[0]))
        self._known = frozenset(env.possible_agents)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        obs, infos = _two(self.env.reset(seed=seed), "observations, infos")
        return self._checked(obs, self.env.possible_agents, "reset()"), infos

    def step(self, actions: dict[Any, Any]) -> tuple[dict, dict, dict, dict, dict]:
        playing = list(self.env.agents)
        what = "observations, rewards, terminations, truncations, infos"
        obs, *told, infos = _five(self.env.step(actions), what)
        obs = self._checked(obs, playing, "step()")
        for values, name in zip(told, ("rewards", "terminations", "truncations"), strict=True):
            for agent in _missing(obs, values if isinstance(values, dict) else {}):
                raise BrokenPromiseError(f"step() showed something to {agent}, but its {name} are {_short(values)}")
        rewards, terminated, truncated = told
        paid = {agent: _number(rewards[agent], f"step() paid {agent}") for agent in obs}
        return obs, paid, terminated, truncated, infos

    def _checked(self, obs: Any, playing: list[Any], where: str) -> dict[Any, Any]:
        if not isinstance(obs, dict):
            raise BrokenPromiseError(f"{where} showed {_short(obs)}, not one observation for each agent in a dict")
        for agent in _missing(playing, obs):
            raise BrokenPromiseError(f"{where} showed nothing to {agent}; those who play are {_short(playing)}")
        for agent in _missing(obs, self._known):
            known = _short(self.env.possible_agents)
            raise BrokenPromiseError(f"{where} showed something to {agent}; possible_agents are {known}")
        return {agent: self._check(one, f"{where} showed {agent}") for agent, one in obs.items()}


def _missing(agents: Iterable[Any], there: Container[Any]) -> list[Any]:
    return [agent for agent in agents if agent not in there]


class _Shown:
    """Hands on what is shown, in a Box's own dtype; of another space, the first observation alone is looked at.

    A Box's bounds are not looked at: they are often guesses, and nothing here uses them.
    """

    def __init__(self, space: gymnasium.Space):
        self.space = space
        self._looked = False

    def __call__(self, obs: Any, what: str) -> Any:
        if isinstance(self.space, gymnasium.spaces.Box):
            fit = _array(obs, self.space)
        else:
            fit = obs if self._looked or _fits(obs, self.space) else None
        if fit is None:
            space = _short(self.space)
            raise BrokenPromiseError(f"{what} {_short(obs)}, which is not in its observation_space, {space}")
        self._looked = True
        return fit


def _fits(obs: Any, space: gymnasium.Space) -> bool:
    """Whether it is an observation of this space."""
    if isinstance(space, gymnasium.spaces.Box):
        return _array(obs, space) is not None
    if isinstance(space, gymnasium.spaces.Dict):
        same = isinstance(obs, Mapping) and obs.keys() == space.keys()
        return same and all(_fits(obs[key], part) for key, part in space.items())
    if isinstance(space, gymnasium.spaces.Tuple):
        same = isinstance(obs, tuple | list) and len(obs) == len(space)
        return same and all(map(_fits, obs, space))
    return _or(lambda: space.contains(obs), False)


def _array(obs: Any, space: gymnasium.spaces.Box) -> np.ndarray | None:
    """The observation in the Box's dtype; None where it is not of its shape or kind."""
    array = obs if isinstance(obs, np.ndarray) else _or(lambda: np.asarray(obs, space.dtype), None)
    if array is None or array.shape != space.shape:
        return None
    if array.dtype == space.dtype:
        return array
    return array.astype(space.dtype) if np.can_cast(array.dtype, space.dtype, "same_kind") else None


def _two(result: Any, what: str) -> tuple[Any, Any]:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise BrokenPromiseError(f"reset() returned {_short(result)}, not the two of ({what})")
    return result


def _five(result: Any, what: str) -> tuple[Any, Any, Any, Any, Any]:
    if not (isinstance(result, tuple) and len(result) == 5):
        count = f"{len(result)} values" if isinstance(result, tuple) else _short(result)
        raise BrokenPromiseError(f"step() returned {count}, not the five of ({what})")
    return result


def _number(reward: Any, what: str) -> float:
    if isinstance(reward, int | float):
        return float(reward)
    array = np.asarray(reward)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise BrokenPromiseError(f"{what} {_short(reward)}, not a number")
    return float(array.item())


def _or(do: Callable[[], Any], otherwise: Any) -> Any:
    """What `do` returns, or `otherwise` where it cannot."""
    try:
        return do()
    except Exception:
        return otherwise


def _short(value: Any) -> str:
    """A value in half a line."""
    kind = f" ({value.dtype}, shape {value.shape})" if isinstance(value, np.ndarray) else ""
    text = " ".join(str(value).split())
    return (text if len(text) <= 80 else f"{text[:77]}...") + kind
