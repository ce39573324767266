"""What the answer is made from: a run's measurements, the seeds of an arm, the arms of an environment."""

import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from memexp.runs import MAX_GAP, RunInfo

FINAL_SHARE = 0.1
"""The final window: this last share of the budget's agent steps."""


@dataclass(frozen=True, eq=False)
class Seed:
    """One run's measurements, columns of equal length [updates]; NaN where a value is missing."""

    run: str
    info: RunInfo
    status: str
    reason: str
    precision: str
    provenance: dict[str, Any]
    agent_steps: np.ndarray
    returns: np.ndarray
    """Mean return of the episodes that ended in the update; NaN where none did."""
    counts: np.ndarray
    evals: np.ndarray
    gaps: np.ndarray
    wall_s: np.ndarray
    entropy: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Entropy of the policy, nats."""
    funnel: dict[str, np.ndarray] = field(default_factory=dict)
    """Milestone on the way to reward -> share of agents and episodes that reached it; empty without a funnel."""
    config: dict[str, Any] = field(default_factory=dict)
    """The full config; empty where it cannot be read."""

    @property
    def reached(self) -> int:
        """Agent steps of the last update."""
        return int(self.agent_steps[-1]) if len(self.agent_steps) else 0

    @property
    def max_gap(self) -> float | None:
        """Largest consistency/max_logprob_gap over all updates; None where it was never measured."""
        measured = self.gaps[~np.isnan(self.gaps)]
        return float(measured.max()) if len(measured) else None

    @property
    def rate(self) -> float | None:
        """Agent steps per second of wall-clock, over the whole run; a clock that restarts at a resume is added up."""
        wall = self.wall_s[~np.isnan(self.wall_s)]
        seconds = float(np.diff(wall, prepend=0.0).clip(min=0).sum()) if len(wall) else 0.0
        return self.reached / seconds if seconds > 0 else None

    def trailing_mean(self, at: np.ndarray, window: float) -> np.ndarray:
        """Episode-weighted mean return over the agent steps (at - window, at]; NaN where no episode ended there."""
        return self.trailing(self.returns, at, window)

    def trailing(self, values: np.ndarray, at: np.ndarray, window: float) -> np.ndarray:
        """The same of any column of episode means."""
        weight = np.where(np.isnan(values), 0.0, self.counts)
        total = np.concatenate([[0.0], np.cumsum(weight * np.nan_to_num(values))])
        episodes = np.concatenate([[0.0], np.cumsum(weight)])
        first = np.searchsorted(self.agent_steps, at - window, side="right")
        last = np.searchsorted(self.agent_steps, at, side="right")
        count = episodes[last] - episodes[first]
        return np.divide(total[last] - total[first], count, out=np.full(len(count), np.nan), where=count > 0)

    def final(self, budget: int) -> float:
        """Mean return over the last tenth of `budget` agent steps, weighted by episodes; NaN where none ended.

        The window ends with the update that reaches the budget, which is a little beyond it.
        """
        if len(self.agent_steps) == 0:
            return math.nan
        last = min(int(np.searchsorted(self.agent_steps, budget)), len(self.agent_steps) - 1)
        return float(self.trailing_mean(self.agent_steps[last : last + 1], FINAL_SHARE * budget)[0])


@dataclass(eq=False)
class Arm:
    """One architecture (or its twin) in one environment."""

    name: str
    info: RunInfo
    budget: int
    seeds: list[Seed] = field(default_factory=list)
    """The runs that count, one for each seed, cut at the budget."""
    partial: list[Seed] = field(default_factory=list)
    """Runs that did not reach the budget: running, failed or stopped."""

    @property
    def remembers(self) -> bool:
        """False for a memory-ablated twin, and for a pattern of X and X^ that attends to 0 steps before."""
        columns = [self.info.pattern] if isinstance(self.info.pattern, str) else self.info.pattern
        only_x = all(re.fullmatch(r"[X^, ]+", column) for column in columns)
        return self.info.memory == "on" and (self.info.mem_len > 0 or not only_x)

    @cached_property
    def finals(self) -> np.ndarray:
        """[seeds] mean return over the final window; of the seeds that are there when it is first asked for."""
        return np.array([seed.final(self.budget) for seed in self.seeds])

    @cached_property
    def worst(self) -> Seed | None:
        """The run with the largest gap between acting and learning, relative to what its precision allows."""
        measured = [seed for seed in (*self.seeds, *self.partial) if seed.max_gap is not None]
        return max(measured, key=lambda seed: (seed.max_gap or 0.0) / MAX_GAP[seed.precision], default=None)

    @property
    def consistent(self) -> bool | None:
        """Whether no run exceeds the gap that its precision allows; None where no run measured it."""
        worst = self.worst
        return None if worst is None or worst.max_gap is None else worst.max_gap <= MAX_GAP[worst.precision]


@dataclass(eq=False)
class Environment:
    """One environment of the matrix: its arms and the levels that returns are read against."""

    name: str
    budget: int
    """Agent steps at which the arms are compared."""
    random_returns: np.ndarray
    """[seeds] the random policy's mean return, as the runs of each seed measured it: once, in the same worlds."""
    ceiling: float | None
    arms: dict[str, Arm]
    notes: list[str]
    memoryless: float | None = None
    """Mean return of a scripted player that sees the present observation alone."""
    oracle: float | None = None
    """Mean return of a scripted player that sees the whole state."""
    architectures: tuple[str, ...] = ()
    """Those of the whole matrix, each with its twin under its own name: an architecture has one colour everywhere."""

    @property
    def seeds(self) -> list[Seed]:
        return [seed for arm in self.arms.values() for seed in (*arm.seeds, *arm.partial)]
