"""How often the answer is wrong: thousands of synthetic matrices whose truth is known, judged by the real code.

    python benchmarks/calibration.py [--rounds 1000] [--seeds 4 5 10] [--only memory looks]

Prints Markdown tables, as docs/method.md has them. Rates are percentages of rounds; the standard error of a rate of 5 %
is 0.7 % at 1,000 rounds. Deterministic: every row has a stream of its own.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy.special import ndtri

from memexp.analysis.alpha_spending import MIN_SEEDS
from memexp.analysis.convergence import binned_curves, judge_convergence
from memexp.analysis.forecast import Forecast, forecast
from memexp.analysis.learning import judge_learning
from memexp.analysis.memory_verdict import judge_memory
from memexp.analysis.pairs import find_pairs, oracle_ratio
from memexp.analysis.scale import find_scale
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import compare, iqm_difference, iqm_interval
from memexp.analysis.timing import median_time

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers.synthetic_truths import (
    BUDGET,
    Draw,
    bimodal,
    curves,
    environment,
    gaussian,
    heavy_tailed,
    left_skewed,
    skewed,
)

RANDOM = gaussian(0.0, 0.01)
UPDATES = 60
MOST_SEEDS = 10
"""Of the simulated looks."""


@dataclass(frozen=True)
class Truth:
    """Final returns with and without memory, and the verdicts whose share is watched."""

    name: str
    memory: Draw
    without: Draw
    watched: tuple[str, ...]
    pairs: int = 2
    ceiling: float | None = 1.0


WRONG = ("required", "helps")
MEMORY = [
    Truth("no effect: .95, sd .05", gaussian(0.95, 0.05), gaussian(0.95, 0.05), WRONG),
    Truth("the same, no ceiling known", gaussian(0.95, 0.05), gaussian(0.95, 0.05), WRONG, ceiling=None),
    Truth("the same, no ceiling known", gaussian(0.95, 0.03), gaussian(0.95, 0.03), ("not_needed",), ceiling=None),
    Truth("no ceiling known: .95 v .5, sd .05", gaussian(0.95, 0.05), gaussian(0.5, 0.05), ("required",), ceiling=None),
    Truth("power: the same", gaussian(0.95, 0.05), gaussian(0.5, 0.05), ("helps",), ceiling=None),
    Truth("no effect: .5, sd .1", gaussian(0.5, 0.1), gaussian(0.5, 0.1), WRONG),
    Truth("no effect: half of the seeds .95, half .5", bimodal(0.5), bimodal(0.5), WRONG),
    Truth("no effect: heavy tails, .6, sd .15", heavy_tailed(0.6, 0.15), heavy_tailed(0.6, 0.15), WRONG),
    Truth("no effect: skewed, .5, sd .2", skewed(0.5, 0.2), skewed(0.5, 0.2), WRONG),
    Truth("no effect: .6, sd .02 v .2", gaussian(0.6, 0.02), gaussian(0.6, 0.2), WRONG),
    Truth("no effect: .6, sd .2 v .02", gaussian(0.6, 0.2), gaussian(0.6, 0.02), WRONG),
    Truth("nobody learned: 0, sd .02", gaussian(0.0, 0.02), gaussian(0.0, 0.02), WRONG),
    Truth("the twin just solves: 1 v .755, sd .05", gaussian(1.0, 0.05), gaussian(0.755, 0.05), ("required",), 1),
    Truth("the twin solves in 55 % of its seeds", gaussian(0.95, 0.03), bimodal(0.55), ("required",), 1),
    Truth("an effect of .1: .95 v .85, sd .05", gaussian(0.95, 0.05), gaussian(0.85, 0.05), ("not_needed",), 1),
    Truth("the same, sd .02", gaussian(0.95, 0.02), gaussian(0.85, 0.02), ("not_needed",), 1),
    Truth("the same, heavy tails", heavy_tailed(0.95, 0.05), heavy_tailed(0.85, 0.05), ("not_needed",), 1),
    Truth("the same, skewed", skewed(0.95, 0.05), skewed(0.85, 0.05), ("not_needed",), 1),
    Truth("power: .95 v .5, sd .05", gaussian(0.95, 0.05), gaussian(0.5, 0.05), ("required",)),
    Truth("power: .95 v .5, sd .1", gaussian(0.95, 0.1), gaussian(0.5, 0.1), ("required",)),
    Truth("power: .95 v .6, sd .05", gaussian(0.95, 0.05), gaussian(0.6, 0.05), ("required",)),
    Truth("power: .95 v .6, sd .1", gaussian(0.95, 0.1), gaussian(0.6, 0.1), WRONG),
    Truth("power: .7 v .4, sd .1", gaussian(0.7, 0.1), gaussian(0.4, 0.1), WRONG),
    Truth("power: four of five seeds solve v none", bimodal(0.8), gaussian(0.5, 0.03), WRONG, 1),
    Truth("power: no effect, .95, sd .02", gaussian(0.95, 0.02), gaussian(0.95, 0.02), ("not_needed",)),
    Truth("power: no effect, .95, sd .03", gaussian(0.95, 0.03), gaussian(0.95, 0.03), ("not_needed",)),
    Truth("power: no effect, .95, sd .05", gaussian(0.95, 0.05), gaussian(0.95, 0.05), ("not_needed",)),
]


def memory_verdict(world: Environment) -> str:
    """The environment's memory verdict, by the code that the report uses."""
    scale = find_scale(world)
    learned = {name: judge_learning(arm, world, scale) for name, arm in world.arms.items()}
    return judge_memory(world, scale, learned).verdict.kind


