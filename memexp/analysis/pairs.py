"""An architecture beside its own memory-ablated twin, and what the two say about its memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.convergence import COLLAPSE, best_windows
from memexp.analysis.credit_horizon import credit_horizon
from memexp.analysis.learning import Learning
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import (
    Comparison,
    Interval,
    compare,
    contrast,
    fieller,
    holm,
    iqm_difference,
    probability_of_improvement,
)
from memexp.analysis.verdicts import Effect, LeftOut, LeftOutCause
from memexp.runs import MAX_GAP

SMALLEST_EFFECT = 0.1  # The smallest effect of memory that matters, share of the scale


class Ratio(NamedTuple):
    estimate: float
    ci: Interval


@dataclass
class Pair:
    """An architecture and its twin. Without a scale, nothing that depends on its span is known."""

    arm: Arm
    twin: Arm
    scale: Scale | None
    final: Comparison
    """Mean returns of the final window."""
    best: Comparison
    """Mean returns of each seed's best window. It stays high in a twin that solved the task and collapsed later."""
    informative: bool
    """At least one of the two learned. Otherwise their difference says nothing about memory."""
    horizon: int | None
    """Agent steps over which training can assign credit; None where not known."""
    beyond: bool
    """Whether the task's memory span is longer than the horizon, or the horizon is not known."""
    left_out: LeftOut | None = None
    """Why the pair takes no part in the verdict; None where it does."""
    p_holm: float = 1.0
    level: float = 0.0
    """One-sided level of this pair's claim of an effect; 0 where Holm's procedure stopped before it."""

    @property
    def seeds(self) -> int:
        """Seeds of the smaller side."""
        return min(len(self.arm.seeds), len(self.twin.seeds))

    @property
    def improvement(self) -> float:
        """Probability that a seed with memory ends above one without."""
        return probability_of_improvement(self.arm.finals, self.twin.finals)

    @property
    def span(self) -> float:
        return self.scale.span if self.scale else math.nan

    @property
    def smallest(self) -> float:
        """The smallest effect that matters, in return."""
        return SMALLEST_EFFECT * self.span

    @property
    def effect(self) -> Effect | None:
        """Share of the scale with its 95 % interval."""
        if self.scale is None:
            return None
        scaled = self.final / self.span
        return Effect(self.arm.name, scaled.estimate, scaled.interval())

    @property
    def interval90(self) -> Interval:
        return (self.final / self.span).interval(0.90)

    @property
    def effect_iqm(self) -> tuple[float, Interval]:
        """Difference of interquartile means, share of the scale, with its 95 % interval."""
        return iqm_difference(self.arm.finals / self.span, self.twin.finals / self.span)

    @property
    def positive(self) -> bool:
        """Whether memory has an effect that is significant, not negligible, and not due to a collapsed twin.

        If a seed of the twin collapsed, the best windows must differ by more than the smallest effect: curves that
        stay up longer have higher best windows by chance alone.
        """
        collapsed = best_windows(self.twin) - self.twin.finals >= COLLAPSE * self.span
        p_best = self.best.p_above(self.smallest if collapsed.any() else 0.0)
        significant = max(self.final.p_above(), p_best) <= self.level
        return self.informative and significant and not self.negligible

    @property
    def large(self) -> bool:
        """Whether the effect surely exceeds the smallest that matters."""
        return self.final.p_above(self.smallest) <= self.level

    @property
    def negligible(self) -> bool:
        """Whether memory surely adds less than the smallest effect: one half of two one-sided tests."""
        return max(self.final.p_below(self.smallest), self.best.p_below(self.smallest)) <= level(self.seeds)

    @property
    def equivalent(self) -> bool:
        """Negligible. Where no ceiling is known, memory must also surely cost less than the smallest effect."""
        ceiling_known = self.scale is not None and self.scale.best_arm is None
        return self.negligible and (ceiling_known or self.final.p_above(-self.smallest) <= level(self.seeds))

    @property
    def hurts(self) -> bool:
        """Whether memory surely costs more than the smallest effect."""
        return self.final.p_below(-self.smallest) <= level(self.seeds)


def find_pairs(
    environment: Environment, scale: Scale | None, learned: Mapping[str, Learning]
) -> tuple[dict[str, Pair], dict[str, LeftOut]]:
    """The pairs with at least one finished seed on both sides, and why the other arms with memory have no pair."""
    pairs: dict[str, Pair] = {}
    unpaired: dict[str, LeftOut] = {}
    span = environment.memory_span
    for name, arm in environment.arms.items():
        if not arm.remembers:
            continue
        twin = environment.twin_of(name)
        if twin is None or twin.remembers:
            unpaired[name] = LeftOut(LeftOutCause.NO_TWIN)
        elif not arm.seeds or not twin.seeds:
            unpaired[name] = LeftOut(LeftOutCause.NO_FINISHED_RUN, twin.name if arm.seeds else name)
        else:
            horizon = credit_horizon(arm)
            pairs[name] = Pair(
                arm,
                twin,
                scale,
                final=compare(arm.finals, twin.finals),
                best=compare(best_windows(arm), best_windows(twin)),
                informative=learned[name].learned or learned[twin.name].learned,
                horizon=horizon,
                beyond=span is not None and span > 0 and (horizon is None or span > horizon),
                left_out=_why_left_out(arm, twin),
            )
    _set_levels([pair for pair in pairs.values() if not pair.left_out])
    return pairs, unpaired


def _set_levels(pairs: Sequence[Pair]) -> None:
    """Holm's step-down procedure (1979) over the pairs, at the levels of alpha spending."""
    p_values = [pair.final.p_above() for pair in pairs]
    for pair, adjusted in zip(pairs, holm(p_values), strict=True):
        pair.p_holm = adjusted
    for rank, index in enumerate(map(int, np.argsort(p_values, kind="stable"))):
        pair = pairs[index]
        pair.level = level(pair.seeds, len(pairs) - rank)
        if p_values[index] > pair.level:
            break


def _why_left_out(arm: Arm, twin: Arm) -> LeftOut | None:
    for worst in (member.worst for member in (arm, twin) if member.consistent is False):
        if worst and worst.max_gap is not None:
            limit = MAX_GAP[worst.precision]
            return LeftOut(LeftOutCause.INCONSISTENT, run=worst.run, gap=worst.max_gap, limit=limit)
    if min(len(arm.seeds), len(twin.seeds)) < MIN_SEEDS:
        return LeftOut(LeftOutCause.FEW_SEEDS, seeds=(len(arm.seeds), len(twin.seeds)))
    return None


def oracle_ratio(pairs: Sequence[Pair], oracle: float | None) -> Ratio | None:
    """(memory - memoryless) / (oracle - memoryless), means over the pairs, with the interval of Fieller (1954).

    None where no oracle is known, or where its return is not above that of the memoryless arms.
    """
    if oracle is None or not pairs:
        return None
    k = len(pairs)
    memory = contrast(*((1 / k, pair.arm.finals) for pair in pairs))
    without = contrast(*((1 / k, pair.twin.finals) for pair in pairs))
    gain, room = memory.estimate - without.estimate, oracle - without.estimate
    if room <= 0:
        return None
    ratio = gain / room
    spread = contrast(*(term for p in pairs for term in ((1 / k, p.arm.finals), ((ratio - 1) / k, p.twin.finals))))
    return Ratio(ratio, fieller(gain, room, memory.se**2, without.se**2, spread.df))
