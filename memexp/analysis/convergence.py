"""Has an arm converged? Slopes of the last third, projected over as many steps again; seeds as the unit."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy import stats

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.forecast import HORIZON, Forecast, forecast
from memexp.analysis.scale import SOLVED, Scale
from memexp.analysis.seeds import FINAL_SHARE, Arm, Seed
from memexp.analysis.statistics import Contrast, contrast

TOLERANCE = 0.05
"""Share of the scale: a projected change within it is none."""
COLLAPSE = 0.3
"""Share of the scale that a seed must have lost since its own best window."""
FAR = 0.5
"""Share of the scale below which a seed is far from solving: beside one that solves, seeds disagree."""
POINTS = 100
"""Points of a smoothed curve over the budget."""
BINS = 30
"""Means over the last third that its slope is fitted to."""


@dataclass(frozen=True)
class Convergence:
    verdict: Literal["converged", "improving", "collapsed", "undecided"]
    at_agent_steps: int | None
    reason: str
    change: dict[str, Any] | None = None
    """Projected over another third of the budget: share of the scale with its 90 % interval."""
    tolerance: float = TOLERANCE
    window: int | None = None
    """Agent steps that the slope was taken over, and projected over."""
    forecast: dict[str, Any] | None = None
    forecast_reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def convergence(arm: Arm, scale: Scale | None, learned: str) -> Convergence:
    """Verdict on the arm's curve; `learned` is its learning verdict: a flat curve at random level is no convergence."""
    if not arm.seeds:
        return Convergence("undecided", None, "no finished run")
    if scale is None:
        return Convergence("undecided", None, "nothing to scale a change with: no ceiling and no arm above random")
    change = contrast((1.0, projected_changes(arm))) / scale.span
    ahead = forecast(*binned_curves(arm), arm.budget, scale.span)
    facts: dict[str, Any] = {
        "change": {"estimate": change.estimate, "ci90": list(change.interval(0.90))},
        "window": round(HORIZON * arm.budget),
        "forecast": ahead.as_dict() if isinstance(ahead, Forecast) else None,
        "forecast_reason": ahead.reason if isinstance(ahead, Forecast) else ahead,
    }
    verdict, settled, reason = _verdict(arm, scale, learned, change)
    if apart := disagreement(arm, scale):
        reason += f"; {apart}"
    return Convergence(verdict, settled, reason, **facts)


def _verdict(arm: Arm, scale: Scale, learned: str, change: Contrast) -> tuple[Any, int | None, str]:
    """Verdict, agent steps from which the curve has settled, reason."""
    drops = (best_windows(arm) - arm.finals) / scale.span
    if (drops >= COLLAPSE).mean() >= 0.5:
        lost = f"{(drops >= COLLAPSE).sum()} of {len(drops)} seeds lost at least {COLLAPSE:.0%} of the scale"
        return "collapsed", None, f"{lost} since their best {FINAL_SHARE:.0%} of the steps"
    if learned != "learned":
        return "undecided", None, "not shown to have learned: a flat curve would say nothing"
    if len(arm.seeds) < MIN_SEEDS:
        return "undecided", None, f"{len(arm.seeds)} seeds; {MIN_SEEDS} are the least"
    low, high = change.interval(0.90)
    if not np.isfinite(low):
        return "undecided", None, "too few episodes in the last third for a slope"
    text = (
        f"projected over another third: {change.estimate:+.1%} of the scale (90 % interval {low:+.1%} to {high:+.1%})"
    )
    alpha = level(len(arm.seeds))
    if max(change.p_above(-TOLERANCE), change.p_below(TOLERANCE)) <= alpha:
        return "converged", _settled_at(arm, scale), text
    if change.p_above() <= alpha and change.estimate > TOLERANCE:
        return "improving", None, text
    return "undecided", None, text


