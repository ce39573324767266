"""Does the environment require memory? Every architecture is compared with its own memory-ablated twin.

docs/method.md has the rules as a numbered list. The constants here and in `pairs` have the names used there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memexp.analysis.alpha_spending import ALPHA, MIN_SEEDS, level
from memexp.analysis.convergence import RISING, TOLERANCE, best_windows, projected_changes
from memexp.analysis.credit_horizon import Sweep, find_sweeps, horizon_knob
from memexp.analysis.learning import Learning
from memexp.analysis.pairs import SMALLEST_EFFECT, Pair, Ratio, find_pairs, oracle_ratio
from memexp.analysis.scale import Scale, normalized, solves
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import NO_INTERVAL, Comparison, Interval, contrast
from memexp.analysis.verdicts import Effect, LeftOut, MemoryCause, MemoryKind, MemoryVerdict, Reach, SolvingSeed

# 'required' must exclude that a memoryless arm solves in this share of its runs: four seeds would all fail with 4.1 %.
SOLVING_RATE = 0.55


@dataclass(frozen=True)
class Memory:
    """The memory verdict of an environment, and the pairs that it rests on."""

    verdict: MemoryVerdict
    pairs: dict[str, Pair]
    pair_verdicts: dict[str, MemoryVerdict]
    unpaired: dict[str, LeftOut]
    """Arms with memory that have no pair."""
    inconsistent: list[str]
    """Memoryless arms that do not count because they are inconsistent."""
    reach: Reach | None
    """Credit horizons of the arms with memory; None where neither they nor a memory span are known."""
    effect: float | None
    """Mean over the pairs, share of the scale."""
    interval: Interval
    improvement: float | None
    """Probability that a seed with memory ends above one without, mean over the pairs."""
    oracle_ratio: Ratio | None
    sweeps: list[Sweep]

    @property
    def left_out(self) -> dict[str, LeftOut]:
        """Every arm with memory that takes no part in the verdict."""
        return {name: pair.left_out for name, pair in self.pairs.items() if pair.left_out} | self.unpaired

    def kind_of(self, arm: str) -> MemoryKind | None:
        """The verdict of the arm's pair by itself; None for an arm without memory."""
        verdict = self.pair_verdicts.get(arm)
        return verdict.kind if verdict else MemoryKind.UNDECIDED if arm in self.unpaired else None


def judge_memory(environment: Environment, scale: Scale | None, learned: Mapping[str, Learning]) -> Memory:
    """The memory verdict of the environment and of each pair by itself. `learned`: arm -> its learning verdict."""
    pairs, unpaired = find_pairs(environment, scale, learned)
    judged = [pair for pair in pairs.values() if not pair.left_out]
    known = [pair for pair in pairs.values() if np.isfinite(pair.final.welch.se)]
    effect, interval = _pooled([pair for pair in known if not pair.left_out] or known, scale)
    return Memory(
        _verdict(environment, scale, judged),
        pairs,
        {
            name: _undecided(MemoryCause.PAIR_LEFT_OUT, pair.left_out)
            if pair.left_out
            else _verdict(environment, scale, [pair])
            for name, pair in pairs.items()
        },
        unpaired,
        [name for name, arm in environment.arms.items() if arm.consistent is False and not arm.remembers],
        find_reach(environment, list(pairs.values())),
        effect,
        interval,
        float(np.mean([pair.improvement for pair in judged])) if judged else None,
        oracle_ratio(judged, environment.oracle),
        find_sweeps(environment, scale),
    )


def _verdict(environment: Environment, scale: Scale | None, judged: Sequence[Pair]) -> MemoryVerdict:
    """What the pairs in `judged` say together."""
    if not any(arm.remembers for arm in environment.arms.values()):
        return _undecided(MemoryCause.NO_ARM_REMEMBERS)
    if not judged:
        return _undecided(MemoryCause.NO_PAIR)
    if scale is None:
        if environment.random_level is None:
            return _undecided(MemoryCause.RANDOM_NOT_MEASURED)
        return _nothing_learned(MemoryCause.NO_ARM_ABOVE_RANDOM, judged)
    informative = [pair for pair in judged if pair.informative]
    if not informative:
        return _nothing_learned(MemoryCause.NO_PAIR_LEARNED, judged)
    if positive := [pair for pair in informative if pair.positive]:
        return _required_or_helps(environment, scale, positive)
    return _not_needed_or_undecided(environment, scale, informative)


def _undecided(cause: MemoryCause, left_out: LeftOut | None = None) -> MemoryVerdict:
    return MemoryVerdict(MemoryKind.UNDECIDED, cause, left_out=left_out)


def _nothing_learned(cause: MemoryCause, judged: Sequence[Pair]) -> MemoryVerdict:
    """Undecided for this cause, or because of single seeds that ended far above the random policy."""
    far = tuple(dict.fromkeys(run for pair in judged for run in pair.far))
    return MemoryVerdict(MemoryKind.UNDECIDED, MemoryCause.SEEDS_FAR_ABOVE_RANDOM if far else cause, far=far)


