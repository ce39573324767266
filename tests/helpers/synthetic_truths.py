"""Synthetic environments whose truth is known: what the answer's error rates are measured on.

A `Draw` gives the final returns of seeds, on a scale from 0 (random policy) to 1 (ceiling).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from memexp.analysis.seeds import Arm, Environment, Seed
from memexp.runs import RunInfo

BUDGET = 100_000
UPDATES = 10
Draw = Callable[[np.random.Generator, int], np.ndarray]
"""(generator, seeds) -> final returns [seeds]."""


def gaussian(mean: float, sd: float) -> Draw:
    return lambda rng, n: rng.normal(mean, sd, n)


def skewed(mean: float, sd: float) -> Draw:
    """Few seeds far above the others: gamma of shape 2."""
    return lambda rng, n: mean + sd * (rng.gamma(2.0, 1.0, n) - 2.0) / 2.0**0.5


def left_skewed(mean: float, sd: float) -> Draw:
    """Few seeds far below the others."""
    return lambda rng, n: mean - sd * (rng.gamma(2.0, 1.0, n) - 2.0) / 2.0**0.5


def heavy_tailed(mean: float, sd: float) -> Draw:
    """Student's t with 3 degrees of freedom."""
    return lambda rng, n: mean + sd * rng.standard_t(3.0, n) / 3.0**0.5


def bimodal(rate: float, high: float = 0.95, low: float = 0.5, sd: float = 0.03) -> Draw:
    """A share `rate` of the seeds solves it, the others stop at `low`."""
    return lambda rng, n: np.where(rng.random(n) < rate, high, low) + rng.normal(0.0, sd, n)


def curves(
    rng: np.random.Generator, trend: np.ndarray, seeds: int, between: float, within: float, rho: float = 0.8
) -> np.ndarray:
    """Returns [seeds, updates]: the common `trend` [updates], a level a seed (sd `between`) and autocorrelated noise
    (sd `within`, AR(1) with `rho`)."""
    noise = rng.normal(0.0, within, (seeds, len(trend)))
    for t in range(1, len(trend)):
        noise[:, t] = rho * noise[:, t - 1] + (1 - rho**2) ** 0.5 * noise[:, t]
    return trend + rng.normal(0.0, between, (seeds, 1)) + noise


def environment(arms: dict[str, Any], ceiling: float | None = 1.0, random: Any = (0.0,), **info: Any) -> Environment:
    """An environment in memory, without files. `arms`: name -> final returns [seeds] (flat curves, so that the final
    window's mean is exactly that), or whole curves [seeds, updates]. '~' at a name's end marks the twin."""

    def arm(name: str, values: Any) -> Arm:
        table = np.asarray(values, dtype=float)
        table = np.repeat(table[:, None], UPDATES, axis=1) if table.ndim == 1 else table
        seeds = [_seed(name, number, returns, info) for number, returns in enumerate(table)]
        return Arm(name, seeds[0].info, BUDGET, seeds)

    built = {name: arm(name, values) for name, values in arms.items()}
    return Environment("world", BUDGET, np.asarray(random, dtype=float), ceiling, built, [])


def _seed(arm: str, number: int, returns: np.ndarray, info: dict[str, Any]) -> Seed:
    known = {"pattern": "S", "mem_len": 16, "memory": "off" if arm.endswith("~") else "on"}
    known = {**known, "total_timesteps": BUDGET, **info}
    config = known.pop("config", {})
    steps = np.linspace(0, BUDGET, len(returns) + 1)[1:]
    one = np.ones(len(returns))
    return Seed(
        run=f"{arm}.s{number}",
        info=RunInfo(run=f"{arm}.s{number}", env="world", arm=arm, seed=number, **known),
        status="completed",
        reason="",
        precision="float32",
        provenance={},
        agent_steps=steps,
        returns=returns,
        counts=10 * one,
        evals=np.nan * one,
        gaps=1e-6 * one,
        wall_s=steps / 1000,
        config=config,
    )
