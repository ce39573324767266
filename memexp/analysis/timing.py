"""How long does an arm take to solve the environment: agent steps, hours, dollars. Runs that never do are censored."""

from typing import Any

import numpy as np

from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Seed
from memexp.analysis.survival import logrank_p, median_time, survival_curve

WINDOW = 0.05
"""Share of the budget that the curve is smoothed over before it is held against the threshold."""


def time_to_solve(arm: Arm, scale: Scale | None, twin: Arm | None = None) -> dict[str, Any]:
    """{"agent_steps": {median, ci, censored}, "hours", "dollars", ...} of one run until its return reaches 75 %.

    The median over seeds is Kaplan-Meier's; None where fewer than half of the seeds arrived, and for dollars where
    no price is known. Hours are the median's steps at the arm's measured steps per second. `p_twin` is the log-rank
    test against the twin; `curve` the share of seeds that have not arrived.
    """
    nothing = {"agent_steps": {"median": None, "ci": [None, None], "censored": len(arm.seeds)}}
    if scale is None or not arm.seeds:
        return {**nothing, "hours": None, "dollars": None, "threshold": None, "curve": None, "p_twin": None}
    times, reached = arrival(arm, scale.solved)
    median, low, high = median_time(times, reached)
    hours = hours_for(arm, median) if median is not None else None
    steps, unsolved = survival_curve(times, reached)
    return {
        "agent_steps": {"median": median, "ci": [low, high], "censored": int((~reached).sum())},
        "hours": hours,
        "dollars": dollars_for(arm, hours) if hours is not None else None,
        "threshold": scale.solved,
        "curve": {"agent_steps": steps, "unsolved": unsolved},
        "p_twin": logrank_p((times, reached), arrival(twin, scale.solved)) if twin and twin.seeds else None,
    }


def arrival(arm: Arm, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Agent steps [seeds] at which each seed first reaches `threshold`, or the budget; whether it does [seeds]."""
    first = [first_reached(seed, threshold, arm.budget) for seed in arm.seeds]
    times = np.array([arm.budget if steps is None else steps for steps in first], dtype=float)
    return times, np.array([steps is not None for steps in first], dtype=bool)


def first_reached(seed: Seed, threshold: float, budget: int) -> float | None:
    """Agent steps at which the trailing mean first reaches `threshold`; None where it never does within the budget.

    The first window must be full: the very first episodes that end are the short ones, which may be those that succeed.
    """
    # The run ends after the update that reaches the budget, a little beyond it.
    at = seed.agent_steps[: int(np.searchsorted(seed.agent_steps, budget)) + 1]
    with np.errstate(invalid="ignore"):
        there = (seed.trailing_mean(at, WINDOW * budget) >= threshold) & (at >= WINDOW * budget)
    return float(at[there][0]) if there.any() else None


def hours_for(arm: Arm, agent_steps: float) -> float | None:
    """Hours of wall-clock of one run for `agent_steps`, at the median rate of the arm's runs."""
    rates = [seed.rate for seed in (arm.seeds or arm.partial) if seed.rate]
    return agent_steps / float(np.median(rates)) / 3600 if rates else None


def dollars_for(arm: Arm, hours: float) -> float | None:
    """Dollars of one run of `hours`, at the median price of the arm's machines."""
    prices = [seed.info.price_per_hour for seed in (arm.seeds or arm.partial) if seed.info.price_per_hour is not None]
    return hours * float(np.median(prices)) if prices else None