def draw_world(truth: Truth, rng: np.random.Generator, seeds: int) -> Environment:
    arms = {}
    for pair in range(truth.pairs):
        arms[f"A{pair}"], arms[f"A{pair}~"] = truth.memory(rng, seeds), truth.without(rng, seeds)
    return environment(arms, truth.ceiling, RANDOM(rng, seeds))


def memory_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    yield ["Truth (with v without memory)", "verdict", *(f"{n} seeds" for n in seeds)]
    for truth in MEMORY:
        cells = []
        for n in seeds:
            rng = stream(truth.name, n)
            counts = Counter(memory_verdict(draw_world(truth, rng, n)) for _ in range(rounds))
            cells.append(percent(sum(counts[word] for word in truth.watched), rounds))
        yield [truth.name, " / ".join(truth.watched), *cells]
    yield from rising_rows(rounds, seeds)
    yield from delayed_rows(rounds, seeds)


SHARES, DELAYS = (0.10, 0.15, 0.20, 0.30), (16, 64)
MEMORIES = {"S32": 32, "S128": 128, "X32": 32, "X96": 96}
"""Architectures of the worlds with a delayed part -> credit horizon, agent steps (one layer)."""


def delayed_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    """Worlds in which a share of the way is a cue that is asked for after a delay; memory alone earns it.

    An arm whose credit horizon is shorter than the delay never learns the share. With a longer one, a seed learns it
    with the probability `found`: 0 stands for too few steps. Verdicts of 'not needed' are wrong.
    """
    for share, delay, found in product(SHARES, DELAYS, (0.0, 0.5)):
        cells = []
        name = (
            f"{share:.0%} of the way is asked for {delay} steps later, {found:.0%} of the seeds that could learn it do"
        )
        for n in seeds:
            rng, seen = stream(name, n), 0
            for _ in range(rounds):
                arms = {}
                for arm, horizon in MEMORIES.items():
                    learned = (rng.random(n) < found) & (horizon >= delay)
                    arms[arm] = 1 - share * ~learned + rng.normal(0, 0.02, n)
                    arms[f"{arm}~"] = 1 - share + rng.normal(0, 0.02, n)
                seen += memory_verdict(environment(arms, 1.0, RANDOM(rng, n))) == "not_needed"
            cells.append(percent(seen, rounds))
        yield [name, "not_needed", *cells]


def solving(t: np.ndarray) -> np.ndarray:
    """A curve over the share of the budget that is at .95 after half of it."""
    return 0.95 / (1 + np.exp(-(t - 0.25) / 0.05))


Shape = Callable[[np.ndarray], np.ndarray]


def straight(end: float, third: float) -> Shape:
    """A straight curve to `end` that gains `third` in every third of the budget, from no less than 0."""
    return lambda t: np.maximum(end - 3 * third * (1 - t), 0)


COLLAPSE = "the twin solves, then six of ten seeds collapse"
RISING: list[tuple[str, Shape, Shape, tuple[str, ...]]] = [
    (COLLAPSE, solving, solving, WRONG),
    ("the twin ends at .62, rising by .2 a third", solving, straight(0.65, 0.2), ("required",)),
    (
        "a lead of .03 that grows by .15 a third (true of these steps, not of more)",
        straight(0.9, 0.15),
        straight(0.85, 0.0),
        ("not_needed",),
    ),
    ("power: solved v .5 that still rises, .05 a third", solving, straight(0.5, 0.05), ("required",)),
    ("power: both solve at the same pace", solving, solving, ("not_needed",)),
]


