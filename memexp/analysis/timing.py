"""How long an arm takes to solve the environment: agent steps, hours, dollars. Seeds that never do are censored."""

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import stats

from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Seed

WINDOW = 0.05  # A seed solves when its mean return over this share of the budget reaches the threshold


class MedianTime(NamedTuple):
    """A median with its 95 % interval; None where the curve does not fall to one half."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TimeToSolve:
    """Time of one run until its return reaches what counts as solved. Nothing but `censored` where nothing does."""

    censored: int
    """Seeds that never arrive."""
    median: MedianTime
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
    if scale is None or scale.solved is None or not arm.seeds:
        return TimeToSolve(len(arm.seeds), MedianTime())
    times, reached = arrival(arm, scale.solved)
    median = median_time(times, reached)
    hours = arm.hours_for(median.estimate) if median.estimate is not None else None
    return TimeToSolve(
        int((~reached).sum()),
        median,
        hours,
        arm.dollars_for(hours),
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
    """Agent steps at which the trailing mean first reaches `threshold`; None if it never does within the budget.

    Only full windows count. Short episodes end first and may be the successful ones, which would give too early a time.
    """
    # A run ends with the update that reaches the budget, a little beyond it.
    at = seed.agent_steps[: int(np.searchsorted(seed.agent_steps, budget)) + 1]
    with np.errstate(invalid="ignore"):
        there = (seed.trailing_mean(at, WINDOW * budget) >= threshold) & (at >= WINDOW * budget)
    return float(at[there][0]) if there.any() else None


def median_time(times: np.ndarray, reached: np.ndarray) -> MedianTime:
    """Kaplan-Meier median of `times` [n]. A run whose `reached` [n] is False is censored at its time.

    The interval inverts the log-log band of the curve (Brookmeyer and Crowley 1982, Biometrics 38).
    """
    if not reached.any():
        return MedianTime()
    survival = stats.ecdf(_censored(times, reached)).sf
    lower, upper = (None, None)
    if len(times) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            band = cast(Any, survival.confidence_interval(method="log-log"))  # two curves; its types say two floats
        # Where all runs have arrived the variance is not defined: the band is then as wide as it can be.
        low, high = np.nan_to_num(band.low.probabilities, nan=0.0), np.nan_to_num(band.high.probabilities, nan=1.0)
        lower, upper = _first(survival.quantiles, low <= 0.5), _first(survival.quantiles, high <= 0.5)
    return MedianTime(_first(survival.quantiles, survival.probabilities <= 0.5), lower, upper)


def survival_curve(times: np.ndarray, reached: np.ndarray) -> tuple[list[float], list[float]]:
    """Steps of the Kaplan-Meier curve: times, and the share that has not arrived from then on. Starts at (0, 1)."""
    if not len(times):
        return [], []
    survival = stats.ecdf(_censored(times, reached)).sf
    return [0.0, *map(float, survival.quantiles)], [1.0, *map(float, survival.probabilities)]


def logrank_p(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Two-sided log-rank p-value of two groups (times, reached); None where no run arrives or a group has one run."""
    if min(len(x[0]), len(y[0])) < 2 or not (x[1].any() or y[1].any()):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = float(stats.logrank(_censored(*x), _censored(*y)).pvalue)
    return p if np.isfinite(p) else None


def _censored(times: np.ndarray, reached: np.ndarray) -> stats.CensoredData:
    return stats.CensoredData(uncensored=times[reached], right=times[~reached])


def _first(times: np.ndarray, mask: np.ndarray) -> float | None:
    return float(times[mask][0]) if mask.any() else None
