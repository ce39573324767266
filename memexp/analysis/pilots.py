"""Judges pilots: with which settings of knobs does an agent learn first? This screens settings, it is no verdict."""

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
    """The result of one setting."""

    setting: str
    random: float  # Highest measured return of the random policy
    finals: list[float]  # Mean return of each seed over the last tenth of the steps
    # Mean of the finals above `random`, as a share of the way to the ceiling (in return where none is known).
    gain: float
    learns_at: int | None  # Agent steps from which on every seed shows learning; None where one does not
    furthest: float  # Share of agents that reach the last milestone of the funnel; 0 without one

    @property
    def learns(self) -> bool:
        return self.learns_at is not None

    @property
    def text(self) -> str:
        finals = ", ".join(f"{value:.3g}" for value in self.finals) or "no finished run"
        said = f"return {finals} (random {self.random:.3g})"
        if self.furthest:
            said += f", last milestone {percent(self.furthest)}"
        return f"{said}: " + (
            f"shows learning from {short_count(self.learns_at)} steps" if self.learns_at else "no learning"
        )


def judge_pilots(runs: Sequence[Run], matrix: str) -> list[Pilot]:
    """The settings of a rung: first those that learn, earliest first, then by gain and by milestone.

    A setting shows learning if the return of every seed stays above two levels to the end: the random policy's highest
    measurement plus 5 % of the way to the ceiling (where one is known), and the first tenth of the seed itself.
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
    """Agent steps from which on the smoothed return stays above `level` and above its own first tenth; else None."""
    at = seed.agent_steps[: int(np.searchsorted(seed.agent_steps, budget)) + 1]
    curve = seed.trailing_mean(at, FINAL_SHARE * budget)
    at, curve = at[~np.isnan(curve)], curve[~np.isnan(curve)]
    if not len(curve):
        return None
    began = curve[at <= max(FINAL_SHARE * budget, at[0])].max()
    below = np.flatnonzero(curve <= max(level, began))
    first = int(below[-1]) + 1 if len(below) else 0
    return int(at[first]) if first < len(at) else None
