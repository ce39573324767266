"""Runs -> environments -> arms -> seeds: which runs count, and what each of them measured.

Nothing is dropped silently: what is left out, cut or doubled stands in the `notes` of its environment.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import yaml

from memexp.config import UsageError
from memexp.runs import MAX_GAP, Run, RunInfo
from memexp.runs.wandb_source import WandbRun

FINAL_SHARE = 0.1
"""The final window: this last share of the budget's agent steps."""
REACHED = 0.95
"""A run counts at a budget when it got this far of it."""
KEEP = 0.8
"""Curves are compared at the largest budget that this share of the (arm, seed) cells reached."""
COLUMNS = ("episode/return", "episode/count", "eval/return", "consistency/max_logprob_gap", "wall_s", "policy/entropy")
FUNNEL = "env/funnel/"


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

    @property
    def seeds(self) -> list[Seed]:
        return [seed for arm in self.arms.values() for seed in (*arm.seeds, *arm.partial)]


def load(runs: Iterable[Run | WandbRun], matrix: str) -> tuple[dict[str, Environment], list[str]]:
    """The environments of one matrix, and notes on run directories that cannot be read.

    `matrix` is a matrix name of the runs, or any name (a folder's) when they all belong to one. Raises UsageError
    where there are no runs, or where they belong to several matrices and `matrix` is none of them.
    """
    seeds, notes = [], []
    for run in runs:
        try:
            seeds.append(read_seed(run))
        except (OSError, ValueError) as error:
            notes.append(f"{run.name}: run.json cannot be read ({type(error).__name__})")
    if not seeds:
        raise UsageError(f"no runs of '{matrix}' to report on" + (f": {notes[0]}" if notes else ""))
    matrices = {seed.info.matrix for seed in seeds}
    if matrix in matrices:
        seeds = [seed for seed in seeds if seed.info.matrix == matrix]
    elif len(matrices) > 1:
        names = sorted(name or "(no matrix)" for name in matrices)
        raise UsageError(f"'{matrix}' holds runs of several matrices ({', '.join(names)}); name one of them")
    names = sorted({seed.info.env for seed in seeds})
    return {name: _environment(name, [seed for seed in seeds if seed.info.env == name]) for name in names}, notes


def read_seed(run: Run | WandbRun) -> Seed:
    """One run as columns; what is damaged besides run.json counts as missing."""
    info = run.info
    columns = run.columns(COLUMNS, FUNNEL)
    counts = columns["episode/count"]
    exit = _or(None, lambda: run.exit)
    config = _or({}, lambda: dict(run.config))
    precision = _or("float32", lambda: config["trainer"]["precision"])
    return Seed(
        run=run.name,
        info=info,
        status=exit.status if exit else "running",
        reason=exit.reason if exit else "",
        precision=precision if precision in MAX_GAP else "float32",
        provenance=_or({}, lambda: dict(run.provenance)),
        agent_steps=columns["agent_steps"],
        returns=columns["episode/return"],
        counts=np.where(np.isnan(counts), 1.0, counts),
        evals=columns["eval/return"],
        gaps=columns["consistency/max_logprob_gap"],
        wall_s=columns["wall_s"],
        entropy=columns["policy/entropy"],
        funnel=_funnel(columns, info),
        config=config,
    )


def _funnel(columns: dict[str, np.ndarray], info: RunInfo) -> dict[str, np.ndarray]:
    """Milestone -> shares, in the funnel's order, which run.json keeps."""
    measured = {name.removeprefix(FUNNEL): column for name, column in columns.items() if name.startswith(FUNNEL)}
    order = [name for name in info.random_funnel or {} if name in measured]
    return {name: measured[name] for name in dict.fromkeys([*order, *measured])}


def common_budget(seeds: Sequence[Seed]) -> int:
    """The agent steps to compare at: the largest budget that at least 80 % of the (arm, seed) cells reached."""
    budgets = sorted({seed.info.total_timesteps for seed in seeds})
    reached = {
        budget: {(s.info.arm, s.info.seed) for s in seeds if s.reached >= REACHED * budget} for budget in budgets
    }
    most = len(reached[budgets[0]])
    return max((b for b in budgets if most and len(reached[b]) >= KEEP * most), default=budgets[-1])


def _environment(name: str, seeds: list[Seed]) -> Environment:
    notes: list[str] = []
    budget = common_budget(seeds)
    budgets = sorted({seed.info.total_timesteps for seed in seeds})
    if len(budgets) > 1:
        notes.append(f"budgets differ ({', '.join(map(str, budgets))}): compared at {budget} agent steps")
    arms = {}
    for arm_name in sorted({seed.info.arm for seed in seeds}, key=lambda arm: (arm.rstrip("~"), arm)):
        members = [seed for seed in seeds if seed.info.arm == arm_name]
        arms[arm_name] = _arm(arm_name, members, budget, notes)
    measured = [(s.info.seed, s.info.random_return) for s in seeds if s.info.random_return is not None]
    random = {number: value for number, value in measured if math.isfinite(value)}
    random_returns = np.array([random[number] for number in sorted(random)])
    ceiling, memoryless, oracle = (
        _level([getattr(seed.info, f"{player}_return") for seed in seeds], player, notes)
        for player in ("ceiling", "memoryless", "oracle")
    )
    if ceiling is not None and len(random_returns) and ceiling <= random_returns.mean():
        notes.append(f"ceiling_return {ceiling:g} is not above the random policy's return: not used")
        ceiling = None
    return Environment(name, budget, random_returns, ceiling, arms, notes, memoryless, oracle)


def _level(values: Sequence[float | None], what: str, notes: list[str]) -> float | None:
    """The highest of the returns that runs name as one level; None where none does."""
    known = sorted({value for value in values if value is not None and math.isfinite(value)})
    if len(known) > 1:
        notes.append(f"runs name different {what} returns ({', '.join(f'{v:g}' for v in known)}): highest taken")
    return known[-1] if known else None


def _arm(name: str, members: list[Seed], budget: int, notes: list[str]) -> Arm:
    arm = Arm(name, members[0].info, budget)
    for number in sorted({seed.info.seed for seed in members}):
        doubles = [seed for seed in members if seed.info.seed == number]
        # A run that was planned for this budget went through its own schedules; then the one that got furthest.
        doubles.sort(key=lambda s: (s.reached >= REACHED * budget, s.info.total_timesteps == budget, s.reached, s.run))
        best = doubles.pop()
        if doubles:
            notes.append(f"{name} seed {number} stands twice: {best.run} used, {_names(doubles)} left out")
        if best.reached < REACHED * budget:
            arm.partial.append(best)
        elif math.isnan(best.final(budget)):
            notes.append(f"{best.run}: no finished episode with a return in the last tenth of its steps, left out")
            arm.partial.append(best)
        else:
            arm.seeds.append(best)
            if best.status == "failed":
                notes.append(f"{best.run}: failed ({best.reason or 'no reason given'}) past the budget, used")
    for status, count in Counter(seed.status for seed in arm.partial).items():
        stopped = [seed for seed in arm.partial if seed.status == status]
        why = next((f": {seed.reason}" for seed in stopped if seed.reason), "")
        notes.append(f"{name}: {count} {status} ({_names(stopped)}), not counted{why}")
    return arm


def _names(seeds: Sequence[Seed]) -> str:
    shown = ", ".join(seed.run for seed in seeds[:3])
    return shown + (f" and {len(seeds) - 3} more" if len(seeds) > 3 else "")


def _or(default: Any, read: Any) -> Any:
    """What `read` gives, `default` where the file is missing or damaged."""
    try:
        return read()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return default
