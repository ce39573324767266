"""Has an arm converged? Projects the slope of the last third of the budget over another third. The seed is the unit."""

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from functools import lru_cache

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.forecast import HORIZON, Forecast, NoForecast, forecast
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import FINAL_SHARE, Arm, Seed
from memexp.analysis.statistics import NO_INTERVAL, Contrast, Interval, contrast, share_interval

TOLERANCE = 0.05  # A projected change within this share of the scale counts as no change
COLLAPSE = 0.3  # A seed has collapsed if it ends this share of the scale below its own best window
FAR = 0.5  # Seeds disagree if some solve and others end below this share of the way
RISING = 0.1  # Advice takes a rise for real at this one-sided level; verdicts have the levels of `alpha_spending`
POINTS = 100  # Points of a smoothed curve over the budget
BINS = 30  # Bins of the last third of the budget; its slope is fitted to their means


class ConvergenceKind(StrEnum):
    CONVERGED = auto()
    IMPROVING = auto()
    COLLAPSED = auto()
    UNDECIDED = auto()


class ConvergenceCause(Enum):
    NO_FINISHED_RUN = "No run has finished."
    NO_SCALE = "Changes have no scale: no ceiling is known and no arm is above random."
    SEEDS_COLLAPSED = (
        "{collapsed} of {seeds} end {lost} of the scale or more below their own best {window} of the steps."
    )
    NOT_LEARNED = "The arm has not been shown to learn, so a flat curve would mean nothing."
    FEW_SEEDS = "{seeds}; the minimum is {least}."
    FEW_EPISODES = "The last third has too few episodes for a slope."
    PROJECTED_CHANGE = (
        "At the slope of the last third, another third of the steps would change the return by {change} of the scale."
    )


@dataclass(frozen=True)
class Solved:
    """How many seeds of an arm solve the environment."""

    of: int
    """Finished seeds."""
    seeds: int | None = None
    """Seeds that solve; None where it is not known what solves."""
    far: int = 0
    """Seeds that end below FAR."""
    interval: Interval = NO_INTERVAL
    """Exact 95 % interval of the solving share (Clopper and Pearson 1934)."""
    unsolved: list[str] = field(default_factory=list[str])
    """Runs that do not solve."""

    @property
    def disagree(self) -> bool:
        return bool(self.seeds and self.far)


@dataclass(frozen=True)
class Convergence:
    """The convergence verdict of an arm, with the numbers that it rests on."""

    verdict: ConvergenceKind
    cause: ConvergenceCause
    solved: Solved
    at_agent_steps: int | None = None
    """The mean curve stays within the tolerance of its end from here on."""
    change: Contrast | None = None
    """Projected over another third of the budget, share of the scale."""
    window: int | None = None
    """Agent steps of the slope, and of the projection."""
    forecast: Forecast | NoForecast | None = None
    collapsed: int = 0
    """Seeds that have collapsed."""


def judge_convergence(arm: Arm, scale: Scale | None, learned: bool) -> Convergence:
    """Verdict on the arm's curve. An arm that has not `learned` is never converged: random play is flat as well."""
    solved = solved_seeds(arm, scale)
    if not arm.seeds:
        return Convergence(ConvergenceKind.UNDECIDED, ConvergenceCause.NO_FINISHED_RUN, solved)
    if scale is None:
        return Convergence(ConvergenceKind.UNDECIDED, ConvergenceCause.NO_SCALE, solved)
    change = contrast((1.0, projected_changes(arm))) / scale.span
    drops = (best_windows(arm) - arm.finals) / scale.span
    kind, cause = _verdict(len(arm.seeds), change, drops, learned)
    return Convergence(
        kind,
        cause,
        solved,
        at_agent_steps=_settled_at(arm, scale) if kind is ConvergenceKind.CONVERGED else None,
        change=change,
        window=round(HORIZON * arm.budget),
        forecast=forecast(*binned_curves(arm), arm.budget, scale.span),
        collapsed=int((drops >= COLLAPSE).sum()),
    )


