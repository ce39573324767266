"""`VecEnv`, the interface of all environments: many of them in lockstep, tensors in and out.

N is the number of agents in all environments (`num_agents`). Rows are ordered by environment, then by agent. When an
episode ends, the same step returns the first observation of the next episode. `final_obs` keeps the true last
observation of the old one, which a truncated return is bootstrapped from.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.config import EnvError as EnvError
from memexp.config import UsageError
from memexp.spaces import (
    ActionSpace,
    DiscreteActions,
    MultiDiscreteActions,
    ObservationSpace,
    TokenSpace,
    VectorSpace,
    allowed_actions,
)

TaskSource = Callable[[int, int], int]
"""(global env index, number of the episode in that env) -> task id."""

Episodes = dict[str, np.ndarray]
"""Finished episodes as columns: `return`, `length`, `world` (global env index), `task`, and `env/<stat>`."""


class VecEnv(ABC):
    """`num_envs` environments in lockstep; rows `[N]` are agents.

    final_obs: true last observations of the episodes that ended in the latest step, in their rows; other rows are
    undefined. shortest_truncation: an episode may be truncated after this many steps at the earliest; None: never.
    resetting: bool `[N]`, the rows that the next step only resets: their actions do nothing, and nothing is learnt from
    that step, which tells them terminated; None: there are no such steps.
    graphable: `launch` enqueues the same kernels on the same memory each time, so that a CUDA graph can replay it.
    ceiling_return: return of a perfect policy with memory. memory_span: most steps between an observation and the
    action that needs it; 0: no memory needed. continues: `load_state_dict` continues the running episodes; else it
    starts new ones. reading: how the policy reads each part of an observation; None: there is nothing to choose.
    because: why it reads each part so. masks_in_info: `encode` takes masks beside the observations. random_steps: agent
    steps that `desync` and `load_state_dict` have played at random so far, to bring episodes out of phase.
    """

    num_envs: int
    num_agents: int
    num_actions: int  # 0 if actions are continuous
    observation: ObservationSpace
    device: torch.device
    final_obs: Tensor
    resetting: Tensor | None = None
    shortest_truncation: int | None = 1
    graphable: bool = False
    ceiling_return: float | None = None  # None: unknown
    solved_return: float | None = None  # None: unknown
    memory_span: int | None = None  # None: unknown
    continues: bool = True
    reading: Mapping[str, str] | None = None
    because: Mapping[str, str] = {}
    masks_in_info: bool = False
    random_steps: int = 0

    @property
    def actions(self) -> ActionSpace:
        return DiscreteActions(self.num_actions)

    @abstractmethod
    def reset(self) -> Tensor:
        """Restart the first episode of every environment from the seed; returns the first observations `[N, ...]`."""

    @abstractmethod
    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step of every environment: actions -> obs `[N, ...]`, reward, terminated, truncated `[N]`.

        Discrete actions are int64 `[N]`; for others see `self.actions`. reward is float32, the last two are bool. The
        next step overwrites the returned tensors.
        """

    def encode(self, observations: Any, action_masks: Any = None, ended: Any = None) -> Tensor:
        """Observations of N agents, as the environment itself gives them, as rows `[N, ...]` for the policy.

        An array or tensor `[N, ...]`, or a list of N; of third-party environments also what Gymnasium's vector
        environments return. action_masks: N masks, where infos tell them. ended `[N]`: True where nobody acts on the
        observation, so that its mask may allow nothing. Raises UsageError for what is not in the observation space.
        """
        if action_masks is not None:
            raise UsageError("this environment has no masks of actions: pass no action_masks")
        space = self.observation
        assert isinstance(space, VectorSpace | TokenSpace)  # no other kind is ours
        dtype, kind = (torch.float32, "numbers") if isinstance(space, VectorSpace) else (torch.uint8, "bytes")
        expected = f"expected {kind} [N, {', '.join(map(str, space.shape))}]"
        try:
            if isinstance(observations, list):
                observations = torch.stack([torch.as_tensor(one) for one in observations])
            given = torch.as_tensor(observations, device=self.device)
            rows = given.to(dtype)
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(f"observations are neither an array nor a list of N alike arrays; {expected}") from None
        if given.shape[1:] != space.shape or not given.dim():
            raise UsageError(f"observations have shape {list(given.shape)}; {expected}")
        right = rows.isfinite() if dtype.is_floating_point else rows == given
        if not right.all():
            row = int((~right).flatten(1).any(1).int().argmax())
            raise UsageError(f"observation {row} holds {given[row][~right[row]][0].item()}; {expected}, finite")
        return rows

    def decode(self, actions: Tensor) -> np.ndarray:
        """Actions `[N, ...]` of the policy as the environment itself takes them."""
        return actions.cpu().numpy()

    @property
    def modules(self) -> list[str]:
        """Modules that define the environment and its wrappers."""
        return [type(self).__module__]

    def ready(self) -> None:
        """Do the host's part of a step. Call it before a CUDA graph replays `launch`; `step` calls it itself."""
        return

    def launch(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`step` without `ready`."""
        return self.step(actions)

    @abstractmethod
    def desync(self) -> Tensor:
        """Bring the environments out of phase: reset, then play at random to a random step of each first episode.

        No episode is cut. The statistics leave out the episodes that run now. Returns the observations.
        """

    def time_limits(self) -> np.ndarray | None:
        """Most steps of the running episode of each environment `[num_envs]`; None if there is no limit."""
        return None

    @abstractmethod
    def pop_episodes(self) -> Episodes:
        """The whole episodes finished since the last call, as columns."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The state needed to continue exactly: tensors, arrays and numbers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> Tensor:
        """Continue from `state`; returns the current observations."""

    def close(self) -> None:  # noqa: B027 (most environments hold nothing)
        """Release resources outside of this process, such as workers. The environments cannot be used afterwards."""

    def pop_stats(self) -> dict[str, float]:
        """Means over the episodes finished since the last call; see `episode_means`."""
        return episode_means(self.pop_episodes())


def random_actions(env: VecEnv, obs: Tensor, generator: torch.Generator) -> Tensor:
    """Uniformly random actions `[N, *shape]`, of those that `obs` `[N, ...]` allow; continuous ones in -1 .. 1."""
    space, rows = env.actions, len(obs)
    if (allowed := allowed_actions(obs, env.observation)) is not None:
        counts = space.counts if isinstance(space, MultiDiscreteActions) else (allowed.shape[-1],)
        chances = [(part | ~part.any(-1, keepdim=True)).float() for part in allowed.cpu().split(counts, -1)]
        return torch.cat([part.multinomial(1, generator=generator) for part in chances], 1).view(rows, *space.shape)
    if isinstance(space, DiscreteActions):
        return torch.randint(space.count, (rows,), generator=generator)
    if isinstance(space, MultiDiscreteActions):
        return torch.stack([torch.randint(n, (rows,), generator=generator) for n in space.counts], 1)
    return 2 * torch.rand(rows, space.size, generator=generator) - 1


def episode_means(episodes: Episodes) -> dict[str, float]:
    """Columns of finished episodes -> the metrics of an update; without episodes only `episode/count` (0).

    A statistic that an episode does not have (the fifth link of a chain of three) is NaN; means leave it out.
    `lacking/<stat>` counts these episodes, but for milestones: a task that lacks one is no failure.
    """
    count = len(episodes.get("return", ()))
    means = {"episode/count": float(count)}
    if count:
        means["episode/return"] = float(np.mean(episodes["return"]))
        means["episode/length"] = float(np.mean(episodes["length"]))
        known = {key: column[~np.isnan(column)] for key, column in episodes.items() if key.startswith("env/")}
        means |= {key: float(column.mean()) for key, column in known.items() if len(column)}
        lacking = {key.removeprefix("env/"): float(count - len(column)) for key, column in known.items()}
        means |= {f"lacking/{key}": n for key, n in lacking.items() if n and not key.startswith("funnel/")}
    return means


def concatenated(parts: Iterable[Episodes]) -> Episodes:
    """Concatenates the columns of several batches of episodes. A column that a batch lacks is NaN there."""
    parts = [part for part in parts if part]
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.concatenate([_column(part, name) for part in parts]) for name in names}


def _column(part: Episodes, name: str) -> np.ndarray:
    return part[name] if name in part else np.full(len(part["return"]), np.nan, np.float32)


_MASK = (1 << 64) - 1


def mix64(*words: int) -> int:
    """A 64-bit hash of all `words`, the seed of a random stream (splitmix64 finaliser, Steele et al. 2014)."""
    state = 0
    for word in words:
        state = (state ^ (word & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def flags(name: str, given: Any, n: int) -> Tensor:
    """One flag for each of `n` observations. Raises UsageError for another shape."""
    try:
        each = torch.zeros(n) if given is None else torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"{name} are {type(given).__name__}; expected [{n}] flags, one for each observation") from None
    if not ((each == 0) | (each == 1)).all():
        raise UsageError(f"{name} hold other numbers than 0 and 1")
    if each.shape != (n,):
        raise UsageError(f"{name} have shape {list(each.shape)}; expected [{n}], one for each observation")
    return each.bool()
