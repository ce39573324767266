"""How much error a look may spend: verdicts stay valid however often, and at however many seeds, one looks.

Lan and DeMets (1983, Biometrika 70): the error allowed up to n seeds an arm is a fixed function of n, SPENDING, so that
neither the number of looks nor the final number of seeds has to be planned, nor stored. The level of each look follows
from the joint distribution of the test statistics at 4, 5, ..., n seeds, whose increments are independent.
"""

from functools import lru_cache

import numpy as np
from scipy import optimize, special

ALPHA = 0.05
"""Error of a one-sided claim over all looks together."""
SPENDING = {3: 0.0, 4: 0.0145, 5: 0.03, 9: 0.032, 10: 0.0415, 19: 0.0425, 20: 0.0445, 40: 0.0455}
"""Seeds an arm -> error spent so far, linear between. Most of it is spent at the usual designs of 5, 10 and 20 seeds;
that of 4 suffices for two arms without overlap (1/70). What is missing to ALPHA is for looks in between, where one arm
is a seed or more ahead: they are made at the level of the smaller one."""
MIN_SEEDS = 4
"""Below it no verdict: two arms of three seeds cannot get below p = 0.05 in a permutation test (1/20)."""
MAX_SEEDS = 40


@lru_cache(maxsize=1024)
def level(seeds: int, claims: int = 1) -> float:
    """One-sided significance level of the look at `seeds` seeds an arm, for one of `claims` claims; 0 below 4 seeds."""
    if seeds < MIN_SEEDS:
        return 0.0
    return _levels(claims)[min(seeds, MAX_SEEDS) - MIN_SEEDS]


@lru_cache(maxsize=64)
def _levels(claims: int) -> tuple[float, ...]:
    """Levels of the looks at MIN_SEEDS, ..., MAX_SEEDS seeds (Armitage, McPherson and Rowe 1969, by quadrature).

    `density` is that of the sum of n standard normal observations where no earlier look has rejected.
    """
    looks = np.arange(MIN_SEEDS, MAX_SEEDS + 1)
    spent = np.interp(looks, list(SPENDING), list(SPENDING.values())) / claims
    grid, density, found = np.zeros(1), np.ones(1), []
    for n, share in zip(looks, np.diff(spent, prepend=0.0), strict=True):
        step = float(n if n == MIN_SEEDS else 1) ** 0.5

        def crossed(bound: float, grid=grid, density=density, step=step, share=share) -> float:
            return float(density @ special.ndtr((grid - bound) / step)) - share

        bound = float(optimize.brentq(crossed, 0.0, 9.0 * n**0.5))  # type: ignore[arg-type]
        found.append(float(special.ndtr(-bound / n**0.5)))
        new = np.linspace(-8.0 * n**0.5, bound, 201)
        steps = np.exp(-(((new[:, None] - grid) / step) ** 2) / 2) / (step * (2 * np.pi) ** 0.5)
        weights = np.full(len(new), new[1] - new[0])
        weights[[0, -1]] /= 2
        grid, density = new, (steps @ density) * weights
    return tuple(found)