def _verdict(n: int, change: Contrast, drops: np.ndarray, learned: bool) -> tuple[ConvergenceKind, ConvergenceCause]:
    if (drops >= COLLAPSE).mean() >= 0.5:
        return ConvergenceKind.COLLAPSED, ConvergenceCause.SEEDS_COLLAPSED
    if not learned:
        return ConvergenceKind.UNDECIDED, ConvergenceCause.NOT_LEARNED
    if n < MIN_SEEDS:
        return ConvergenceKind.UNDECIDED, ConvergenceCause.FEW_SEEDS
    if not np.isfinite(change.se):
        return ConvergenceKind.UNDECIDED, ConvergenceCause.FEW_EPISODES
    kind, alpha = ConvergenceKind.UNDECIDED, level(n)
    if max(change.p_above(-TOLERANCE), change.p_below(TOLERANCE)) <= alpha:
        kind = ConvergenceKind.CONVERGED
    elif change.p_above() <= alpha and change.estimate > TOLERANCE:
        kind = ConvergenceKind.IMPROVING
    return kind, ConvergenceCause.PROJECTED_CHANGE


def solved_seeds(arm: Arm, scale: Scale | None) -> Solved:
    n = len(arm.seeds)
    if scale is None or not n:
        return Solved(of=n)
    if scale.solved is None:
        return Solved(of=n)
    there = arm.finals >= scale.solved
    return Solved(
        of=n,
        seeds=int(there.sum()),
        far=sum(scale.normalize(value) < FAR for value in arm.finals),
        interval=share_interval(int(there.sum()), n),
        unsolved=[seed.run for seed, solved in zip(arm.seeds, there, strict=True) if not solved],
    )


def smoothed_curves(arm: Arm, seeds: list[Seed] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Agent steps [points], and mean returns over the tenth of the budget before them [seeds, points]; NaN if none."""
    grid = np.linspace(arm.budget / POINTS, arm.budget, POINTS)
    window = FINAL_SHARE * arm.budget
    return grid, np.array([seed.trailing_mean(grid, window) for seed in seeds or arm.seeds])


def best_windows(arm: Arm) -> np.ndarray:
    """The highest mean return over any tenth of the budget [seeds], the final one included."""
    return np.maximum([best_window(seed, arm.budget) for seed in arm.seeds], arm.finals)


@lru_cache(maxsize=256)
def best_window(seed: Seed, budget: int) -> float:
    """The highest mean return over any tenth of the budget, in steps of a hundredth; -inf without an episode."""
    ends = np.linspace(FINAL_SHARE, 1, int((1 - FINAL_SHARE) * POINTS) + 1) * budget
    means = seed.trailing_mean(ends, FINAL_SHARE * budget)
    return float(np.where(np.isnan(means), -np.inf, means).max())


def binned_curves(arm: Arm, bins: int = 2 * BINS) -> tuple[np.ndarray, np.ndarray]:
    """Centres of equal bins [bins], as shares of the budget, and the mean returns in them [seeds, bins]."""
    edges = np.arange(1, bins + 1) / bins * arm.budget
    means = np.array([seed.trailing_mean(edges, arm.budget / bins) for seed in arm.seeds])
    return (np.arange(bins) + 0.5) / bins, means


def projected_changes(arm: Arm) -> np.ndarray:
    """`projected_change` of each seed [seeds]; NaN where it is not known."""
    return np.array([projected_change(seed, arm.budget) for seed in arm.seeds])


def rises(arm: Arm, scale: Scale) -> bool:
    """Whether the arm seems to rise still, so that more steps are worth more than more seeds. Needs 4 seeds."""
    change = contrast((1.0, projected_changes(arm)))
    return len(arm.seeds) >= MIN_SEEDS and change.p_above() <= RISING and change.estimate > TOLERANCE * scale.span


@lru_cache(maxsize=256)
def projected_change(seed: Seed, budget: int) -> float:
    """Theil-Sen slope of the returns in the last third of the budget (in BINS bins), times a third of the budget."""
    edges = np.linspace(1 - HORIZON, 1, BINS + 1)[1:] * budget
    bins = seed.trailing_mean(edges, HORIZON * budget / BINS)
    known = np.flatnonzero(~np.isnan(bins))
    if len(known) < 3:
        return float("nan")
    later, earlier = np.tril_indices(len(known), -1)
    rises = bins[known[later]] - bins[known[earlier]]
    return float(np.median(rises / (edges[known[later]] - edges[known[earlier]]))) * HORIZON * budget


def _settled_at(arm: Arm, scale: Scale) -> int | None:
    """First agent step from which the mean curve stays within the tolerance of its end."""
    grid, curves = smoothed_curves(arm)
    mean = curves.mean(axis=0)
    away = ~(np.abs(mean - mean[-1]) <= TOLERANCE * scale.span)
    after = int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0
    return int(grid[after]) if after < len(grid) else None
