"""Where a learning curve is going: families of curves compared by what they predicted of the part they did not see.

Every family is a + b shape(t), t the share of the budget, with one or two shape parameters on a grid: a and b follow by
least squares, so that a fit is exact, instant and has no starting value. Slopes that no shape explains are left alone:
where no family predicts the last third better than "it stays as it is", nothing is extrapolated.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from memexp.analysis.statistics import contrast

HORIZON = 1 / 3
"""Share of the budget that is held out, and extrapolated over: no further than what was tested."""
BETTER = 0.9
"""A family must make at most this share of the error of 'as it is now' on the held-out part."""
FIT_WEIGHT = 3
"""Weight of the misfit over the whole curve beside the held-out error: what was seen last must be fitted, too."""
LEVEL = 15
"""Bins (of sixty) whose mean is 'as it is now'."""
FIT_FROM = 0.05
"""Share of the budget that is left out of fits: averages of very few episodes."""


@dataclass(frozen=True)
class Forecast:
    family: str
    gain: float
    """Change of the return until `until`, as a share of the scale: mean over seeds."""
    ci: tuple[float, float]
    """95 % interval over seeds, widened by what the family was wrong by on the held-out third."""
    until: int
    """Agent steps."""
    error: float
    """Root mean square error on the held-out third, as a share of the scale."""
    persistence: float
    """The same of 'as it is now'."""

    @property
    def reason(self) -> str:
        return (
            f"{self.family} curves predicted the last third with an error of {self.error:.3f} of the scale, "
            f"'as it is now' with {self.persistence:.3f}"
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def forecast(at: np.ndarray, curves: np.ndarray, budget: int, span: float) -> Forecast | str:
    """Extrapolate binned curves [seeds, bins], `at` [bins] in shares of the budget, by another third of the budget.

    Returns the reason as text where nothing can be said: fewer than two seeds, gaps, or no family that predicts.
    """
    if len(curves) < 2:
        return "one seed has no spread to extrapolate with"
    known = ~np.isnan(curves).any(axis=0) & (at >= FIT_FROM)
    seen, held = known & (at <= 1 - HORIZON), known & (at > 1 - HORIZON)
    if seen.sum() < 10 or held.sum() < 5:
        return "too few episodes for a curve"
    level = curves[:, seen][:, -LEVEL:].mean(axis=1, keepdims=True)
    persistence = _rms(curves[:, held] - level)
    missed = {name: _predict(name, at[seen], curves[:, seen], at[held]) - curves[:, held] for name in FAMILIES}
    errors = {name: _rms(missed[name]) for name in FAMILIES}
    whole, times = curves[:, known], at[known]
    misfit = {name: _rms(_predict(name, times, whole, times) - whole) for name in FAMILIES}
    best = min(FAMILIES, key=lambda name: errors[name] + FIT_WEIGHT * misfit[name])
    if not errors[best] < BETTER * persistence:
        return (
            f"no extrapolation: 'as it is now' predicted the last third as well (error {persistence / span:.3f} of the "
            f"scale) as the best curve did ({best}, {errors[best] / span:.3f})"
        )
    ends = _predict(best, times, whole, np.array([1.0, 1.0 + HORIZON]))
    gain = contrast((1.0, (ends[:, 1] - ends[:, 0]) / span))
    # A curve that was wrong by so much at the end of the held-out third may be so again.
    low, high = contrast((1.0, missed[best][:, -LEVEL // 2 :].mean(axis=1) / span)).interval()
    wrong = max(abs(low), abs(high))
    ci = gain.interval()[0] - wrong, gain.interval()[1] + wrong
    until = round((1 + HORIZON) * budget)
    return Forecast(best, gain.estimate, ci, until, errors[best] / span, persistence / span)


def _exponential(t: np.ndarray, rate: float) -> np.ndarray:
    return -np.exp(-t * rate)


def _power(t: np.ndarray, exponent: float) -> np.ndarray:
    return -((t + 0.02) ** -exponent)


def _logistic(t: np.ndarray, middle: float, width: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(t - middle) / width))


def _straight(t: np.ndarray) -> np.ndarray:
    return t


FAMILIES: dict[str, tuple[Callable[..., np.ndarray], list[tuple[float, ...]]]] = {
    "exponential": (_exponential, [(rate,) for rate in np.geomspace(0.3, 30, 30)]),
    "power": (_power, [(exponent,) for exponent in np.geomspace(0.1, 3, 20)]),
    "logistic": (
        _logistic,
        [(middle, width) for middle in np.linspace(0.05, 1.2, 24) for width in np.geomspace(0.02, 0.4, 8)],
    ),
    "straight": (_straight, [()]),
}


def _predict(family: str, t: np.ndarray, curves: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Values at `later` of the family's best fit to each curve, [seeds, later].

    The shape is common to all seeds, level and height are each seed's own: at a handful of noisy seeds a shape a seed
    would fit the noise.
    """
    projections, at_later = _shapes(family, t.tobytes(), later.tobytes())
    residual = np.einsum("ktu,su->kst", projections, curves)  # [shapes, seeds, t]
    best = int(np.argmin((residual**2).sum(axis=(1, 2))))
    return curves @ at_later[best].T


@lru_cache(maxsize=128)
def _shapes(family: str, t_bytes: bytes, later_bytes: bytes) -> tuple[np.ndarray, np.ndarray]:
    """For every shape: curve [t] -> residual [t], and curve [t] -> prediction [later], as matrices."""
    t, later = np.frombuffer(t_bytes), np.frombuffer(later_bytes)
    shape, parameters = FAMILIES[family]
    residuals, predictions = [], []
    for values in parameters:
        design = np.stack([np.ones_like(t), shape(t, *values)], axis=1)
        solve = np.linalg.pinv(design)
        residuals.append(np.eye(len(t)) - design @ solve)
        predictions.append(np.stack([np.ones_like(later), shape(later, *values)], axis=1) @ solve)
    return np.array(residuals), np.array(predictions)


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt((errors**2).mean()))