def rising_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    """Whole curves, sd .03 between seeds and autocorrelated noise of .03: one pair."""
    share = (np.arange(UPDATES) + 1) / UPDATES
    for name, with_memory, without, watched in RISING:
        cells = []
        for n in seeds:
            rng, seen = stream(name, n), 0
            for _ in range(rounds):
                kept, twin = (curves(rng, shape(share), n, 0.03, 0.03) for shape in (with_memory, without))
                if name == COLLAPSE:
                    twin[rng.random(n) < 0.6, 40:] -= 0.6
                seen += memory_verdict(environment({"A": kept, "A~": twin}, 1.0, RANDOM(rng, n))) in watched
            cells.append(percent(seen, rounds))
        yield [name, " / ".join(watched), *cells]


LEARNING: list[tuple[str, Draw, str]] = [
    ("at random level, sd .08", gaussian(0.0, 0.08), "learned"),
    ("at random level, heavy tails, sd .1", heavy_tailed(0.0, 0.1), "learned"),
    ("at random level, skewed, sd .1", skewed(0.0, 0.1), "learned"),
    ("at random level, skewed to the left, sd .1", left_skewed(0.0, 0.1), "learned"),
    ("a gain of .05, sd .03", gaussian(0.05, 0.03), "not_learned"),
    ("a gain of .05, heavy tails, sd .03", heavy_tailed(0.05, 0.03), "not_learned"),
    ("power: a gain of .1, sd .05", gaussian(0.1, 0.05), "learned"),
    ("power: a gain of .3, sd .15", gaussian(0.3, 0.15), "learned"),
    ("power: a gain of .3, sd .1", gaussian(0.3, 0.1), "learned"),
    ("power: half of the seeds .95, half 0", bimodal(0.5, low=0.0), "learned"),
    ("power: at random level, sd .02", gaussian(0.0, 0.02), "not_learned"),
]


def learning_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    yield ["Truth (gain over random)", "verdict", *(f"{n} seeds" for n in seeds)]
    for name, draw, watched in LEARNING:
        cells = []
        for n in seeds:
            rng, seen = stream(name, n), 0
            for _ in range(rounds):
                world = environment({"A": draw(rng, n)}, 1.0, RANDOM(rng, n))
                seen += judge_learning(world.arms["A"], world, find_scale(world)).verdict == watched
            cells.append(percent(seen, rounds))
        yield [name, watched, *cells]


INTERVALS: list[tuple[str, Draw, Draw]] = [
    ("Gaussian", gaussian(0, 1), gaussian(0, 1)),
    ("Gaussian, sd 1 : 3", gaussian(0, 1), gaussian(0, 3)),
    ("Gaussian, sd 1 : 10", gaussian(0, 1), gaussian(0, 10)),
    ("heavy tails", heavy_tailed(0, 1), heavy_tailed(0, 1)),
    ("skewed", skewed(0, 1), skewed(0, 1)),
    ("skewed v Gaussian, sd 1 : .3", skewed(0, 1), gaussian(0, 0.3)),
    ("seeds solve, half v half", bimodal(0.5), bimodal(0.5)),
    ("seeds solve, .8 v .4", bimodal(0.8), bimodal(0.4)),
    ("seeds solve, .9 v .1", bimodal(0.9), bimodal(0.1)),
]


def interval_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    kinds = ("effect", "Welch alone", "permutation alone", "percentile bootstrap", "IQM difference", "IQM of one arm")
    yield ["Seeds", "n", *kinds]
    for name, first, second in INTERVALS:
        large = np.random.default_rng(0)
        means = first(large, 10**6).mean(), second(large, 10**6).mean()
        trimmed = [float(np.sort(draw(large, 10**6))[250_000:750_000].mean()) for draw in (first, second)]
        for n in (3, *seeds):
            rng, hits = stream(name, n), np.zeros(len(kinds))
            for _ in range(rounds):
                x, y = first(rng, n), second(rng, n)
                hits += _covered(x, y, means[0] - means[1], trimmed, rng)
            yield [name, str(n), *(percent(hit, rounds) if np.isfinite(hit) else "–" for hit in hits)]


