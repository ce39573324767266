"""An architecture beside its own memory-ablated twin, and what can be said about the two."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.comparison import Comparison, compare
from memexp.analysis.convergence import COLLAPSE, best_windows
from memexp.analysis.credit_horizon import reach
from memexp.analysis.formatting import interval, number
from memexp.analysis.learning import Learning
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import (
    NO_INTERVAL,
    Interval,
    contrast,
    holm,
    iqm_difference,
    probability_of_improvement,
    t_quantile,
)
from memexp.runs import MAX_GAP

SMALLEST_EFFECT = 0.1
"""Share of the scale: the smallest effect of memory that matters."""


@dataclass
class Pair:
    """An architecture and its twin, with everything that the verdict asks about them."""

    arm: Arm
    twin: Arm
    final: Comparison
    """Mean returns of the final window."""
    best: Comparison
    """Mean returns of each seed's best window: an arm that got there and fell back could."""
    informative: bool
    """At least one of the two learned: otherwise their difference says nothing about memory."""
    reach: int | None
    """Agent steps that training could connect."""
    beyond: bool
    """Whether the task asks for a longer memory than that, or for any where the reach is not known."""
    excluded: str = ""
    """Why it takes no part in the verdict; empty where it does."""
    p_holm: float = 1.0
    level: float = 0.0
    """One-sided level of this pair's claim of an effect; 0 where Holm's procedure stopped before it."""

    @property
    def seeds(self) -> int:
        """Seeds of the smaller side."""
        return min(len(self.arm.seeds), len(self.twin.seeds))

    @property
    def improvement(self) -> float:
        return probability_of_improvement(self.arm.finals, self.twin.finals)

    def positive(self, scale: Scale) -> bool:
        """Whether memory has an effect that is significant, not negligible, and not that of a twin that fell back.

        Where a seed of the twin lost what it had, its best window must be behind as well, by what matters: curves that
        stay up longer have higher best windows by chance alone.
        """
        lost = best_windows(self.twin) - self.twin.finals >= COLLAPSE * scale.span
        p_best = self.best.p_above(SMALLEST_EFFECT * scale.span if lost.any() else 0.0)
        significant = max(self.final.p_above(), p_best) <= self.level
        return self.informative and significant and not self.negligible(scale)

    def large(self, scale: Scale) -> bool:
        """Whether the effect surely exceeds the smallest that matters."""
        return self.final.p_above(SMALLEST_EFFECT * scale.span) <= self.level

    def negligible(self, scale: Scale) -> bool:
        """Whether memory surely adds less than the smallest effect: one half of two one-sided tests."""
        smallest = SMALLEST_EFFECT * scale.span
        return max(self.final.p_below(smallest), self.best.p_below(smallest)) <= level(self.seeds)

    def equivalent(self, scale: Scale) -> bool:
        """Negligible; and where only arms tell what can be reached, memory surely costs less than that as well."""
        harmless = self.final.p_above(-SMALLEST_EFFECT * scale.span) <= level(self.seeds)
        return self.negligible(scale) and (scale.source == "ceiling" or harmless)

    def hurts(self, scale: Scale) -> bool:
        return self.final.p_below(-SMALLEST_EFFECT * scale.span) <= level(self.seeds)

    def span(self, scale: Scale) -> str:
        """The effect in words: '+0.45 [+0.40, +0.50]'."""
        low, high = (self.final / scale.span).interval()
        return f"{number(self.final.estimate / scale.span)} {interval([low, high])}"


def find_pairs(
    environment: Environment, learned: dict[str, Learning], span: int | None
) -> tuple[dict[str, Pair], dict[str, str]]:
    """The pairs that have at least one seed on either side, and why the other remembering arms have none.

    `span`: agent steps that the task asks to remember.
    """
    pairs, unpaired = {}, {}
    for name, arm in environment.arms.items():
        if not arm.remembers:
            continue
        twin = environment.arms.get(f"{name}~")
        if twin is None or twin.remembers:
            unpaired[name] = "no memory-ablated twin"
        elif not arm.seeds or not twin.seeds:
            unpaired[name] = f"no finished run of {name if not arm.seeds else twin.name}"
        else:
            far = reach(arm)
            pairs[name] = Pair(
                arm,
                twin,
                final=compare(arm.finals, twin.finals),
                best=compare(best_windows(arm), best_windows(twin)),
                informative=any(learned[member].verdict == "learned" for member in (name, twin.name)),
                reach=far,
                beyond=bool(span) and (far is None or span > far),
                excluded=_why_excluded(arm, twin),
            )
    _adjust([pair for pair in pairs.values() if not pair.excluded])
    return pairs, unpaired


