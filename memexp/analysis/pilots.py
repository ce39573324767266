"""Which setting of knobs first shows learning: pilots of a rung, the best first. A screen, not a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memexp.analysis.learning import SMALLEST_GAIN
from memexp.analysis.load import load
from memexp.analysis.seeds import FINAL_SHARE, Environment, Seed
from memexp.formatting import percent, short_count
from memexp.runs import Run


@dataclass(frozen=True)
class Pilot:
    """How one setting did."""

    setting: str
    random: float
    """The highest return that the random policy was measured at."""
    finals: list[float]
    """Mean return over the last tenth of the steps, one a seed."""
    gain: float
    """Their mean above the random policy's, as a share of the way to the ceiling (where none is known, in return)."""
    learns_at: int | None
    """Agent steps from which on every seed is above what counts as learning; None where that is not so."""
    furthest: float
    """Share of agents that reach the last milestone of the funnel; 0 without one."""

    @property
    def learns(self) -> bool:
        return self.learns_at is not None

    @property
    def words(self) -> str:
        finals = ", ".join(f"{value:.3g}" for value in self.finals) or "no finished run"
        text = f"return {finals} (random {self.random:.3g})"
        if self.furthest:
            text += f", last milestone {percent(self.furthest)}"
        return f"{text}: " + (
            f"shows learning from {short_count(self.learns_at)} steps" if self.learns_at else "no learning"
        )


def judge_pilots(runs: Sequence[Run], matrix: str) -> list[Pilot]:
    """The settings of a rung, those that learn first (the earliest before the others), then by gain and milestone.

    A setting shows learning when the return of every seed, over the last tenth of the steps, is above the random
    policy's highest measurement by at least 5 % of the way to the ceiling (where one is known), and above the seed's
    own first tenth.
    """
    environments, _ = load(runs, matrix)
    pilots = [_pilot(environment) for environment in environments.values()]
    return sorted(pilots, key=lambda p: (not p.learns, p.learns_at or 0, -p.gain, -p.furthest, p.setting))


def _pilot(environment: Environment) -> Pilot:
    (arm,) = environment.arms.values()
    random = float(environment.random_returns.max()) if len(environment.random_returns) else 0.0
    span = environment.ceiling - random if environment.ceiling is not None and environment.ceiling > random else None
    level = random + SMALLEST_GAIN * (span or 0.0)
    starts = [_learns_at(seed, level, environment.budget) for seed in arm.seeds]
    finals = [float(value) for value in arm.finals]
    gain = (float(np.mean(finals)) - random) / (span or 1.0) if finals else -np.inf
    learns = bool(starts) and not arm.partial and all(start is not None for start in starts)
    funnel = list(arm.funnel.values())
    return Pilot(
        setting=environment.name,
        random=random,
        finals=finals,
        gain=gain,
        learns_at=max(start for start in starts if start is not None) if learns else None,
        furthest=funnel[-1] if funnel else 0.0,
    )


def _learns_at(seed: Seed, level: float, budget: int) -> int | None:
    """Agent steps from which on the smoothed return stays above `level` and above where the seed began; else None."""
    at = seed.agent_steps[: int(np.searchsorted(seed.agent_steps, budget)) + 1]
    curve = seed.trailing_mean(at, FINAL_SHARE * budget)
    at, curve = at[~np.isnan(curve)], curve[~np.isnan(curve)]
    if not len(curve):
        return None
    began = curve[at <= max(FINAL_SHARE * budget, at[0])].max()
    below = np.flatnonzero(curve <= max(level, began))
    first = int(below[-1]) + 1 if len(below) else 0
    return int(at[first]) if first < len(at) else None
