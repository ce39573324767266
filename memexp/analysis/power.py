"""How many seeds would decide: simulates the tests of the verdict with the observed spread."""

import numpy as np
from scipy import special

from memexp.analysis.alpha_spending import level
from memexp.analysis.pairs import SMALLEST_EFFECT

POWER = 0.8
DESIGNS = (5, 10, 20)
"""Proposed numbers of seeds an arm: most of the error is spent there."""
ROUNDS = 1000


def seeds_needed(x: np.ndarray, y: np.ndarray, span: float, claims: int) -> int | None:
    """The first of DESIGNS, above the seeds at hand, that decides the pair in 80 % of the simulations.

    x [n] and y [m] are the observed returns, `claims` the pairs that share the error. None where 20 do not suffice.
    """
    have = min(len(x), len(y))
    return next((n for n in DESIGNS if n > have and decided(x / span, y / span, n, claims) >= POWER), None)


def decided(x: np.ndarray, y: np.ndarray, n: int, claims: int) -> float:
    """Share of simulated pairs of `n` seeds whose effect is significant, or surely below the smallest that matters.

    Simulated seeds are drawn from the observed ones, whose deviations are widened to the unbiased spread.
    """
    rng = np.random.default_rng(0)
    gain, error, df = _welch(_redraw(rng, x, n), _redraw(rng, y, n))
    negligible = special.stdtr(df, (gain - SMALLEST_EFFECT) / error) <= level(n)
    significant = special.stdtr(df, -gain / error) <= level(n, claims)
    return float((negligible | significant).mean())


def _redraw(rng: np.random.Generator, values: np.ndarray, n: int) -> np.ndarray:
    k = len(values)
    deviations = (values - values.mean()) * (k / (k - 1)) ** 0.5
    return values.mean() + deviations[rng.integers(0, k, (ROUNDS, n))]


def _welch(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences of means [rounds], their standard errors and degrees of freedom; x and y [rounds, n]."""
    n = x.shape[1]
    # A draw of equal seeds has no spread: a tiny variance keeps the quotient finite.
    parts = np.maximum([x.var(axis=1, ddof=1) / n, y.var(axis=1, ddof=1) / n], 1e-18)
    total = parts.sum(axis=0)
    return x.mean(axis=1) - y.mean(axis=1), total**0.5, (n - 1) * total**2 / (parts**2).sum(axis=0)
