"""Extrapolates learning curves. Families of curves are fitted to two thirds of the budget and tested on the last third.

A family is a + b shape(t), where t is the share of the budget. Its shape has at most two parameters, tried on a grid.
Least squares gives a and b, so a fit needs no starting value. If no family predicts the last third better than
"the return stays as it is" (persistence), nothing is extrapolated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import numpy as np

from memexp.analysis.statistics import contrast

HORIZON = 1 / 3  # Share of the budget that is held out for the test. The forecast goes as far beyond the end.
BETTER = 0.9  # On the held-out part, a family may make at most this share of the error of persistence
FIT_WEIGHT = 3  # Weight of the misfit over the whole curve, relative to the error on the held-out part
LEVEL = 15  # Bins (of sixty) whose mean is the prediction of persistence
FIT_FROM = 0.05  # Fits leave out this first share of the budget, where few episodes have ended


@dataclass(frozen=True)
class Forecast:
    family: str
    gain: float
    """Change of the return until `until`, as a share of the scale: mean over seeds."""
    ci: tuple[float, float]
    """95 % interval over seeds, widened by the family's error at the end of the held-out third."""
    until: int
    """Agent steps."""
    error: float
    """Root mean square error on the held-out third, as a share of the scale."""
    persistence: float
    """The same error of persistence."""


class NoForecastCause(Enum):
    ONE_SEED = "one seed has no spread to extrapolate with"
    FEW_EPISODES = "too few episodes for a curve"
    NO_FAMILY_PREDICTS = (
        "no extrapolation: 'it stays as it is' predicted the last third about as well (error {persistence:.3f} of the "
        "scale) as the best curve ({family}, {error:.3f})"
    )


@dataclass(frozen=True)
class NoForecast:
    """Why nothing is extrapolated; errors as in `Forecast`, of the best family."""

    cause: NoForecastCause
    family: str = ""
    error: float = float("nan")
    persistence: float = float("nan")


def forecast(at: np.ndarray, curves: np.ndarray, budget: int, span: float) -> Forecast | NoForecast:
    """Extrapolate binned curves [seeds, bins] by another third of the budget. `at` [bins] are shares of the budget."""
    if len(curves) < 2:
        return NoForecast(NoForecastCause.ONE_SEED)
    known = ~np.isnan(curves).any(axis=0) & (at >= FIT_FROM)
    seen, held = known & (at <= 1 - HORIZON), known & (at > 1 - HORIZON)
    if seen.sum() < 10 or held.sum() < 5:
        return NoForecast(NoForecastCause.FEW_EPISODES)
    level = curves[:, seen][:, -LEVEL:].mean(axis=1, keepdims=True)
    persistence = _rms(curves[:, held] - level)
    missed = {name: _predict(name, at[seen], curves[:, seen], at[held]) - curves[:, held] for name in FAMILIES}
    errors = {name: _rms(missed[name]) for name in FAMILIES}
    whole, times = curves[:, known], at[known]
    misfit = {name: _rms(_predict(name, times, whole, times) - whole) for name in FAMILIES}
    best = min(FAMILIES, key=lambda name: errors[name] + FIT_WEIGHT * misfit[name])
    if not errors[best] < BETTER * persistence:
        return NoForecast(NoForecastCause.NO_FAMILY_PREDICTS, best, errors[best] / span, persistence / span)
    ends = _predict(best, times, whole, np.array([1.0, 1.0 + HORIZON]))
    gain = contrast((1.0, (ends[:, 1] - ends[:, 0]) / span))
    # The forecast may be as wrong as the family was at the end of the held-out third.
    low, high = contrast((1.0, missed[best][:, -LEVEL // 2 :].mean(axis=1) / span)).interval()
    wrong = max(abs(low), abs(high))
    ci = gain.interval()[0] - wrong, gain.interval()[1] + wrong
    until = round((1 + HORIZON) * budget)
    return Forecast(best, gain.estimate, ci, until, errors[best] / span, persistence / span)


Shape = Callable[[np.ndarray, Sequence[float]], np.ndarray]
FAMILIES: dict[str, tuple[Shape, list[tuple[float, ...]]]] = {
    "exponential": (lambda t, of: -np.exp(-t * of[0]), [(rate,) for rate in np.geomspace(0.3, 30, 30)]),
    "power": (lambda t, of: -((t + 0.02) ** -of[0]), [(exponent,) for exponent in np.geomspace(0.1, 3, 20)]),
    "logistic": (
        lambda t, of: 1 / (1 + np.exp(-(t - of[0]) / of[1])),
        [(middle, width) for middle in np.linspace(0.05, 1.2, 24) for width in np.geomspace(0.02, 0.4, 8)],
    ),
    "straight": (lambda t, _: t, [()]),
}


def _predict(family: str, t: np.ndarray, curves: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Values at `later` of the family's best fit to each curve [seeds, later].

    All seeds share the shape, each has its own level and height: a shape for each seed would fit the noise.
    """
    projections, at_later = _shapes(family, t.tobytes(), later.tobytes())
    residual = np.einsum("ktu,su->kst", projections, curves)  # [shapes, seeds, t]
    best = int(np.argmin((residual**2).sum(axis=(1, 2))))
    return curves @ at_later[best].T


@lru_cache(maxsize=128)
def _shapes(family: str, t_bytes: bytes, later_bytes: bytes) -> tuple[np.ndarray, np.ndarray]:
    """For every shape, the matrices from a curve [t] to its residual [t] and to its prediction [later]."""
    t, later = np.frombuffer(t_bytes), np.frombuffer(later_bytes)
    shape, parameters = FAMILIES[family]
    residuals, predictions = list[np.ndarray](), list[np.ndarray]()
    for values in parameters:
        design = np.stack([np.ones_like(t), shape(t, values)], axis=1)
        solve = np.linalg.pinv(design)
        residuals.append(np.eye(len(t)) - design @ solve)
        predictions.append(np.stack([np.ones_like(later), shape(later, values)], axis=1) @ solve)
    return np.array(residuals), np.array(predictions)


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt((errors**2).mean()))
