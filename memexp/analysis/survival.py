"""Times to an event that some runs never see: Kaplan-Meier's curve, its median and the log-rank test (scipy)."""

import warnings

import numpy as np
from scipy import stats


def median_time(times: np.ndarray, reached: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Kaplan-Meier median of `times` [n] with its 95 % interval; None where the curve stays above it.

    `reached` [n] is False where the run ended at that time without the event (right-censored). The interval inverts
    the log-log band of the curve (Brookmeyer and Crowley 1982, Biometrics 38).
    """
    if not reached.any():
        return None, None, None
    survival = stats.ecdf(_censored(times, reached)).sf
    lower, upper = (None, None)
    if len(times) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            band = survival.confidence_interval(method="log-log")
        # Where everyone has arrived the variance is undefined: survival may still be anything below.
        low, high = np.nan_to_num(band.low.probabilities, nan=0.0), np.nan_to_num(band.high.probabilities, nan=1.0)
        lower, upper = _first(survival.quantiles, low <= 0.5), _first(survival.quantiles, high <= 0.5)
    return _first(survival.quantiles, survival.probabilities <= 0.5), lower, upper


def survival_curve(times: np.ndarray, reached: np.ndarray) -> tuple[list[float], list[float]]:
    """Kaplan-Meier's steps: times, and the share that has not arrived from then on; begins at (0, 1)."""
    if not len(times):
        return [], []
    survival = stats.ecdf(_censored(times, reached)).sf
    return [0.0, *map(float, survival.quantiles)], [1.0, *map(float, survival.probabilities)]


def logrank_p(x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray]) -> float | None:
    """Two-sided log-rank p-value of two groups of (times, reached); None where nobody arrives or a group is empty."""
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
