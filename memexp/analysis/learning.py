"""Did an arm learn? Compares its final returns with the random policy's measured return. The seed is the unit."""

import math
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.convergence import projected_changes
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import FINAL_SHARE, Arm, Environment, Seed
from memexp.analysis.statistics import Contrast, contrast, t_quantile

SMALLEST_GAIN = 0.05  # Smallest gain over the random policy, share of the scale, that counts as learning
# An arm with so many solving seeds has learned, even if its other seeds fail and its mean is not significant.
SOLVING_SEEDS = 2
CLAIMS = 2  # Claims that share the error: the arm learned, the arm did not learn
UNIFORM = 0.99  # A policy counts as still random if its entropy is at least this share of ln(actions)
POWER = 0.8
# A seed is far above the random policy from so many standard deviations of its measurements on, and so many of the
# smallest gains, if no seed of the arm is half as far below.
FAR_ABOVE, FAR_GAINS = 5, 2


class LearningState(StrEnum):
    LEARNED = auto()
    NOT_LEARNED = auto()
    TOO_EARLY = auto()
    UNDECIDED = auto()


class LearningCause(Enum):
    NO_FINISHED_RUN = "No run has finished."
    RANDOM_NOT_MEASURED = "The random policy's return was not measured (random_return in run.json)."
    FEW_SEEDS_AT_CHANCE = (
        "{few} Nothing learned at this budget.{chance} {seeds} cannot show whether other seeds would learn."
    )
    FEW_SEEDS = "{few} {seeds} can show neither learning nor its absence. The minimum is {least}, the default 5."
    ABOVE_RANDOM = "{enough}"
    SEEDS_SOLVE = "{solving} of {seeds} solve the task, which the random policy does not. {enough}"
    SEEDS_FAR_ABOVE = (
        "{enough} But {far} far above the random policy, whose return has a spread of {spread:.2g} between seeds: too "
        "few seeds to tell."
    )
    STILL_RISING = "{enough} The return is still rising: too early to tell."
    NOTHING_LEARNED = "{enough} Nothing learned at this budget.{chance}"
    NO_SCALE = "{enough} No ceiling is known and no arm is above random, so a gain has no scale.{chance}"
    SPREAD_TOO_WIDE = "{enough} A gain of at least {floor:.3g} would be learning.{detectable}{chance}"


@dataclass(frozen=True)
class Entropy:
    """Policy entropy in nats, mean over seeds, at both ends of the run."""

    start: float
    """Over the first tenth of the steps."""
    end: float
    """Over the last tenth of the steps."""
    chance: float
    """ln(actions): the entropy of the random policy."""
    share: float
    """Entropy at the end as a share of `chance`, of the seed where it is lowest."""


@dataclass(frozen=True)
class Learning:
    """The learning verdict of an arm, with the numbers that it rests on. Gains and trends are returns."""

    state: LearningState
    cause: LearningCause
    entropy: Entropy | None
    """None where it was not logged."""
    seeds: int = 0
    gain: Contrast | None = None
    """Mean final return above the random policy's."""
    trend: Contrast | None = None
    """Projected change over another third of the budget."""
    detectable: float = math.nan
    """Smallest gain that so many seeds with this spread detect with 80 % power."""
    span: float = math.nan
    """Return from 0 to 1 on the scale; NaN without a scale."""
    solving: int = 0
    """Seeds that solve the environment."""
    far: tuple[str, ...] = ()
    """Runs that end far above the random policy."""
    spread: float = math.nan
    """Standard deviation of the random policy's return between seeds."""

    @property
    def verdict(self) -> LearningState:
        return LearningState.UNDECIDED if self.state is LearningState.TOO_EARLY else self.state

    @property
    def learned(self) -> bool:
        return self.state is LearningState.LEARNED

    @property
    def floor(self) -> float:
        """The smallest gain that counts, in return; without a scale 0."""
        return 0.0 if math.isnan(self.span) else SMALLEST_GAIN * self.span

    @property
    def at_chance(self) -> bool:
        """Whether every seed's policy still is the random policy."""
        return self.entropy is not None and self.entropy.share >= UNIFORM


