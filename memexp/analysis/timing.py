"""How long an arm takes to solve the environment: agent steps, hours, dollars. Seeds that never do are censored."""

from dataclasses import dataclass

import numpy as np

from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Seed
from memexp.analysis.survival import MedianTime, logrank_p, median_time, survival_curve

WINDOW = 0.05
"""A seed solves when its mean return over this share of the budget reaches the threshold."""
NEVER = MedianTime()


@dataclass(frozen=True)
class TimeToSolve:
    """Time of one run until its return reaches 75 % of the way."""

    censored: int
    """Seeds that never arrive."""
    median: MedianTime = NEVER
    """Agent steps, Kaplan and Meier; None where fewer than half of the seeds arrive."""
    hours: float | None = None
    """At the arm's measured rate."""
    dollars: float | None = None
    """None where no price is known."""
    threshold: float | None = None
    """Return that counts as solved."""
    curve: tuple[list[float], list[float]] | None = None
    """Agent steps, and the share of seeds that has not arrived from then on."""
    p_twin: float | None = None
    """Log-rank test against the twin."""


def time_to_solve(arm: Arm, scale: Scale | None, twin: Arm | None = None) -> TimeToSolve:
    if scale is None or not arm.seeds:
        return TimeToSolve(len(arm.seeds))
    times, reached = arrival(arm, scale.solved)
    median = median_time(times, reached)
    hours = arm.hours_for(median.estimate) if median.estimate is not None else None
    return TimeToSolve(
        int((~reached).sum()),
        median,
        hours,
        arm.dollars_for(hours) if hours is not None else None,
        scale.solved,
        survival_curve(times, reached),
        logrank_p((times, reached), arrival(twin, scale.solved)) if twin and twin.seeds else None,
    )


def arrival(arm: Arm, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Agent steps at which each seed first reaches `threshold`, else the budget [seeds]; whether it does [seeds]."""
    first = [first_reached(seed, threshold, arm.budget) for seed in arm.seeds]
    times = np.array([arm.budget if steps is None else steps for steps in first], dtype=float)
    return times, np.array([steps is not None for steps in first], dtype=bool)


def first_reached(seed: Seed, threshold: float, budget: int) -> float | None:
    """Agent steps at which the trailing mean first reaches `threshold`; None where it never does within the budget.

    Only full windows count: the first episodes that end are the short ones, and those may be the successful ones.
    """
    # A run ends with the update that reaches the budget, a little beyond it.
    at = seed.agent_steps[: int(np.searchsorted(seed.agent_steps, budget)) + 1]
    with np.errstate(invalid="ignore"):
        there = (seed.trailing_mean(at, WINDOW * budget) >= threshold) & (at >= WINDOW * budget)
    return float(at[there][0]) if there.any() else None