def solved_seeds(arm: Arm, scale: Scale | None) -> dict[str, Any]:
    """How many seeds solve, the exact 95 % interval of their share (Clopper and Pearson 1934), and which do not."""
    n = len(arm.seeds)
    if scale is None or not n:
        return {"seeds": None, "of": n, "ci": [None, None], "disagree": None, "unsolved": []}
    there = arm.finals >= scale.solved
    interval = stats.binomtest(int(there.sum()), n).proportion_ci(0.95)
    return {
        "seeds": int(there.sum()),
        "of": n,
        "ci": [float(interval.low), float(interval.high)],
        "disagree": bool(disagreement(arm, scale)),
        "unsolved": [seed.run for seed, solved in zip(arm.seeds, there, strict=True) if not solved],
    }


def disagreement(arm: Arm, scale: Scale) -> str:
    """Names the split where some seeds solve and others end far from it; empty where they do not."""
    share = np.array([scale.normalize(value) for value in arm.finals])
    solving, far = (share >= SOLVED).sum(), (share < FAR).sum()
    if not solving or not far:
        return ""
    return f"seeds disagree: {solving} of {len(share)} solve it, {far} end below {FAR:.0%} of the way"


def smoothed_curves(arm: Arm, seeds: list[Seed] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Agent steps [points] and trailing means over a tenth of the budget [seeds, points]; NaN before any episode."""
    grid = np.linspace(arm.budget / POINTS, arm.budget, POINTS)
    window = FINAL_SHARE * arm.budget
    return grid, np.array([seed.trailing_mean(grid, window) for seed in seeds or arm.seeds])


def best_windows(arm: Arm) -> np.ndarray:
    """[seeds] the highest mean return over any tenth of the budget, the final one included."""
    return np.maximum([best_window(seed, arm.budget) for seed in arm.seeds], arm.finals)


@lru_cache(maxsize=256)
def best_window(seed: Seed, budget: int) -> float:
    """The highest mean return over any tenth of the budget, a hundredth apart; -inf without any episode."""
    ends = np.linspace(FINAL_SHARE, 1, int((1 - FINAL_SHARE) * POINTS) + 1) * budget
    means = seed.trailing_mean(ends, FINAL_SHARE * budget)
    return float(np.where(np.isnan(means), -np.inf, means).max())


def binned_curves(arm: Arm, bins: int = 2 * BINS) -> tuple[np.ndarray, np.ndarray]:
    """Centres of `bins` equal stretches of the budget, as shares of it, and mean returns in them [seeds, bins]."""
    edges = np.arange(1, bins + 1) / bins * arm.budget
    means = np.array([seed.trailing_mean(edges, arm.budget / bins) for seed in arm.seeds])
    return (np.arange(bins) + 0.5) / bins, means


def projected_changes(arm: Arm) -> np.ndarray:
    """[seeds] Theil-Sen slope of the returns in the last third of the budget, times that third; NaN where unknown."""
    return np.array([projected_change(seed, arm.budget) for seed in arm.seeds])


@lru_cache(maxsize=256)
def projected_change(seed: Seed, budget: int) -> float:
    """Theil-Sen slope of the returns in the last third (thirty bins), times a third of the budget."""
    edges = np.linspace(1 - HORIZON, 1, BINS + 1)[1:] * budget
    bins = seed.trailing_mean(edges, HORIZON * budget / BINS)
    known = np.flatnonzero(~np.isnan(bins))
    if len(known) < 3:
        return float("nan")
    later, earlier = _index_pairs(len(known))
    rises = bins[known[later]] - bins[known[earlier]]
    return float(np.median(rises / (edges[known[later]] - edges[known[earlier]]))) * HORIZON * budget


@lru_cache(maxsize=BINS)
def _index_pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All (later, earlier) of n points."""
    return np.tril_indices(n, -1)


def _settled_at(arm: Arm, scale: Scale) -> int | None:
    """First agent step from which the mean curve stays within the tolerance of its end."""
    grid, curves = smoothed_curves(arm)
    mean = curves.mean(axis=0)
    away = ~(np.abs(mean - mean[-1]) <= TOLERANCE * scale.span)
    after = int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0
    return int(grid[after]) if after < len(grid) else None