def _covered(x: np.ndarray, y: np.ndarray, truth: float, iqms: list[float], rng: np.random.Generator) -> np.ndarray:
    """Which 95 % intervals hold the truth; NaN for one that does not exist."""
    both = compare(x, y)
    tail = int(0.025 * (len(both.shifts) + 1) + 1e-9)
    alone = (both.shifts[tail - 1], both.shifts[-tail]) if tail else (np.nan, np.nan)
    n = len(x)
    resampled = x[rng.integers(0, n, (300, n))].mean(axis=1) - y[rng.integers(0, n, (300, n))].mean(axis=1)
    intervals = [
        (both.interval(), truth),
        (both.welch.interval(), truth),
        (alone, truth),
        (np.quantile(resampled, (0.025, 0.975)), truth),
        (iqm_difference(x, y)[1], iqms[0] - iqms[1]),
        (iqm_interval(x), iqms[0]),
    ]
    return np.array([float("nan") if np.isnan(i[0]) else float(i[0] <= value <= i[1]) for i, value in intervals])


def time_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    yield ["Interval", *(f"{n} seeds" for n in seeds)]
    for name, spread, share in (("few censored", 0.4, 0.9), ("a third censored", 0.6, 0.67)):
        cells = []
        for n in seeds:
            rng, hits = stream(name, n), 0
            limit = float(np.exp(spread * _normal_quantile(share)))
            for _ in range(rounds):
                times = rng.lognormal(0.0, spread, n)
                _, low, high = median_time(np.minimum(times, limit), times <= limit)
                hits += (low is None or low <= 1.0) and (high is None or high >= 1.0)
            cells.append(percent(hits, rounds))
        yield [f"Kaplan–Meier median, {name}", *cells]
    cells = []
    for n in seeds:
        rng, hits = stream("oracle", n), 0
        for _ in range(rounds):
            world = environment({"A": gaussian(0.7, 0.08)(rng, n), "A~": gaussian(0.3, 0.08)(rng, n)})
            hits += _ratio_covers(world, 1.0, 0.4 / 0.7)
        cells.append(percent(hits, rounds))
    yield ["oracle ratio (Fieller)", *cells]


def _ratio_covers(world: Environment, oracle: float, truth: float) -> bool:
    learned = {name: judge_learning(arm, world, None) for name, arm in world.arms.items()}
    pairs, _ = find_pairs(world, None, learned)
    found = oracle_ratio(list(pairs.values()), oracle)
    return found is not None and found.ci[0] <= truth <= found.ci[1]


def _normal_quantile(share: float) -> float:
    return float(ndtri(share))


CURVES: list[tuple[str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("flat at .9", lambda t: 0.9 * np.minimum(1, 5 * t), "improving"),
    ("flat at .9", lambda t: 0.9 * np.minimum(1, 5 * t), "converged"),
    ("rising by .05 a third", lambda t: 0.5 + 0.15 * t, "converged"),
    ("falling by .05 a third", lambda t: 0.9 - 0.15 * t, "converged"),
    ("rising by .15 a third", lambda t: 0.2 + 0.45 * t, "improving"),
    ("flat at .9", lambda t: 0.9 * np.minimum(1, 5 * t), "collapsed"),
]


def curve_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    yield ["Curve (sd .05 between seeds, autocorrelated noise of .02)", "verdict", *(f"{n} seeds" for n in seeds)]
    share = (np.arange(UPDATES) + 1) / UPDATES
    for name, trend, watched in CURVES:
        cells = []
        for n in seeds:
            rng, seen = stream(name, n), 0
            for _ in range(rounds):
                arm = _arm(curves(rng, trend(share), n, 0.05, 0.02))
                seen += judge_convergence(arm, find_scale(_world(arm)), learned=True).verdict == watched
            cells.append(percent(seen, rounds))
        yield [name, watched, *cells]
    yield from forecast_rows(rounds, seeds)


def forecast_rows(rounds: int, seeds: list[int]) -> Iterator[list[str]]:
    """How often a gain is extrapolated at all, and how often its interval then holds the true one."""
    share, later = (np.arange(UPDATES) + 1) / UPDATES, np.array([1.0, 4 / 3])
    shapes: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        ("saturating curve", lambda t: 0.9 * (1 - np.exp(-2 * t))),
        ("power law", lambda t: 1.2 - 0.5 * (t + 0.05) ** -0.3),
        ("jump in the middle", lambda t: 0.9 / (1 + np.exp(-(t - 0.55) / 0.08))),
        ("flat", lambda t: 0.9 + 0 * t),
    ]
    for name, trend in shapes:
        offered, covered = [], []
        for n in seeds:
            rng, said, held = stream("forecast " + name, n), 0, 0
            truth = float(np.diff(trend(later))[0])
            for _ in range(rounds):
                arm = _arm(curves(rng, trend(share), n, 0.05, 0.03))
                found = forecast(*binned_curves(arm), BUDGET, 1.0)
                if isinstance(found, Forecast):
                    said += 1
                    held += found.ci[0] <= truth <= found.ci[1]
            offered.append(percent(said, rounds))
            covered.append(percent(held, said) if said else "–")
        yield [f"forecast, {name}", "extrapolated", *offered]
        yield [f"forecast, {name}", "interval holds the truth", *covered]