def _required_or_helps(environment: Environment, scale: Scale, positive: Sequence[Pair]) -> MemoryVerdict:
    """The verdict where the memory of the pairs in `positive` has an effect."""
    effects, memoryless = _effects(positive), _memoryless(environment)

    def helps(cause: MemoryCause, arms: Iterable[Arm] = (), seed: SolvingSeed | None = None) -> MemoryVerdict:
        arms = list(arms)
        return MemoryVerdict(
            MemoryKind.HELPS, cause, scale.top_text, scale.solved_share, effects, _names(arms), solving_seed=seed,
            seeds=min((len(arm.seeds) for arm in arms), default=0), offers=tuple(environment.offers),
        )  # fmt: skip

    if scale.solved is None:
        return helps(MemoryCause.NO_CEILING)
    if seed := _solving_seed(memoryless, scale):
        return helps(MemoryCause.MEMORYLESS_SEED_SOLVES, seed=seed)
    solving = [pair.arm for pair in positive if pair.large and solves(pair.arm, scale)]
    if not solving:
        rising = [p.arm for p in positive if not solves(p.arm, scale) and _about_to_solve(p.arm, scale, RISING)]
        return helps(MemoryCause.MEMORY_ABOUT_TO_SOLVE if rising else MemoryCause.NO_ARM_SOLVES, rising)
    enough = [arm for arm in memoryless if len(arm.seeds) >= MIN_SEEDS]
    if unsure := [arm for arm in enough if not _surely_short(arm, scale)]:
        return helps(MemoryCause.SPREAD_CANNOT_EXCLUDE, unsure)
    if rising := [arm for arm in enough if _about_to_solve(arm, scale)]:
        return helps(MemoryCause.MEMORYLESS_STILL_RISES, rising)
    if few := [arm for arm in enough if (1 - SOLVING_RATE) ** len(arm.seeds) > ALPHA]:
        return helps(MemoryCause.FEW_SEEDS_CANNOT_EXCLUDE, few)
    best = max(_levels(memoryless, scale), key=lambda one: one[1])
    return MemoryVerdict(
        MemoryKind.REQUIRED,
        MemoryCause.SOLVED_WITH_MEMORY_ALONE,
        scale.top_text,
        scale.solved_share,
        effects,
        _names(solving),
        memoryless=(best,),
    )


def _solving_seed(memoryless: Sequence[Arm], scale: Scale) -> SolvingSeed | None:
    """The memoryless seed with the best window of all, if that solves the environment; a single one refutes."""
    reached = [
        (float(value), arm, seed)
        for arm in memoryless
        for seed, value in zip(arm.seeds, best_windows(arm), strict=True)
    ]
    value, arm, seed = max(reached, key=lambda one: one[0])
    if scale.solved is None or value < scale.solved:
        return None
    lost = not seed.final(arm.budget) >= scale.solved
    return SolvingSeed(arm.name, seed.info.seed, scale.normalize(value), lost)


def _not_needed_or_undecided(environment: Environment, scale: Scale, pairs: Sequence[Pair]) -> MemoryVerdict:
    """The verdict where none of the `pairs`, in which an arm learned, has a positive effect."""

    def verdict(cause: MemoryCause, kind: MemoryKind = MemoryKind.UNDECIDED, **evidence: Any) -> MemoryVerdict:
        return MemoryVerdict(kind, cause, scale.top_text, scale.solved_share, **evidence)

    if uncertain := [pair for pair in pairs if not pair.equivalent]:
        misses = tuple(miss for pair in uncertain if (miss := pair.near_miss))
        return verdict(MemoryCause.EFFECT_UNCERTAIN, effects=_effects(uncertain), near_misses=misses)
    if scale.solved is None:
        return verdict(MemoryCause.SAME_BUT_NO_CEILING, offers=tuple(environment.offers))
    reach = find_reach(environment, pairs)
    solvers = [a for a in _memoryless(environment) if len(a.seeds) >= MIN_SEEDS and solves(a, scale)]
    if not solvers:
        return verdict(MemoryCause.NONE_SOLVES_WITHOUT, reach=reach)
    if not _near_the_top(pairs, solvers, scale):
        if ahead := [pair.arm for pair in pairs if _pulls_ahead(pair, scale)]:
            return verdict(MemoryCause.STILL_PULLS_AHEAD, arms=_names(ahead))
        if scale.best_arm is None and environment.memory_span != 0:
            counted = [arm for arm in environment.arms.values() if arm.consistent is not False]
            rest = 1 - max(value for arm in counted if (value := normalized(arm, scale)) is not None)
            far = rest > SMALLEST_EFFECT
            cause = MemoryCause.REACHED_BY_NOBODY if far else MemoryCause.REST_UNCERTAIN
            return verdict(cause, reach=reach if far else None, rest=rest)
    return verdict(
        MemoryCause.SOLVED_WITHOUT_MEMORY,
        MemoryKind.NOT_NEEDED,
        arms=_names(pair.arm for pair in pairs),
        memoryless=_levels(solvers, scale),
        hurt=_names(pair.arm for pair in pairs if pair.hurts),
    )


