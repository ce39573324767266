"""Compares two groups of seeds by an exact permutation test and Welch's t-test. A claim needs both.

The permutation test is exact if the groups differ only by a shift, for any distribution. Welch's test holds if their
spreads differ. Each fails where the other holds. The interval has every shift d that not both tests exclude, where d is
tested on (x - d, y). docs/method.md has the coverage.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from memexp.analysis.statistics import NO_INTERVAL, ROUNDING, Contrast, Interval, contrast

EXACT_UP_TO = 13_000  # Up to so many relabellings all are tried (8 v 8 seeds have 12,870); beyond, a random sample
SAMPLED = 9_999


@dataclass(frozen=True, eq=False)
class Comparison:
    """mean(x) - mean(y), and for each relabelling of the seeds the shift from which on it is as extreme."""

    welch: Contrast
    # Ascending. Entry i: the relabelled difference of (x - d, y) reaches the observed one if and only if d >= it.
    shifts: np.ndarray

    @property
    def estimate(self) -> float:
        return self.welch.estimate

    def p_above(self, value: float = 0.0) -> float:
        """One-sided p-value of 'the difference is not above `value`': the larger of both tests'."""
        return max(self.welch.p_above(value), self.permutation_p(value))

    def p_below(self, value: float = 0.0) -> float:
        """One-sided p-value of 'the difference is not below `value`'."""
        return max(self.welch.p_below(value), self._share(self.shifts >= value - self._slack(value)))

    def permutation_p(self, value: float = 0.0) -> float:
        """One-sided permutation p-value alone."""
        return self._share(self.shifts <= value + self._slack(value))

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided interval. Below 4 v 4 seeds no permutation interval exists: Welch's alone. NaN for one seed."""
        low, high = self.welch.interval(level)
        if not np.isfinite(low):
            return NO_INTERVAL
        tail = int((0.5 - level / 2) * (len(self.shifts) + 1) + 1e-9)
        if tail < 1:
            return low, high
        return min(low, float(self.shifts[tail - 1])), max(high, float(self.shifts[-tail]))

    def __truediv__(self, scale: float) -> "Comparison":
        return Comparison(self.welch / scale, self.shifts / scale)

    def _share(self, extreme: np.ndarray) -> float:
        """p-value: the share of relabellings that are as extreme, including the observed one."""
        return (1 + float(extreme.sum())) / (1 + len(extreme))

    def _slack(self, value: float) -> float:
        """Differences of rounding size count as ties."""
        largest = float(np.abs(self.shifts).max(initial=0.0))
        return 1e3 * ROUNDING * max(largest, abs(value))


def compare(x: np.ndarray, y: np.ndarray) -> Comparison:
    """Compare the seeds x [n] with the seeds y [m]. A group of one seed has neither interval nor a p-value below 1."""
    welch = contrast((1.0, x), (-1.0, y))
    if min(len(x), len(y)) < 2:
        return Comparison(welch, np.zeros(0))
    weights, kept = _splits(len(x), len(y))
    both = np.concatenate([x, y])
    if np.ptp(both) <= ROUNDING * np.abs(both).max():
        return Comparison(welch, np.zeros(len(kept)))
    shifts = (float(np.mean(x) - np.mean(y)) - weights @ both) / (1.0 - kept)
    return Comparison(welch, np.sort(shifts))


@lru_cache(maxsize=64)
def _splits(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [splits, n + m] that give each relabelled difference of means, without the observed split.

    The second result [splits] is the share of a shift of the first n seeds that stays in the difference.
    """
    if comb(n + m, n) <= EXACT_UP_TO:
        chosen = np.array(list(combinations(range(n + m), n))[1:])
    else:
        order = np.random.default_rng(0).random((SAMPLED, n + m)).argsort(axis=1)
        chosen = order[(order[:, :n] >= n).any(axis=1), :n]
    weights = np.full((len(chosen), n + m), -1.0 / m)
    np.put_along_axis(weights, chosen, 1.0 / n, axis=1)
    return weights, weights[:, :n].sum(axis=1)
