"""Gymnasium's interface, as an environment must keep it; what breaks it is told in one line."""

from collections.abc import Callable
from typing import Any, NoReturn

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
        self.observation_space = _unbounded(env.observation_space)
        self._looked = False
        self.failure: Exception | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self.failure:
            raise BrokenPromiseError("reset() has failed before")
        try:
            return self._reset(seed)
        except Exception as error:
            self.failure = error
            raise

    def _reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        result = self.env.reset(seed=seed)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise BrokenPromiseError(f"reset() returned {_short(result)}, not the two of (observation, info)")
        obs, info = result
        return self._checked(obs, "reset()"), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result = self.env.step(action)
        if not (isinstance(result, tuple) and len(result) == 5):
            count = f"{len(result)} values" if isinstance(result, tuple) else _short(result)
            raise BrokenPromiseError(
                f"step() returned {count}, not the five of (observation, reward, terminated, truncated, info)"
            )
        obs, reward, terminated, truncated, info = result
        return self._checked(obs, "step()"), _number(reward), terminated, truncated, info

    def _checked(self, obs: Any, where: str) -> Any:
        """The observation, in a Box's own dtype; of another space, the first one alone is looked at."""
        space = self.observation_space
        if isinstance(space, gymnasium.spaces.Box):
            obs = self._array(obs, space, where)
        elif not self._looked and not _or(lambda: space.contains(obs), False):
            self._refuse(obs, where)
        self._looked = True
        return obs

    def _array(self, obs: Any, space: gymnasium.spaces.Box, where: str) -> np.ndarray:
        array = obs if isinstance(obs, np.ndarray) else _or(lambda: np.asarray(obs, space.dtype), None)
        if array is None or array.shape != space.shape:
            self._refuse(obs, where)
        if array.dtype == space.dtype:
            return array
        if not np.can_cast(array.dtype, space.dtype, "same_kind"):
            self._refuse(obs, where)
        return array.astype(space.dtype)

    def _refuse(self, obs: Any, where: str) -> NoReturn:
        raise BrokenPromiseError(
            f"{where} showed {_short(obs)}, which is not in its observation_space, {_short(self.observation_space)}"
        )


def _unbounded(space: gymnasium.Space) -> gymnasium.Space:
    """The space, where it is a Box of floats without its bounds: they are often guesses, and nothing here uses them."""
    if isinstance(space, gymnasium.spaces.Box) and space.dtype.kind == "f":
        return gymnasium.spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)
    return space


def _number(reward: Any) -> float:
    if isinstance(reward, int | float):
        return float(reward)
    array = np.asarray(reward)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise BrokenPromiseError(f"step() paid {_short(reward)}, not a number")
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
