"""The data behind an answer: the measurements of a run, the seeds of an arm, the arms of an environment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS
from memexp.pattern import ATTENTION, TOKENS, tokens_in
from memexp.runs import MAX_GAP, RunInfo
from memexp.runs.directory import Horizon

FINAL_SHARE = 0.1  # The final window is this last share of the budget, agent steps


@dataclass(frozen=True, eq=False)
class Seed:
    """The measurements of one run: columns [updates]. A missing value is NaN."""

    run: str
    info: RunInfo
    status: str
    reason: str
    precision: str
    provenance: dict[str, Any]
    agent_steps: np.ndarray
    returns: np.ndarray  # Mean return of the episodes that ended in the update; NaN where none did
    counts: np.ndarray
    evals: np.ndarray
    gaps: np.ndarray
    wall_s: np.ndarray
    entropy: np.ndarray = field(default_factory=lambda: np.zeros(0))  # Entropy of the policy, nats
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0))  # Mean steps of the episodes of the update
    # Milestone on the way to reward -> share of agents and episodes that reached it; empty without a funnel.
    funnel: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    # The groups of the full config; empty where it cannot be read.
    config: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    horizon: Horizon | None = None

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
        """Agent steps per second of wall-clock time over the whole run; the times between resumes add up."""
        wall = self.wall_s[~np.isnan(self.wall_s)]
        seconds = float(np.diff(wall, prepend=0.0).clip(min=0).sum()) if len(wall) else 0.0
        return self.reached / seconds if seconds > 0 else None

    def trailing_mean(self, at: np.ndarray, window: float, values: np.ndarray | None = None) -> np.ndarray:
        """Mean of `values` (the returns) over the agent steps (at - window, at], weighted by episodes; NaN if none."""
        values = self.returns if values is None else values
        weight = np.where(np.isnan(values), 0.0, self.counts)
        total = np.concatenate([[0.0], np.cumsum(weight * np.nan_to_num(values))])
        episodes = np.concatenate([[0.0], np.cumsum(weight)])
        first = np.searchsorted(self.agent_steps, at - window, side="right")
        last = np.searchsorted(self.agent_steps, at, side="right")
        count = episodes[last] - episodes[first]
        return np.divide(total[last] - total[first], count, out=np.full(len(count), np.nan), where=count > 0)

    def final(self, budget: int) -> float:
        """Mean return over the last tenth of `budget` agent steps, weighted by episodes; NaN where none ended.

        The window ends with the first update at or beyond the budget.
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
    seeds: list[Seed] = field(default_factory=list[Seed])  # The runs that count, one for each seed, cut at the budget
    partial: list[Seed] = field(default_factory=list[Seed])  # Runs that did not reach the budget

    @property
    def base(self) -> str:
        """The arm of which this one is a twin; its own name if it is none."""
        return self.info.twin_of or self.name.removesuffix("~")

    @cached_property
    def tokens(self) -> set[str]:
        """Tokens of the arm's pattern; empty where this version does not know a token of it."""
        try:
            return tokens_in(self.info.pattern)
        except ValueError:
            return set()

    @property
    def is_foreign(self) -> bool:
        """Whether memexp knows nothing of a cell in the pattern: a cell of one's own, or a token of another version."""
        return not self.tokens or bool(self.tokens - TOKENS.keys())

    @property
    def attends_only(self) -> bool:
        """Whether the pattern is attention alone, which keeps no state beyond `mem_len` steps."""
        return bool(self.tokens) and self.tokens <= ATTENTION

    @property
    def remembers(self) -> bool:
        """False for a memory-ablated twin, and for attention alone with mem_len 0."""
        return self.info.memory == "on" and (self.info.mem_len != 0 or not self.attends_only)

    @property
    def config(self) -> dict[str, dict[str, Any]]:
        """Config of the first run; empty where it is not known."""
        return next((seed.config for seed in (*self.seeds, *self.partial)), dict[str, dict[str, Any]]())

    @cached_property
    def finals(self) -> np.ndarray:
        """Mean return over the final window [seeds]. Computed once, from the seeds at the first call."""
        return np.array([seed.final(self.budget) for seed in self.seeds])

    @cached_property
    def worst(self) -> Seed | None:
        """The run whose max_logprob_gap is largest relative to what its precision allows."""
        measured = [seed for seed in (*self.seeds, *self.partial) if seed.max_gap is not None]
        return max(measured, key=lambda seed: (seed.max_gap or 0.0) / MAX_GAP[seed.precision], default=None)

    @property
    def consistent(self) -> bool | None:
        """Whether every run stays within the gap that its precision allows; None where no run measured it."""
        worst = self.worst
        return None if worst is None or worst.max_gap is None else worst.max_gap <= MAX_GAP[worst.precision]

    @property
    def funnel(self) -> dict[str, float]:
        """Milestone -> share of agents over the last tenth of the steps, mean over seeds (else unfinished runs)."""
        found: dict[str, list[float]] = {}
        for seed in self.seeds or self.partial:
            end = min(seed.reached, self.budget)
            for name, column in seed.funnel.items() if end else ():
                share = seed.trailing_mean(np.array([end]), FINAL_SHARE * end, column)
                found.setdefault(name, []).append(float(share[0]))
        known = {name: [value for value in values if math.isfinite(value)] for name, values in found.items()}
        return {name: float(np.mean(values)) for name, values in known.items() if values}

    def hours_for(self, agent_steps: float) -> float | None:
        """Hours of one run for `agent_steps`, at the median rate of the arm's runs; None where no rate is known."""
        rates = [seed.rate for seed in (self.seeds or self.partial) if seed.rate]
        return agent_steps / float(np.median(rates)) / 3600 if rates else None

    def dollars_for(self, hours: float | None) -> float | None:
        """Dollars of one run of `hours`, at the median price of the arm's machines; None where either is not known."""
        prices = [seed.info.price_per_hour for seed in (self.seeds or self.partial)]
        known = [price for price in prices if price is not None]
        return None if hours is None or not known else hours * float(np.median(known))