def find_reach(environment: Environment, pairs: Sequence[Pair]) -> Reach | None:
    """The credit horizons of the pairs' arms. Those of a task whose span is 0 are never too short."""
    span, episode = environment.memory_span, environment.episode_length
    needed = episode if span is None else span
    if span is None and all(pair.horizon is None for pair in pairs):
        return None
    short = [pair for pair in pairs if needed and (pair.horizon is None or pair.horizon < needed)]
    knobs = tuple(dict.fromkeys(horizon_knob(pair.arm) for pair in short))
    assumed = tuple(pair.arm.name for pair in pairs if pair.arm.is_foreign and pair.horizon is not None)
    return Reach(tuple((pair.arm.name, pair.horizon) for pair in pairs), span, episode, knobs, assumed)


def _memoryless(environment: Environment) -> list[Arm]:
    """Arms without memory that have a finished seed and are not inconsistent."""
    return [a for a in environment.arms.values() if not a.remembers and a.seeds and a.consistent is not False]


def _surely_short(arm: Arm, scale: Scale) -> bool:
    """Whether the arm's mean is significantly below 75 % of the way. The error of the scale itself counts."""
    if scale.best_arm == arm.name or scale.threshold is None:
        return False
    gap = contrast(*scale.threshold, (-1.0, arm.finals))
    return gap.p_above() <= level(len(arm.seeds))


def _about_to_solve(arm: Arm, scale: Scale, alpha: float | None = None) -> bool:
    """Whether the arm surely rises, and would solve after another third of the budget at the slope of the last.

    `alpha`: one-sided level of the rise; None: that of a verdict.
    """
    change = contrast((1.0, projected_changes(arm)))
    alpha = level(len(arm.seeds)) if alpha is None else alpha
    rises = change.p_above() <= alpha and change.estimate > TOLERANCE * scale.span
    return rises and scale.solved is not None and float(arm.finals.mean()) + change.estimate >= scale.solved


def _pulls_ahead(pair: Pair, scale: Scale) -> bool:
    """Whether memory surely gains on the twin, and would matter after another third of the budget at these slopes."""
    lead = contrast((1.0, projected_changes(pair.arm)), (-1.0, projected_changes(pair.twin)))
    gains = lead.p_above() <= level(pair.seeds) and lead.estimate > TOLERANCE * scale.span
    return gains and pair.final.estimate + lead.estimate > SMALLEST_EFFECT * scale.span


def _near_the_top(pairs: Sequence[Pair], solvers: Sequence[Arm], scale: Scale) -> bool:
    """Whether so little is surely left to gain below a known top that no memory could add what matters.

    Shown by one of the `solvers` alone (they share the level), by the twins of the pairs together, or by every arm with
    memory. A mean over twins and arms with memory shows nothing: a few seeds may have learned what needs memory.
    """
    if scale.best_arm is not None:
        return False
    twins = list({pair.twin.name: pair.twin for pair in pairs}.values())
    return (
        any(_surely_near([arm], scale, len(solvers)) for arm in solvers)
        or _surely_near(twins, scale, 1)
        or all(_surely_near([pair.arm], scale, 1) for pair in pairs)
    )


def _surely_near(arms: Sequence[Arm], scale: Scale, claims: int) -> bool:
    terms = [(1 / len(arms), arm.finals) for arm in arms]
    gap = contrast(*terms, (SMALLEST_EFFECT - 1.0, scale.top), (-SMALLEST_EFFECT, scale.random))
    return gap.p_above() <= level(min(len(arm.seeds) for arm in arms), claims)


def _pooled(pairs: Sequence[Pair], scale: Scale | None) -> tuple[float | None, Interval]:
    """The mean effect over the pairs, share of the scale, with its 95 % interval (a single pair has its own)."""
    if not pairs or scale is None:
        return None, NO_INTERVAL
    k = len(pairs)
    welch = contrast(*[term for p in pairs for term in ((1 / k, p.arm.finals), (-1 / k, p.twin.finals))])
    pooled = pairs[0].final if k == 1 else Comparison(welch, np.zeros(0))
    return pooled.estimate / scale.span, (pooled / scale.span).interval()


def _effects(pairs: Sequence[Pair]) -> tuple[Effect, ...]:
    return tuple(effect for pair in pairs if (effect := pair.effect))


def _levels(arms: Sequence[Arm], scale: Scale) -> tuple[tuple[str, float], ...]:
    return tuple((arm.name, normalized(arm, scale) or 0.0) for arm in arms)


def _names(arms: Iterable[Arm]) -> tuple[str, ...]:
    return tuple(arm.name for arm in arms)
