"""Has an arm converged? Slopes of the last third, projected over as many steps again; seeds as the unit."""

from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from memexp.analysis.load import FINAL_SHARE, Arm, Seed
from memexp.analysis.scale import MIN_SEEDS, Scale
from memexp.analysis.statistics import contrast

TOLERANCE = 0.05
"""Share of the scale: a projected change within it is none."""
COLLAPSE = 0.3
"""Share of the scale that a seed must have lost since its own best window."""
POINTS = 100
"""Points of a smoothed curve over the budget."""


class Convergence(NamedTuple):
    verdict: Literal["converged", "improving", "collapsed", "undecided"]
    at_agent_steps: int | None
    reason: str


def convergence(arm: Arm, scale: Scale | None, learned: str) -> Convergence:
    """Verdict on the arm's curve; `learned` is its learning verdict: a flat curve at random level is no convergence."""
    if len(arm.seeds) == 0:
        return Convergence("undecided", None, "no finished run")
    if scale is None:
        return Convergence("undecided", None, "nothing to scale a change with: no ceiling and no arm above random")
    grid, curves = smoothed_curves(arm)
    whole_windows = curves[:, int(FINAL_SHARE * POINTS) - 1 :]
    best = np.where(np.isnan(whole_windows), -np.inf, whole_windows).max(axis=1)
    drops = (best - arm.finals) / scale.span
    if (drops >= COLLAPSE).mean() >= 0.5:
        lost = f"{(drops >= COLLAPSE).sum()} of {len(drops)} seeds lost at least {COLLAPSE:.0%} of the scale"
        return Convergence("collapsed", None, f"{lost} since their best {FINAL_SHARE:.0%} of the steps")
    if learned != "learned":
        return Convergence("undecided", None, "not shown to have learned: a flat curve would say nothing")
    if len(arm.seeds) < MIN_SEEDS:
        return Convergence("undecided", None, f"{len(arm.seeds)} seeds; {MIN_SEEDS} are the least")
    change = contrast((1.0, np.array([projected_change(seed, arm.budget) for seed in arm.seeds]))) / scale.span
    low, high = change.interval(0.90)
    if not np.isfinite(low):
        return Convergence("undecided", None, "too few episodes in the last third for a slope")
    text = (
        f"projected over another third: {change.estimate:+.1%} of the scale (90 % interval {low:+.1%} to {high:+.1%})"
    )
    if low >= -TOLERANCE and high <= TOLERANCE:
        return Convergence("converged", _settled_at(arm, scale, grid, curves), text)
    if low > 0 and change.estimate > TOLERANCE:
        return Convergence("improving", None, text)
    return Convergence("undecided", None, text)


def smoothed_curves(arm: Arm, seeds: list[Seed] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Agent steps [points] and trailing means over a tenth of the budget [seeds, points]; NaN before any episode."""
    grid = np.linspace(arm.budget / POINTS, arm.budget, POINTS)
    window = FINAL_SHARE * arm.budget
    return grid, np.array([seed.trailing_mean(grid, window) for seed in seeds or arm.seeds])


def projected_change(seed: Seed, budget: int) -> float:
    """Theil-Sen slope of the returns in the last third (thirty bins), times a third of the budget."""
    edges = np.linspace(2 / 3, 1, 31)[1:] * budget
    bins = seed.trailing_mean(edges, budget / 90)
    known = ~np.isnan(bins)
    if known.sum() < 3:
        return float("nan")
    slope = np.asarray(stats.theilslopes(bins[known], edges[known]))[0]
    return float(slope) * budget / 3


def _settled_at(arm: Arm, scale: Scale, grid: np.ndarray, curves: np.ndarray) -> int | None:
    """First agent step from which the mean curve stays within the tolerance of its end."""
    mean = curves.mean(axis=0)
    away = ~(np.abs(mean - mean[-1]) <= TOLERANCE * scale.span)
    after = int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0
    return int(grid[after]) if after < len(grid) else None
