"""The significance level of each interim analysis: verdicts stay valid after any number of analyses and seeds.

Alpha spending (Lan and DeMets 1983, Biometrika 70): the error spent up to n seeds an arm is a fixed function of n,
SPENDING. So neither the number of analyses nor the final number of seeds has to be planned. The level at n seeds
follows from the joint distribution of the test statistics at 4, 5, ..., n seeds, whose increments are independent.
"""

from functools import lru_cache

import numpy as np
from scipy import optimize, special

ALPHA = 0.05  # Error of a one-sided claim over all interim analyses together
# Seeds an arm -> error spent so far, linear in between. Most is spent at the usual designs of 5, 10 and 20 seeds.
# That of 4 seeds suffices for two arms without overlap (1/70). The rest of ALPHA covers analyses in which one arm
# has more seeds than the other: they use the level of the smaller number.
SPENDING = {3: 0.0, 4: 0.0145, 5: 0.03, 9: 0.032, 10: 0.0415, 19: 0.0425, 20: 0.0445, 40: 0.0455}
MIN_SEEDS = 4  # The minimum for a verdict: two arms of three seeds reach no p < 0.05 in a permutation test (1/20)
MAX_SEEDS = 40


@lru_cache(maxsize=1024)
def level(seeds: int, claims: int = 1) -> float:
    """One-sided significance level at `seeds` seeds an arm, for one of `claims` claims; 0 below 4 seeds."""
    if seeds < MIN_SEEDS:
        return 0.0
    return _levels(claims)[min(seeds, MAX_SEEDS) - MIN_SEEDS]


@lru_cache(maxsize=64)
def _levels(claims: int) -> tuple[float, ...]:
    """Levels at MIN_SEEDS, ..., MAX_SEEDS seeds, by quadrature (Armitage, McPherson and Rowe 1969).

    `density` is the density of the sum of n standard normal observations, as far as no earlier analysis has rejected.
    """
    counts = np.arange(MIN_SEEDS, MAX_SEEDS + 1)
    spent = np.interp(counts, list(SPENDING), list(SPENDING.values())) / claims
    grid, density, found = np.zeros(1), np.ones(1), list[float]()
    for n, share in zip(counts, np.diff(spent, prepend=0.0), strict=True):
        step = float(n if n == MIN_SEEDS else 1) ** 0.5
        bound = optimize.brentq(_crossed, 0.0, 9.0 * n**0.5, args=(grid, density, step, share))
        found.append(float(special.ndtr(-bound / n**0.5)))
        new = np.linspace(-8.0 * n**0.5, bound, 201)
        steps = np.exp(-(((new[:, None] - grid) / step) ** 2) / 2) / (step * (2 * np.pi) ** 0.5)
        weights = np.full(len(new), new[1] - new[0])
        weights[[0, -1]] /= 2
        grid, density = new, (steps @ density) * weights
    return tuple(found)


def _crossed(bound: float, grid: np.ndarray, density: np.ndarray, step: float, share: float) -> float:
    """The probability of crossing `bound` in the next step, less `share`."""
    return float(density @ special.ndtr((grid - bound) / step)) - share