class Reference(NamedTuple):
    """A measured return that the environment allows: the best arm of its partner, which shows everything."""

    name: str
    """'ARM in PARTNER'."""
    finals: np.ndarray


@dataclass(eq=False)
class Environment:
    """One environment of the matrix: its arms and the reference returns."""

    name: str
    budget: int  # Agent steps at which the arms are compared
    random_returns: np.ndarray  # Mean return of the random policy [seeds], as the runs of each seed measured it
    ceiling: float | None
    arms: dict[str, Arm]
    notes: list[str]
    memoryless: float | None = None  # Mean return of a scripted policy that sees only the present observation
    oracle: float | None = None  # Mean return of a scripted policy that sees the whole state
    # Architectures of the whole matrix, without '~': an architecture has the same colour in every environment.
    architectures: Sequence[str] = ()
    solved_return: float | None = None  # Return that counts as solved, where it is stated
    reference: Reference | None = None  # Known top where no ceiling is known
    offers: Sequence[str] = ()  # What could serve as a known top, where there is none
    trials: Sequence[Seed] = ()  # Runs that try settings; they are no seeds of an arm, and never judged

    @property
    def seeds(self) -> list[Seed]:
        """All runs, finished or not."""
        return [seed for arm in self.arms.values() for seed in (*arm.seeds, *arm.partial)]

    def twins(self, name: str) -> list[Arm]:
        """The arms without memory that are twins of arm `name`: its own network, and controls of the user."""
        return [arm for arm in self.arms.values() if arm.base == name != arm.name and not arm.remembers]

    def twin(self, name: str) -> Arm | None:
        """The twin that arm `name` is compared with: the better one. What memory adds to that is the weaker claim."""

        def standing(arm: Arm) -> tuple[bool, bool, float]:
            enough = len(arm.seeds) >= MIN_SEEDS
            return arm.consistent is not False, enough, float(arm.finals.mean()) if arm.seeds else -math.inf

        return max(self.twins(name), key=standing, default=None)

    @property
    def random_level(self) -> np.ndarray | float | None:
        """The random policy's return [seeds], or one exact number where only one seed measured it."""
        returns = self.random_returns
        return None if len(returns) == 0 else returns if len(returns) > 1 else float(returns[0])

    @property
    def random_mean(self) -> float | None:
        return float(self.random_returns.mean()) if len(self.random_returns) else None

    @property
    def random_spread(self) -> float:
        """Standard deviation of the random policy's return between seeds; NaN where fewer than two measured it."""
        return float(self.random_returns.std(ddof=1)) if len(self.random_returns) > 1 else math.nan

    @property
    def random_funnel(self) -> dict[str, float]:
        """Milestone -> share of the random policy's agents and episodes, mean over the runs that measured it."""
        known = [seed.info.random_funnel for seed in self.seeds if seed.info.random_funnel]
        names = dict.fromkeys(name for funnel in known for name in funnel)
        return {name: float(np.mean([funnel[name] for funnel in known if name in funnel])) for name in names}

    @property
    def partner(self) -> str | None:
        """Name of the environment of the same matrix that shows everything."""
        return next((seed.info.partner for seed in self.seeds if seed.info.partner), None)

    @property
    def episode_length(self) -> int | None:
        """Steps of an episode in the longest of all updates; None where no run logged it."""
        lengths = [float(np.nanmax(s.lengths)) for s in self.seeds if np.isfinite(s.lengths).any()]
        return math.ceil(max(lengths)) if lengths else None

    @property
    def memory_span(self) -> int | None:
        """Agent steps that the task asks to remember, the longest that a run states; None where none does."""
        return max((span for seed in self.seeds if (span := seed.info.memory_span) is not None), default=None)
