"""What returns are read against: the random policy below, a ceiling or the best arm above."""

from dataclasses import dataclass

import numpy as np

from memexp.analysis.alpha_spending import ALPHA as ALPHA
from memexp.analysis.alpha_spending import MIN_SEEDS as MIN_SEEDS
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import contrast, iqm

SOLVED = 0.75
"""Share of the way from the random policy to the top that counts as solving the environment."""


@dataclass(frozen=True, eq=False)
class Scale:
    """0 is the random policy, 1 the top."""

    random: np.ndarray | float
    top: np.ndarray | float
    """Groups of values, as `statistics.contrast` takes them."""
    source: str
    """'ceiling', or the name of the arm that stands in for one."""

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

    @property
    def words(self) -> str:
        """The scale in words, for a sentence's end."""
        top = "the ceiling" if self.source == "ceiling" else f"the best arm ({self.source}; no ceiling is known)"
        return f"of the way from the random policy to {top}"

    def normalize(self, value: float) -> float:
        return (value - self.bottom) / self.span


def find_scale(environment: Environment) -> Scale | None:
    """The environment's scale: up to the ceiling where it is known, else up to the best arm if that beats random.

    None where the random policy was not measured, or where there is neither a ceiling nor an arm above random.
    """
    random = random_level(environment)
    if random is None:
        return None
    if environment.ceiling is not None:
        return Scale(random, environment.ceiling, "ceiling")
    candidates = [arm for arm in environment.arms.values() if arm.consistent is not False and len(arm.seeds) > 1]
    best = max(candidates, key=lambda arm: float(iqm(arm.finals)), default=None)
    if best is None or contrast((1, best.finals), (-1, random)).p_above() >= ALPHA:
        return None
    return Scale(random, best.finals, best.name)


def random_level(environment: Environment) -> np.ndarray | float | None:
    """The random policy's return as a group: one value a run, or one exact number where a single run measured it."""
    returns = environment.random_returns
    if len(returns) == 0:
        return None
    return returns if len(returns) > 1 else float(returns[0])


def normalized(arm: Arm, scale: Scale | None) -> float | None:
    """The IQM of the arm's final returns on the scale; None where either is not known."""
    return scale.normalize(float(iqm(arm.finals))) if scale and arm.seeds else None


def solves(arm: Arm, scale: Scale) -> bool:
    value = normalized(arm, scale)
    return value is not None and value >= SOLVED