def _adjust(judged: list[Pair]) -> None:
    """Holm's step-down procedure (1979) over the pairs, at the levels of their looks."""
    p_values = [pair.final.p_above() for pair in judged]
    for pair, adjusted in zip(judged, holm(p_values), strict=True):
        pair.p_holm = adjusted
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        pair = judged[index]
        pair.level = level(pair.seeds, len(judged) - rank)
        if p_values[index] > pair.level:
            break


def _why_excluded(arm: Arm, twin: Arm) -> str:
    for member in (arm, twin):
        worst = member.worst
        if member.consistent is False and worst is not None:
            limit = MAX_GAP[worst.precision]
            return f"inconsistent: max_logprob_gap {worst.max_gap:.2g} > {limit:g} in {worst.run}"
    if min(len(arm.seeds), len(twin.seeds)) < MIN_SEEDS:
        return f"{len(arm.seeds)} v {len(twin.seeds)} finished seeds, {MIN_SEEDS} v {MIN_SEEDS} are the least"
    return ""


def oracle_ratio(pairs: list[Pair], oracle: float | None) -> dict[str, Any] | None:
    """(memory - memoryless) / (oracle - memoryless), means over the pairs, with Fieller's interval (1954, J. R. Stat.
    Soc. B 16); None without an oracle, or where it is not above the memoryless arms."""
    if oracle is None or not pairs:
        return None
    k = len(pairs)
    memory = contrast(*((1 / k, pair.arm.finals) for pair in pairs))
    without = contrast(*((1 / k, pair.twin.finals) for pair in pairs))
    gain, room = memory.estimate - without.estimate, oracle - without.estimate
    if room <= 0:
        return None
    return {"estimate": gain / room, "ci": list(_fieller(gain, room, memory.se**2, without.se**2, pairs))}


def _fieller(gain: float, room: float, var_memory: float, var_without: float, pairs: list[Pair]) -> Interval:
    """The ratios r at which gain - r room is no further from 0 than its standard error allows."""
    ratio = gain / room
    k = len(pairs)
    terms = [t for p in pairs for t in ((1 / k, p.arm.finals), ((ratio - 1) / k, p.twin.finals))]
    spread = contrast(*terms)
    if not np.isfinite(spread.se):
        return NO_INTERVAL
    t2 = t_quantile(0.975, spread.df) ** 2
    a = room**2 - t2 * var_without
    b = -2 * gain * room + 2 * t2 * var_without
    c = gain**2 - t2 * (var_memory + var_without)
    root = b**2 - 4 * a * c
    if a <= 0 or root < 0:
        return NO_INTERVAL
    return (-b - root**0.5) / (2 * a), (-b + root**0.5) / (2 * a)


def entry(pair: Pair, scale: Scale | None, oracle: float | None) -> dict[str, Any]:
    """The pair's numbers in the answer; effects are shares of the scale."""
    effect, ci, ci90, by_iqm, ci_iqm = None, [None, None], [None, None], None, [None, None]
    if scale is not None:
        scaled = pair.final / scale.span
        effect, ci, ci90 = scaled.estimate, list(scaled.interval()), list(scaled.interval(0.90))
        by_iqm, interval = iqm_difference(pair.arm.finals / scale.span, pair.twin.finals / scale.span)
        ci_iqm = list(interval)
    return {
        "twin": pair.twin.name,
        "seeds": [len(pair.arm.seeds), len(pair.twin.seeds)],
        "effect": effect,
        "ci": ci,
        "ci90": ci90,
        "effect_iqm": by_iqm,
        "ci_iqm": ci_iqm,
        "effect_return": pair.final.estimate,
        "p_value": pair.final.p_above(),
        "p_holm": None if pair.excluded else pair.p_holm,
        "p_improvement": pair.improvement,
        "oracle_ratio": oracle_ratio([pair], oracle),
        "reach": pair.reach,
        "level": pair.level,
        "negligible": None if scale is None or pair.excluded else pair.negligible(scale),
        "excluded": pair.excluded or None,
    }


def empty_entry(why: str) -> dict[str, Any]:
    """The entry of an arm that has no pair."""
    numbers = ("effect", "effect_iqm", "effect_return", "p_value", "p_holm", "p_improvement", "reach")
    intervals = {key: [None, None] for key in ("ci", "ci90", "ci_iqm")}
    return {
        "twin": None,
        "seeds": None,
        **dict.fromkeys(numbers),
        **intervals,
        **dict.fromkeys(("oracle_ratio", "level", "negligible")),
        "excluded": why,
    }
