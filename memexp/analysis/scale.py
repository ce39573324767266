"""The scale of returns: 0 is the random policy, 1 the ceiling or the best arm."""

from dataclasses import dataclass

import numpy as np

from memexp.analysis.alpha_spending import ALPHA
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import contrast, iqm

SOLVED = 0.75  # An arm solves the environment from this share of the way from the random policy to the top


@dataclass(frozen=True, eq=False)
class Scale:
    """0 is the random policy, 1 the top. Each is one exact number, or one value for each seed."""

    random: np.ndarray | float
    top: np.ndarray | float
    best_arm: str | None = None
    """The arm that is the top; None where the top is a known ceiling."""

    @property
    def bottom(self) -> float:
        return float(np.mean(self.random))

    @property
    def span(self) -> float:
        """Return between random and top; above 0."""
        return float(np.mean(self.top)) - self.bottom

    @property
    def solved(self) -> float:
        """The return from which an arm counts as solving."""
        return self.bottom + SOLVED * self.span

    def normalize(self, value: float) -> float:
        return (value - self.bottom) / self.span


def find_scale(environment: Environment) -> Scale | None:
    """The environment's scale. Its top is the ceiling, or where none is known the best arm that beats random.

    None where the random policy was not measured, or where no ceiling is known and no arm beats random.
    """
    random = environment.random_level
    if random is None:
        return None
    if environment.ceiling is not None:
        return Scale(random, environment.ceiling)
    candidates = [arm for arm in environment.arms.values() if arm.consistent is not False and len(arm.seeds) > 1]
    best = max(candidates, key=lambda arm: float(iqm(arm.finals)), default=None)
    if best is None or contrast((1, best.finals), (-1, random)).p_above() >= ALPHA:
        return None
    return Scale(random, best.finals, best.name)


def normalized(arm: Arm, scale: Scale | None) -> float | None:
    """IQM of the arm's final returns on the scale; None where either is not known."""
    return scale.normalize(float(iqm(arm.finals))) if scale and arm.seeds else None


def solves(arm: Arm, scale: Scale | None) -> bool:
    """Whether the arm's IQM is at least 75 % of the way."""
    value = normalized(arm, scale)
    return value is not None and value >= SOLVED