def judge_learning(arm: Arm, environment: Environment, scale: Scale | None) -> Learning:
    """learned: significantly above random, by at least 5 % of the scale, or two seeds solve.

    not_learned: surely less than that and not rising, or every policy still uniform. Anything else is undecided
    (too early to tell). Without a scale, not_learned means that the upper end of the gain's interval is at most 0.
    """
    entropy, random = entropy_of(arm), environment.random_level
    if not arm.seeds:
        return Learning(LearningState.UNDECIDED, LearningCause.NO_FINISHED_RUN, entropy)
    if random is None:
        return Learning(LearningState.UNDECIDED, LearningCause.RANDOM_NOT_MEASURED, entropy)
    n, gain = len(arm.seeds), contrast((1.0, arm.finals), (-1.0, random))
    alpha = level(n, CLAIMS)
    facts = Learning(
        LearningState.TOO_EARLY,
        LearningCause.FEW_SEEDS,
        entropy,
        n,
        gain,
        trend=contrast((1.0, projected_changes(arm))),
        detectable=(t_quantile(1 - alpha, gain.df) + t_quantile(POWER, gain.df)) * gain.se if alpha else math.nan,
        span=scale.span if scale else math.nan,
        solving=_solving(arm, scale),
        far=_far_above(arm, environment, scale),
        spread=environment.random_spread,
    )
    state, cause = _verdict(facts, gain)
    return replace(facts, state=state, cause=cause)


def _verdict(facts: Learning, gain: Contrast) -> tuple[LearningState, LearningCause]:
    alpha, floor = level(facts.seeds, CLAIMS), facts.floor
    if facts.seeds < MIN_SEEDS:
        # Too few for a test: only a policy that still is the random policy can be judged.
        if facts.at_chance and gain.estimate <= floor:
            return LearningState.NOT_LEARNED, LearningCause.FEW_SEEDS_AT_CHANCE
        return LearningState.TOO_EARLY, LearningCause.FEW_SEEDS
    if gain.p_above() <= alpha and gain.estimate >= floor:
        return LearningState.LEARNED, LearningCause.ABOVE_RANDOM
    if facts.solving >= SOLVING_SEEDS:
        return LearningState.LEARNED, LearningCause.SEEDS_SOLVE
    has_scale = not math.isnan(facts.span)
    if gain.p_below(floor) <= alpha if has_scale else gain.interval(0.90)[1] <= 0:
        if facts.trend and facts.trend.p_above() <= alpha and facts.trend.estimate > floor:
            return LearningState.TOO_EARLY, LearningCause.STILL_RISING
        if facts.far:
            return LearningState.TOO_EARLY, LearningCause.SEEDS_FAR_ABOVE
        return LearningState.NOT_LEARNED, LearningCause.NOTHING_LEARNED
    if facts.far:
        return LearningState.TOO_EARLY, LearningCause.SEEDS_FAR_ABOVE
    return LearningState.TOO_EARLY, LearningCause.SPREAD_TOO_WIDE if has_scale else LearningCause.NO_SCALE


def _solving(arm: Arm, scale: Scale | None) -> int:
    """Seeds that solve; none where the arm itself is the top."""
    if scale is None or scale.solved is None or scale.best_arm == arm.name:
        return 0
    return int((arm.finals >= scale.solved).sum())


def _far_above(arm: Arm, environment: Environment, scale: Scale | None) -> tuple[str, ...]:
    """Runs that end far above the random policy. None where its spread is not known."""
    if not math.isfinite(environment.random_spread):
        return ()
    mean = float(environment.random_returns.mean())
    gains, smallest = arm.finals - mean, SMALLEST_GAIN * (scale.span if scale else abs(mean))
    least = max(FAR_ABOVE * environment.random_spread, FAR_GAINS * smallest, -2 * gains.min(), 1e-9)
    return tuple(seed.run for seed, gain in zip(arm.seeds, gains, strict=True) if gain > least)


def entropy_of(arm: Arm) -> Entropy | None:
    """Entropy of the arm's policies, mean over all its runs; None where it was not logged."""
    seeds = [seed for seed in (*arm.seeds, *arm.partial) if np.isfinite(seed.entropy).any()]
    actions = arm.info.num_actions
    if not seeds or not actions or actions < 2:
        return None
    starts, ends = zip(*(_ends(seed) for seed in seeds), strict=True)
    chance = math.log(actions)
    return Entropy(float(np.mean(starts)), float(np.mean(ends)), chance, min(ends) / chance)


def _ends(seed: Seed) -> tuple[float, float]:
    """Mean entropy over the first and over the last tenth of the steps."""
    known = np.isfinite(seed.entropy)
    steps, entropy = seed.agent_steps[known], seed.entropy[known]
    first, last = steps <= steps[0] + FINAL_SHARE * steps[-1], steps >= (1 - FINAL_SHARE) * steps[-1]
    return float(entropy[first].mean()), float(entropy[last].mean())