def _arm(table: np.ndarray) -> Arm:
    return environment({"A": table}).arms["A"]


def _world(arm: Arm) -> Environment:
    return Environment("world", BUDGET, np.zeros(1), 1.0, {"A": arm}, [])


def look_rows(rounds: int, _: list[int]) -> Iterator[list[str]]:
    """One pair; a look after every seed that finishes, in any order, from 4 v 4 on; a claim once made counts."""
    cases = [
        ("no effect: .6, sd .1", gaussian(0.6, 0.1), gaussian(0.6, 0.1), WRONG),
        ("no effect: half of the seeds .95, half .5", bimodal(0.5), bimodal(0.5), WRONG),
        ("no effect: heavy tails, .6, sd .15", heavy_tailed(0.6, 0.15), heavy_tailed(0.6, 0.15), WRONG),
        ("no effect: .6, sd .02 v .2", gaussian(0.6, 0.02), gaussian(0.6, 0.2), WRONG),
        ("the twin just solves: 1 v .755, sd .05", gaussian(1.0, 0.05), gaussian(0.755, 0.05), ("required",)),
        ("the twin solves in 55 % of its seeds", gaussian(0.95, 0.03), bimodal(0.55), ("required",)),
        ("an effect of .1: .95 v .85, sd .05", gaussian(0.95, 0.05), gaussian(0.85, 0.05), ("not_needed",)),
        ("power: .95 v .5, sd .1", gaussian(0.95, 0.1), gaussian(0.5, 0.1), ("required",)),
        ("power: no effect, .95, sd .05", gaussian(0.95, 0.05), gaussian(0.95, 0.05), ("not_needed",)),
    ]
    yield ["Truth", "verdict", "by 4 seeds", "by 5", f"by {MOST_SEEDS}", "mean seeds an arm until it"]
    for name, with_memory, without, watched in cases:
        rng, stops = stream("looks " + name, MOST_SEEDS), []
        for _round in range(rounds):
            stops.append(_first_claim(rng, with_memory(rng, MOST_SEEDS), without(rng, MOST_SEEDS), watched))
        stopped = np.array(stops)
        claimed = stopped[stopped <= MOST_SEEDS]
        cells = [percent((stopped <= n).sum(), rounds) for n in (4, 5, MOST_SEEDS)]
        yield [name, " / ".join(watched), *cells, f"{claimed.mean():.1f}" if len(claimed) else "–"]


def _first_claim(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, watched: tuple[str, ...]) -> float:
    """Seeds an arm at the first look with a watched verdict; infinite where there is none up to all seeds."""
    order = rng.permutation(np.repeat([0, 1], len(x)))
    have = np.stack([(order == side).cumsum() for side in (0, 1)], axis=1)
    world = environment({"A": x, "A~": y}, 1.0, RANDOM(rng, len(x)))
    for n, m in have[have.min(axis=1) >= MIN_SEEDS]:
        arms = {
            name: replace(arm, seeds=arm.seeds[:k]) for (name, arm), k in zip(world.arms.items(), (n, m), strict=True)
        }
        if memory_verdict(replace(world, arms=arms, random_returns=world.random_returns[: max(n, m)])) in watched:
            return (n + m) / 2
    return float("inf")


TABLES = {
    "memory": memory_rows,
    "learning": learning_rows,
    "intervals": interval_rows,
    "time": time_rows,
    "curves": curve_rows,
    "looks": look_rows,
}


def stream(name: str, n: int) -> np.random.Generator:
    return np.random.default_rng([crc32(name.encode()), n])


def percent(count: float, rounds: int) -> str:
    return f"{100 * count / rounds:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[4, 5, 10])
    parser.add_argument("--only", nargs="*", choices=TABLES, default=list(TABLES))
    options = parser.parse_args()
    for name in options.only:
        started = time.monotonic()
        for i, row in enumerate(TABLES[name](options.rounds, options.seeds)):
            print(f"| {' | '.join(row)} |", flush=True)
            if i == 0:
                print("|" + "---|" * len(row))
        print(f"\n{name}: {options.rounds} rounds, {time.monotonic() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
