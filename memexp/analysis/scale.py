"""The scale of returns: 0 is the random policy, 1 a known top (ceiling, partner, solved return) or the best arm."""

from dataclasses import dataclass

import numpy as np

from memexp.analysis.alpha_spending import ALPHA
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import contrast, iqm

SOLVED = 0.75  # An arm solves the environment from this share of the way from the random policy to a known top


@dataclass(frozen=True, eq=False)
class Scale:
    """0 is the random policy, 1 the top. Each is one exact number, or one value for each seed."""

    random: np.ndarray | float
    top: np.ndarray | float
    best_arm: str | None = None
    """The arm of this environment that is the top, which says nothing about what can be reached; None for a known top.
    """
    solved_return: float | None = None
    """The return that counts as solved, where it is stated."""
    name: str = "ceiling"
    """What the top is: 'ceiling', 'solved_return', an arm, or 'ARM in PARTNER'."""

    @property
    def bottom(self) -> float:
        return float(np.mean(self.random))

    @property
    def span(self) -> float:
        """Return between random and top; above 0."""
        return float(np.mean(self.top)) - self.bottom

    @property
    def solved(self) -> float | None:
        """The return from which an arm counts as solving; None where neither it nor a top is known."""
        terms = self.threshold
        return None if terms is None else sum(weight * float(np.mean(value)) for weight, value in terms)

    @property
    def threshold(self) -> tuple[tuple[float, np.ndarray | float], ...] | None:
        """`solved` as the terms of a contrast, so that a test includes the error of the scale."""
        if self.solved_return is not None:
            return ((1.0, self.solved_return),)
        return ((SOLVED, self.top), (1 - SOLVED, self.random)) if self.best_arm is None else None

    @property
    def top_text(self) -> str:
        known = {"ceiling": "the ceiling", "solved_return": "the return that counts as solved"}
        if self.best_arm is not None:
            return f"the best arm ({self.best_arm}; no ceiling is known)"
        return known.get(self.name, f"the best arm of the partner ({self.name})")

    @property
    def solved_share(self) -> float | None:
        return None if self.solved is None else self.normalize(self.solved)

    def normalize(self, value: float) -> float:
        return (value - self.bottom) / self.span


def find_scale(environment: Environment) -> Scale | None:
    """The environment's scale. Its top is the first that is known: the ceiling, the partner's best arm, the best arm
    that beats random, or the solved return if that is higher.

    None where the random policy was not measured, or where nothing is known and no arm beats random.
    """
    random, solved, partner = environment.random_level, environment.solved_return, environment.reference
    if random is None:
        return None
    if environment.ceiling is not None:
        return Scale(random, environment.ceiling, solved_return=solved)
    if partner is not None:
        return Scale(random, partner.finals, solved_return=solved, name=partner.name)
    best = best_arm(environment)
    if solved is not None and (best is None or best.finals.mean() <= solved):
        return Scale(random, solved, solved_return=solved, name="solved_return")
    return Scale(random, best.finals, best.name, solved, best.name) if best else None


def best_arm(environment: Environment) -> Arm | None:
    """The arm with the highest IQM, if it beats the random policy (one-sided Welch test)."""
    candidates = [arm for arm in environment.arms.values() if arm.consistent is not False and len(arm.seeds) > 1]
    best, random = max(candidates, key=lambda arm: float(iqm(arm.finals)), default=None), environment.random_level
    if best is None or random is None or contrast((1, best.finals), (-1, random)).p_above() >= ALPHA:
        return None
    return best


def normalized(arm: Arm, scale: Scale | None) -> float | None:
    """IQM of the arm's final returns on the scale; None where either is not known."""
    return scale.normalize(float(iqm(arm.finals))) if scale and arm.seeds else None


def solves(arm: Arm, scale: Scale | None) -> bool:
    """Whether the arm's IQM reaches the return that counts as solved. False where none is known."""
    return bool(scale and arm.seeds and scale.solved is not None and float(iqm(arm.finals)) >= scale.solved)
