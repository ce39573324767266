"""Times to an event that some runs never reach: Kaplan-Meier curve, its median, and the log-rank test (scipy)."""

import warnings
from typing import NamedTuple

import numpy as np
from scipy import stats


class MedianTime(NamedTuple):
    """A median with its 95 % interval; None where the curve does not fall to one half."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None


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
            band = survival.confidence_interval(method="log-log")
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
