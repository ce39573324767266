"""Does the environment require memory? Every architecture against its own memory-ablated twin.

The verdicts are defined in docs/method.md; the constants here are the ones named there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from memexp.analysis.learning import Learning
from memexp.analysis.load import Arm, Environment
from memexp.analysis.scale import ALPHA, MIN_SEEDS, SOLVED, Scale, normalized, random_level, solves
from memexp.analysis.statistics import Contrast, contrast, holm, permutation_p, probability_of_improvement
from memexp.runs import MAX_GAP

SMALLEST_EFFECT = 0.1
"""Share of the scale: the smallest effect of memory that matters."""


@dataclass
class Pair:
    """An architecture and its twin, with everything that the verdict asks about them."""

    arm: Arm
    twin: Arm
    effect: Contrast
    """Difference of mean final returns, in return."""
    p_value: float
    p_improvement: float
    informative: bool
    """At least one of the two learned: otherwise their difference says nothing about memory."""
    excluded: str = ""
    """Why it takes no part in the verdict; empty where it does."""
    p_holm: float = 1.0


def memory(environment: Environment, scale: Scale | None, learned: dict[str, Learning]) -> dict[str, Any]:
    """The environment's memory verdict, as CONTRACT's `memory`, with one entry of `per_arm` a remembering arm."""
    pairs, unpaired = _pairs(environment, learned)
    judged = [pair for pair in pairs.values() if not pair.excluded]
    for pair, adjusted in zip(judged, holm([pair.p_value for pair in judged]), strict=True):
        pair.p_holm = adjusted
    verdict, reason = _verdict(environment, scale, judged)
    excluded = {**{name: pair.excluded for name, pair in pairs.items() if pair.excluded}, **unpaired}
    wrong = [name for name, arm in environment.arms.items() if arm.consistent is False and not arm.remembers]
    if excluded:
        reason += f" Left out: {'; '.join(f'{name} ({why})' for name, why in excluded.items())}."
    if wrong:
        reason += f" Inconsistent without memory, not counted: {', '.join(wrong)}."
    known = [pair for pair in pairs.values() if np.isfinite(pair.effect.se)]
    pooled = _pooled([pair for pair in known if not pair.excluded] or known)
    effect, ci, _ = _scaled(pooled, scale)
    return {
        "verdict": verdict,
        "effect": effect,
        "ci": ci,
        "p_improvement": float(np.mean([pair.p_improvement for pair in judged])) if judged else None,
        "per_arm": {
            **{name: _entry(pair, scale) for name, pair in pairs.items()},
            **{name: _empty_entry(why) for name, why in unpaired.items()},
        },
        "reason": reason,
        "scale": scale.source if scale else None,
    }


def _pairs(environment: Environment, learned: dict[str, Learning]) -> tuple[dict[str, Pair], dict[str, str]]:
    """The pairs that have at least one seed on either side, and why the other remembering arms have none."""
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
            pairs[name] = Pair(
                arm,
                twin,
                effect=contrast((1.0, arm.finals), (-1.0, twin.finals)),
                p_value=permutation_p(arm.finals, twin.finals),
                p_improvement=probability_of_improvement(arm.finals, twin.finals),
                informative=any(learned[member].verdict == "learned" for member in (name, twin.name)),
                excluded=_why_excluded(arm, twin),
            )
    return pairs, unpaired


def _why_excluded(arm: Arm, twin: Arm) -> str:
    for member in (arm, twin):
        worst = member.worst
        if member.consistent is False and worst is not None:
            limit = MAX_GAP[worst.precision]
            return f"inconsistent: max_logprob_gap {worst.max_gap:.2g} > {limit:g} in {worst.run}"
    if min(len(arm.seeds), len(twin.seeds)) < MIN_SEEDS:
        return f"{len(arm.seeds)} v {len(twin.seeds)} finished seeds, {MIN_SEEDS} v {MIN_SEEDS} are the least"
    return ""


def _verdict(environment: Environment, scale: Scale | None, judged: list[Pair]) -> tuple[str, str]:
    """The verdict and its reason, one or two sentences."""
    if not any(arm.remembers for arm in environment.arms.values()):
        return "undecided", "No arm can remember."
    if not judged:
        return "undecided", "No architecture can be compared with its twin."
    if scale is None:
        if random_level(environment) is None:
            return "undecided", "The random policy's return was not measured, so returns have no scale."
        return "undecided", "Nothing learned: no arm is above the random policy, so memory had nothing to show."
    informative = [pair for pair in judged if pair.informative]
    if not informative:
        return "undecided", "Nothing learned: neither an architecture nor its twin is above the random policy."
    positive = [p for p in informative if p.p_holm < ALPHA and _interval(p, scale)[0] > 0 and not _negligible(p, scale)]
    if positive:
        return _required_or_helps(environment, scale, positive)
    return _not_needed_or_undecided(environment, scale, informative)


def _required_or_helps(environment: Environment, scale: Scale, positive: list[Pair]) -> tuple[str, str]:
    """`positive`: pairs whose memory has a significant effect that is not negligible."""
    gains = _list(f"{_span(pair, scale)} in {pair.arm.name}" for pair in positive)
    effect = f"Memory adds {gains} (shares {scale.words})"
    large = [pair for pair in positive if _interval(pair, scale)[0] > SMALLEST_EFFECT]
    solving = [pair for pair in large if solves(pair.arm, scale)]
    memoryless = [a for a in environment.arms.values() if not a.remembers and a.seeds and a.consistent is not False]
    seeds = [(arm, seed, seed.final(arm.budget)) for arm in memoryless for seed in arm.seeds]
    far = max((entry for entry in seeds if entry[2] >= scale.solved), key=lambda entry: entry[2], default=None)
    if far:
        arm, seed, value = far
        return "helps", (
            f"{effect}, but a policy without memory gets {scale.normalize(value):.0%} of the way too "
            f"({arm.name}, seed {seed.info.seed})."
        )
    if not solving:
        return (
            "helps",
            f"{effect}; {SOLVED:.0%} of the way, with an effect surely above {SMALLEST_EFFECT:g}, is reached by none.",
        )
    unsure = [arm for arm in memoryless if len(arm.seeds) >= MIN_SEEDS and not _surely_short(arm, scale)]
    if unsure:
        names = ", ".join(arm.name for arm in unsure)
        return "helps", f"{effect}; these seeds cannot exclude that {names} would get {SOLVED:.0%} of the way without."
    best = max((arm for arm in memoryless), key=lambda arm: normalized(arm, scale) or 0.0)
    return "required", (
        f"{_list(pair.arm.name for pair in solving)} {'gets' if len(solving) == 1 else 'get'} at least {SOLVED:.0%} "
        f"{scale.words}; without memory the best ({best.name}) gets {normalized(best, scale):.0%}. Memory adds {gains}."
    )


def _not_needed_or_undecided(environment: Environment, scale: Scale, pairs: list[Pair]) -> tuple[str, str]:
    """`pairs`: those in which somebody learned; none has a positive effect that is significant and not negligible."""
    open_pairs = [pair for pair in pairs if not _equivalent(pair, scale)]
    solvers = [
        a for a in environment.arms.values() if not a.remembers and a.consistent is not False and solves(a, scale)
    ]
    solvers = [arm for arm in solvers if len(arm.seeds) >= MIN_SEEDS]
    if open_pairs:
        spans = ", ".join(f"{pair.arm.name} {_span(pair, scale)}" for pair in open_pairs)
        return "undecided", (
            f"The effect of memory is neither significant nor surely within {SMALLEST_EFFECT:g} {scale.words}: {spans}."
        )
    if not solvers:
        return "undecided", (
            f"With and without memory the arms end at the same level, but without it none gets {SOLVED:.0%} "
            f"{scale.words}: memory may be what the rest takes."
        )
    text = f"Without memory {_list(f'{a.name} gets {normalized(a, scale):.0%}' for a in solvers)} {scale.words}"
    hurt = [pair.arm.name for pair in pairs if _interval(pair, scale)[1] < -SMALLEST_EFFECT]
    harm = f" It even costs {_list(hurt)} return." if hurt else ""
    return (
        "not_needed",
        f"{text}; memory adds less than {SMALLEST_EFFECT:g} in {_list(p.arm.name for p in pairs)}.{harm}",
    )


def _interval(pair: Pair, scale: Scale, level: float = 0.95) -> tuple[float, float]:
    return (pair.effect / scale.span).interval(level)


def _negligible(pair: Pair, scale: Scale) -> bool:
    """Whether memory surely adds less than the smallest effect: the upper half of two one-sided tests at 5 %."""
    return _interval(pair, scale, 1 - 2 * ALPHA)[1] < SMALLEST_EFFECT


def _equivalent(pair: Pair, scale: Scale) -> bool:
    """Negligible; and where only arms tell what can be reached, memory surely costs less than that as well."""
    low = _interval(pair, scale, 1 - 2 * ALPHA)[0]
    return _negligible(pair, scale) and (scale.source == "ceiling" or low > -SMALLEST_EFFECT)


def _surely_short(arm: Arm, scale: Scale) -> bool:
    """Whether the arm's mean is significantly below 75 % of the way, the scale's own uncertainty included."""
    if scale.source == arm.name:
        return False
    return contrast((SOLVED, scale.top), (1 - SOLVED, scale.random), (-1.0, arm.finals)).p_above() < ALPHA


def _pooled(pairs: list[Pair]) -> Contrast | None:
    """The mean effect over the pairs."""
    if not pairs:
        return None
    k = len(pairs)
    return contrast(*[term for p in pairs for term in ((1 / k, p.arm.finals), (-1 / k, p.twin.finals))])


def _scaled(
    effect: Contrast | None, scale: Scale | None
) -> tuple[float | None, list[float | None], list[float | None]]:
    """Effect, 95 % and 90 % interval on the scale; None without one."""
    if effect is None or scale is None:
        return None, [None, None], [None, None]
    effect = effect / scale.span
    return effect.estimate, list(effect.interval()), list(effect.interval(0.90))


def _entry(pair: Pair, scale: Scale | None) -> dict[str, Any]:
    effect, ci, ci90 = _scaled(pair.effect, scale)
    return {
        "twin": pair.twin.name,
        "seeds": [len(pair.arm.seeds), len(pair.twin.seeds)],
        "effect": effect,
        "ci": ci,
        "ci90": ci90,
        "effect_return": pair.effect.estimate,
        "p_value": pair.p_value,
        "p_holm": None if pair.excluded else pair.p_holm,
        "p_improvement": pair.p_improvement,
        "excluded": pair.excluded or None,
    }


def _empty_entry(why: str) -> dict[str, Any]:
    keys = ("twin", "seeds", "effect", "ci", "ci90", "effect_return", "p_value", "p_holm", "p_improvement")
    return {**dict.fromkeys(keys), "ci": [None, None], "ci90": [None, None], "excluded": why}


def _span(pair: Pair, scale: Scale) -> str:
    low, high = _interval(pair, scale)
    return f"{pair.effect.estimate / scale.span:+.2f} [{low:+.2f}, {high:+.2f}]"


def _list(words: Any) -> str:
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last
