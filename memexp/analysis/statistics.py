"""The statistics of every verdict: why these, and their error rates, is in docs/method.md. The unit is the seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
from scipy import special, stats

Interval = tuple[float, float]
NO_INTERVAL: Interval = (float("nan"), float("nan"))

# Standard error of the 25 % trimmed mean over that of the mean, Gaussian seeds: 1.04-1.09 from 4 seeds on.
IQM_TO_MEAN = 1.09

MIN_TRIMMED = 4  # From so many seeds on, the IQM leaves some out
ROUNDING = 1e-12  # Differences below this share of the values are rounding errors
EXACT_UP_TO = 13_000  # Up to so many relabellings all are tried (8 v 8 seeds have 12,870); beyond, a random sample
SAMPLED = 9_999


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of group means with its standard error and Welch-Satterthwaite degrees of freedom."""

    estimate: float
    se: float  # NaN where a group of one seed takes part
    df: float

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided Student interval; NaN where the standard error is not known."""
        if not np.isfinite(self.se):
            return NO_INTERVAL
        half = self.se * t_quantile(0.5 + level / 2, self.df) if self.se else 0.0
        return self.estimate - half, self.estimate + half

    def p_above(self, value: float = 0.0) -> float:
        """One-sided p-value of 'the contrast is not above `value`'; 1 where the standard error is not known."""
        gap = self.estimate - value
        if not np.isfinite(self.se):
            return 1.0
        if self.se == 0:
            return 0.0 if gap > 1e-9 * max(1.0, abs(value)) else 1.0
        return float(special.stdtr(self.df, -gap / self.se))

    def p_below(self, value: float = 0.0) -> float:
        """One-sided p-value of 'the contrast is not below `value`'."""
        return Contrast(-self.estimate, self.se, self.df).p_above(-value)

    def __truediv__(self, scale: float) -> "Contrast":
        return Contrast(self.estimate / scale, self.se / scale, self.df)


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t."""
    return float(special.stdtrit(df, probability))


def contrast(*terms: tuple[float, np.ndarray | float]) -> Contrast:
    """sum of weight * mean(group) over independent groups with unequal variances (Welch 1947, Biometrika 34).

    A group is the values of its seeds [n], or one number that is known exactly. Groups with equal values and weights of
    the same sign are the same runs under two names, and count as one group.
    """
    weights: dict[tuple[bool, bytes], float] = {}
    groups: dict[tuple[bool, bytes], np.ndarray | float] = {}
    for weight, group in terms:
        key = (weight > 0, np.asarray(group).tobytes())
        weights[key] = weights.get(key, 0.0) + weight
        groups[key] = group
    estimate, size, variances, degrees = 0.0, 0.0, list[float](), list[int]()
    for key, group in groups.items():
        weight = weights[key]
        estimate += weight * float(np.mean(group))
        size = max(size, abs(weight) * float(np.max(np.abs(group))))
        if isinstance(group, np.ndarray):
            variance = float(np.var(group, ddof=1)) / len(group) if len(group) > 1 else float("nan")
            variances.append(weight**2 * variance)
            degrees.append(max(len(group) - 1, 1))
    variances = np.array(variances)
    total = float(variances.sum())
    # A difference of rounding size is neither a spread nor an effect.
    if abs(estimate) <= ROUNDING * size:
        estimate = 0.0
    if total <= (ROUNDING * size) ** 2:
        return Contrast(estimate, 0.0, float(sum(degrees)) or 1.0)
    df = total**2 / float((variances**2 / np.array(degrees)).sum()) if np.isfinite(total) else 1.0
    return Contrast(estimate, total**0.5, df)


@dataclass(frozen=True, eq=False)
class Comparison:
    """mean(x) - mean(y) by an exact permutation test and by Welch's t-test. A claim needs both.

    The permutation test is exact if the groups differ only by a shift, for any distribution. Welch's test holds if
    their spreads differ. Each fails where the other holds. The interval has every shift d that not both tests exclude,
    where d is tested on (x - d, y). docs/method.md has the coverage.
    """

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


def iqm(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean without the lowest and highest quarter, rounded down (below 4 seeds, the mean)."""
    n = values.shape[axis]
    kept = np.sort(values, axis=axis).take(range(n // 4, n - n // 4), axis=axis)
    return kept.mean(axis=axis)


def iqm_interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Student's interval around the IQM, with the ordinary standard deviation. NaN for one seed.

    Bootstrap intervals cover too little with a handful of seeds (docs/method.md).
    """
    n = len(values)
    if n < 2:
        return NO_INTERVAL
    efficiency = IQM_TO_MEAN if n >= MIN_TRIMMED else 1.0
    half = efficiency * t_quantile(0.5 + level / 2, n - 1) * float(np.std(values, ddof=1)) / n**0.5
    center = float(iqm(values))
    return center - half, center + half


def iqm_difference(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> tuple[float, Interval]:
    """Difference of interquartile means and its Welch interval, widened as `iqm_interval` is."""
    estimate = float(iqm(x) - iqm(y))
    low, high = contrast((1.0, x), (-1.0, y)).interval(level)
    half = (IQM_TO_MEAN if min(len(x), len(y)) >= MIN_TRIMMED else 1.0) * (high - low) / 2
    return estimate, (estimate - half, estimate + half)


def bootstrap_band(curves: np.ndarray, level: float = 0.95, resamples: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap band of the IQM over seeds: curves [seeds, points] -> lower and upper [points].

    For figures only: with five seeds a band of 95 % covers about 90 %.
    """
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(curves), (resamples, len(curves)))
    means = iqm(curves[chosen], axis=1)
    return np.quantile(means, 0.5 - level / 2, axis=0), np.quantile(means, 0.5 + level / 2, axis=0)


def share_interval(successes: int, n: int) -> Interval:
    """Exact 95 % interval of a share (Clopper and Pearson 1934, Biometrika 26)."""
    found = stats.binomtest(successes, n).proportion_ci(0.95)
    return float(found.low), float(found.high)


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> float:
    """P(X > Y) + P(X = Y) / 2 over all pairs of seeds (Mann-Whitney U over n m)."""
    return float((x[:, None] > y).mean() + (x[:, None] == y).mean() / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down procedure (1979): family-wise error under any dependence."""
    adjusted, running = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(map(int, np.argsort(p_values))):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def fieller(gain: float, room: float, var_memory: float, var_without: float, df: float) -> Interval:
    """The ratios r at which gain - r room is within t standard errors of 0 (Fieller 1954, J. R. Stat. Soc. B 16)."""
    if not np.isfinite(var_memory + var_without):
        return NO_INTERVAL
    t2 = t_quantile(0.975, df) ** 2
    a = room**2 - t2 * var_without
    b = -2 * gain * room + 2 * t2 * var_without
    c = gain**2 - t2 * (var_memory + var_without)
    root = b**2 - 4 * a * c
    if a <= 0 or root < 0:
        return NO_INTERVAL
    return (-b - root**0.5) / (2 * a), (-b + root**0.5) / (2 * a)
