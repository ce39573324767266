"""The interface every world offers: many worlds in lockstep, tensors in and out.

N is the number of agent rows over all worlds (`num_agents`); row order is world-major. An episode that ends is followed
at once by a new one: the step that ends it returns the new episode's first observation, and `final_obs` keeps the
true last observation of the old one (what a truncated return is bootstrapped from).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.spaces import ObservationSpace

TaskSource = Callable[[int, int], int]
"""(global world index, episode number of that world) -> task id."""

Episodes = dict[str, np.ndarray]
"""Finished episodes as columns: `return`, `length`, `world`, `task`, and one `env/<stat>` a statistic."""


class VecEnv(ABC):
    """`num_envs` worlds in lockstep; rows `[N]` are agents."""

    num_envs: int
    num_agents: int
    num_actions: int
    observation: ObservationSpace
    device: torch.device
    final_obs: Tensor
    """True last observation of the episodes that ended in the latest step, in their rows; other rows are undefined."""
    shortest_truncation: int | None = 1
    """Fewest steps after which an episode may be truncated; None: no episode ever is."""
    graphable: bool = False
    """Whether `launch` enqueues the same kernels on the same memory every time, so that a CUDA graph can hold it."""
    ceiling_return: float | None = None
    """Return of a perfect player with memory, where it is known."""
    memory_span: int | None = None
    """Steps between what must be remembered and its use, at most; 0: the present observation suffices; None: not known.
    """

    @abstractmethod
    def reset(self) -> Tensor:
        """Start every world's first episode anew, from the seed; returns the first observations `[N, ...]`."""

    @abstractmethod
    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step of every world: actions `[N]` int64 -> obs `[N, ...]`, reward, terminated, truncated `[N]`.

        reward is float32, the other two bool. The tensors are the world's own: the next step overwrites them.
        """

    def ready(self) -> None:
        """What the host has to do before a step whose `launch` a CUDA graph replays; `step` does it itself."""
        return

    def launch(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`step` without `ready`."""
        return self.step(actions)

    @abstractmethod
    def desync(self) -> Tensor:
        """Reset, then carry every world to a random step of its first episode by random play: out of phase.

        No episode is cut; the episodes that began before are left out of the statistics. Returns the observations.
        """

    def time_limits(self) -> np.ndarray | None:
        """Steps after which the present episode of each world ends at the latest, `[num_envs]`; None without limits."""
        return None

    @abstractmethod
    def pop_episodes(self) -> Episodes:
        """The whole episodes that finished since the last call, as columns."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that is needed to continue exactly: tensors, arrays and numbers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        """Continue from `state`; returns the current observations."""

    def pop_stats(self) -> dict[str, float]:
        """Means over the episodes finished since the last call; see `episode_means`."""
        return episode_means(self.pop_episodes())


def episode_means(episodes: Episodes) -> dict[str, float]:
    """Columns of finished episodes -> the metrics of an update; without an episode only `episode/count` (0).

    NaN stands for what an episode does not have (the fifth link of a chain of three), and is left out.
    """
    count = len(episodes.get("return", ()))
    means = {"episode/count": float(count)}
    if count:
        means["episode/return"] = float(np.mean(episodes["return"]))
        means["episode/length"] = float(np.mean(episodes["length"]))
        known = {key: column[~np.isnan(column)] for key, column in episodes.items() if key.startswith("env/")}
        means |= {key: float(column.mean()) for key, column in known.items() if len(column)}
    return means


def concatenated(parts: Iterable[Episodes]) -> Episodes:
    """The columns of several lots of episodes, one lot after the other; lots without episodes have no columns."""
    parts = [part for part in parts if part]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def mix64(*words: int) -> int:
    """A 64-bit number that depends on all `words`: the seed of a stream (splitmix64 finaliser, Steele et al. 2014)."""
    state = 0
    for word in words:
        state = (state ^ (word & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


_MASK = (1 << 64) - 1
