"""Does the environment require memory? Every architecture against its own memory-ablated twin.

The verdicts are defined in docs/method.md; the constants here and in `pairs` are the ones named there.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from memexp.analysis.alpha_spending import ALPHA, MIN_SEEDS, level
from memexp.analysis.comparison import Comparison
from memexp.analysis.convergence import TOLERANCE, best_windows, projected_changes
from memexp.analysis.credit_horizon import shortest_memory
from memexp.analysis.learning import Learning
from memexp.analysis.levels import memory_span
from memexp.analysis.pairs import SMALLEST_EFFECT, Pair, empty_entry, entry, find_pairs, oracle_ratio
from memexp.analysis.scale import SOLVED, Scale, normalized, random_level, solves
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import contrast

SOLVING_RATE = 0.55
"""Share of runs that solve which 'required' must exclude for every memoryless arm: no seed of four that solves does."""

Verdict = tuple[str, str]
"""One of required, helps, not_needed and undecided, and the reason in one or two sentences."""


def memory(environment: Environment, scale: Scale | None, learned: dict[str, Learning]) -> dict[str, Any]:
    """The environment's memory verdict, as CONTRACT's `memory`, with one entry of `per_arm` a remembering arm."""
    pairs, unpaired = find_pairs(environment, learned, memory_span(environment))
    judged = [pair for pair in pairs.values() if not pair.excluded]
    verdict, reason = _verdict(environment, scale, judged)
    excluded = {**{name: pair.excluded for name, pair in pairs.items() if pair.excluded}, **unpaired}
    wrong = [name for name, arm in environment.arms.items() if arm.consistent is False and not arm.remembers]
    if excluded:
        reason += f" Left out: {'; '.join(f'{name} ({why})' for name, why in excluded.items())}."
    if wrong:
        reason += f" Inconsistent without memory, not counted: {', '.join(wrong)}."
    known = [pair for pair in pairs.values() if np.isfinite(pair.final.welch.se)]
    effect, ci = _pooled([pair for pair in known if not pair.excluded] or known, scale)
    per_arm = {}
    for name, pair in pairs.items():
        word, why = pair_verdict(pair, environment, scale)
        per_arm[name] = {**entry(pair, scale, environment.oracle), "verdict": word, "reason": why}
    per_arm |= {name: {**empty_entry(why), "verdict": "undecided", "reason": why} for name, why in unpaired.items()}
    return {
        "verdict": verdict,
        "effect": effect,
        "ci": ci,
        "p_improvement": float(np.mean([pair.improvement for pair in judged])) if judged else None,
        "per_arm": per_arm,
        "reason": reason,
        "scale": scale.source if scale else None,
        "oracle_ratio": oracle_ratio(judged, environment.oracle),
        "shortest": shortest_memory(environment, scale),
    }


def pair_verdict(pair: Pair, environment: Environment, scale: Scale | None) -> Verdict:
    """What one architecture and its twin say by themselves."""
    if pair.excluded:
        return "undecided", pair.excluded
    return _verdict(environment, scale, [pair])


def _verdict(environment: Environment, scale: Scale | None, judged: list[Pair]) -> Verdict:
    """What the pairs in `judged` say together."""
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
    positive = [pair for pair in informative if pair.positive(scale)]
    if positive:
        return _required_or_helps(environment, scale, positive)
    return _not_needed_or_undecided(environment, scale, informative)


def _required_or_helps(environment: Environment, scale: Scale, positive: list[Pair]) -> Verdict:
    """`positive`: pairs whose memory has a significant effect that is not negligible."""
    gains = _list(f"{pair.span(scale)} in {pair.arm.name}" for pair in positive)
    effect = f"Memory adds {gains} (shares {scale.words})"
    if why := _refuted(environment, scale):
        return "helps", f"{effect}, but {why}."
    solving = [pair for pair in positive if pair.large(scale) and solves(pair.arm, scale)]
    if not solving:
        return "helps", (
            f"{effect}; {SOLVED:.0%} of the way, with an effect surely above {SMALLEST_EFFECT:g}, is reached by none."
        )
    if why := _unproven(environment, scale):
        return "helps", f"{effect}; {why}."
    best = max(_memoryless(environment), key=lambda arm: normalized(arm, scale) or 0.0)
    return "required", (
        f"{_list(pair.arm.name for pair in solving)} {'gets' if len(solving) == 1 else 'get'} at least {SOLVED:.0%} "
        f"{scale.words}; without memory the best ({best.name}) gets {normalized(best, scale):.0%}. Memory adds {gains}."
    )


def _refuted(environment: Environment, scale: Scale) -> str:
    """The seed that solves without memory, at its end or at any time before; empty where none does."""
    reached = [
        (float(value), arm, seed)
        for arm in _memoryless(environment)
        for seed, value in zip(arm.seeds, best_windows(arm), strict=True)
    ]
    value, arm, seed = max(reached, key=lambda one: one[0])
    if value < scale.solved:
        return ""
    later = "" if seed.final(arm.budget) >= scale.solved else ", and loses it again"
    share = scale.normalize(value)
    return f"a policy without memory gets {share:.0%} of the way too ({arm.name}, seed {seed.info.seed}{later})"


def _unproven(environment: Environment, scale: Scale) -> str:
    """Why these seeds cannot exclude that some memoryless arm solves; empty where they can."""
    arms = [arm for arm in _memoryless(environment) if len(arm.seeds) >= MIN_SEEDS]
    if unsure := [arm.name for arm in arms if not _surely_short(arm, scale)]:
        return f"these seeds cannot exclude that {', '.join(unsure)} would get {SOLVED:.0%} of the way without"
    if rising := [arm.name for arm in arms if _about_to_solve(arm, scale)]:
        verb = "rises" if len(rising) == 1 else "rise"
        return f"{_list(rising)} still {verb} and would get {SOLVED:.0%} of the way in another third of the steps"
    if few := [arm.name for arm in arms if (1 - SOLVING_RATE) ** len(arm.seeds) > ALPHA]:
        return f"the few seeds of {', '.join(few)} cannot exclude that {SOLVING_RATE:.0%} of the runs solve it without"
    return ""


def _not_needed_or_undecided(environment: Environment, scale: Scale, pairs: list[Pair]) -> Verdict:
    """`pairs`: those in which somebody learned; none has a positive effect that is significant and not negligible."""
    if open_pairs := [pair for pair in pairs if not pair.equivalent(scale)]:
        spans = ", ".join(f"{pair.arm.name} {pair.span(scale)}" for pair in open_pairs)
        return "undecided", (
            f"The effect of memory is neither significant nor surely within {SMALLEST_EFFECT:g} {scale.words}: {spans}."
        )
    solvers = [arm for arm in _memoryless(environment) if len(arm.seeds) >= MIN_SEEDS and solves(arm, scale)]
    if not solvers:
        return "undecided", (
            f"With and without memory the arms end at the same level, but without it none gets {SOLVED:.0%} "
            f"{scale.words}: memory may be what the rest takes."
        )
    beyond = [pair for pair in pairs if pair.beyond]
    ahead = [pair.arm.name for pair in pairs if _pulls_ahead(pair, scale)]
    at_the_top = any(_at_the_top(arm, scale, len(solvers)) for arm in solvers)
    if beyond and not at_the_top:
        far = ", ".join(f"{pair.arm.name} {pair.reach or 'unknown'}" for pair in beyond)
        return "undecided", (
            f"Memory adds nothing, but the task's memory span of {memory_span(environment)} steps is beyond what "
            f"training could connect ({far}): a longer horizon or mem_len first."
        )
    if ahead and not at_the_top:
        verb = "gains" if len(ahead) == 1 else "gain"
        return "undecided", (
            f"Memory adds nothing yet, but {_list(ahead)} still {verb} on the twin: in "
            f"another third of the steps the lead would be more than {SMALLEST_EFFECT:g}."
        )
    text = f"Without memory {_list(f'{a.name} gets {normalized(a, scale):.0%}' for a in solvers)} {scale.words}"
    hurt = [pair.arm.name for pair in pairs if pair.hurts(scale)]
    harm = f" It even costs {_list(hurt)} return." if hurt else ""
    return (
        "not_needed",
        f"{text}; memory adds less than {SMALLEST_EFFECT:g} in {_list(p.arm.name for p in pairs)}.{harm}",
    )


def _memoryless(environment: Environment) -> list[Arm]:
    """Arms without memory that have a finished seed and are not inconsistent."""
    return [a for a in environment.arms.values() if not a.remembers and a.seeds and a.consistent is not False]


def _surely_short(arm: Arm, scale: Scale) -> bool:
    """Whether the arm's mean is significantly below 75 % of the way, the scale's own uncertainty included."""
    if scale.source == arm.name:
        return False
    gap = contrast((SOLVED, scale.top), (1 - SOLVED, scale.random), (-1.0, arm.finals))
    return gap.p_above() <= level(len(arm.seeds))


def _about_to_solve(arm: Arm, scale: Scale) -> bool:
    """Whether the arm surely rises, and would solve with another third of the budget at the slope of the last one."""
    change = contrast((1.0, projected_changes(arm)))
    rises = change.p_above() <= level(len(arm.seeds)) and change.estimate > TOLERANCE * scale.span
    return rises and float(arm.finals.mean()) + change.estimate >= scale.solved


def _pulls_ahead(pair: Pair, scale: Scale) -> bool:
    """Whether memory surely gains on the twin, and would matter after another third of the budget at these slopes."""
    lead = contrast((1.0, projected_changes(pair.arm)), (-1.0, projected_changes(pair.twin)))
    gains = lead.p_above() <= level(pair.seeds) and lead.estimate > TOLERANCE * scale.span
    return gains and pair.final.estimate + lead.estimate > SMALLEST_EFFECT * scale.span


def _at_the_top(arm: Arm, scale: Scale, claims: int) -> bool:
    """Whether the arm surely ends so near to the ceiling that no memory could add what matters."""
    if scale.source != "ceiling":
        return False
    gap = contrast((1.0, arm.finals), (SMALLEST_EFFECT - 1.0, scale.top), (-SMALLEST_EFFECT, scale.random))
    return gap.p_above() <= level(len(arm.seeds), claims)


def _pooled(pairs: list[Pair], scale: Scale | None) -> tuple[float | None, list[float | None]]:
    """The mean effect over the pairs as a share of the scale, with its 95 % interval: a single pair's own."""
    if not pairs or scale is None:
        return None, [None, None]
    k = len(pairs)
    welch = contrast(*[term for p in pairs for term in ((1 / k, p.arm.finals), (-1 / k, p.twin.finals))])
    pooled = pairs[0].final if k == 1 else Comparison(welch, np.zeros(0))
    return pooled.estimate / scale.span, list((pooled / scale.span).interval())


def _list(words: Iterable[str]) -> str:
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last
