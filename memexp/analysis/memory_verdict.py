"""Does the environment require memory? Every architecture is compared with its own memory-ablated twin.

docs/method.md has the rules as a numbered list. The constants here and in `pairs` have the names used there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from memexp.analysis.alpha_spending import ALPHA, MIN_SEEDS, level
from memexp.analysis.convergence import TOLERANCE, best_windows, projected_changes
from memexp.analysis.credit_horizon import Sweep, find_sweeps
from memexp.analysis.learning import Learning
from memexp.analysis.pairs import SMALLEST_EFFECT, Pair, Ratio, find_pairs, oracle_ratio
from memexp.analysis.scale import SOLVED, Scale, normalized, solves
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.statistics import NO_INTERVAL, Comparison, Interval, contrast
from memexp.analysis.verdicts import Effect, LeftOut, MemoryCause, MemoryKind, MemoryVerdict, SolvingSeed

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
        measured = environment.random_level is not None
        return _undecided(MemoryCause.NO_ARM_ABOVE_RANDOM if measured else MemoryCause.RANDOM_NOT_MEASURED)
    informative = [pair for pair in judged if pair.informative]
    if not informative:
        return _undecided(MemoryCause.NO_PAIR_LEARNED)
    if positive := [pair for pair in informative if pair.positive]:
        return _required_or_helps(environment, scale, positive)
    return _not_needed_or_undecided(environment, scale, informative)


def _undecided(cause: MemoryCause, left_out: LeftOut | None = None) -> MemoryVerdict:
    return MemoryVerdict(MemoryKind.UNDECIDED, cause, left_out=left_out)


def _required_or_helps(environment: Environment, scale: Scale, positive: Sequence[Pair]) -> MemoryVerdict:
    """The verdict where the memory of the pairs in `positive` has an effect."""
    effects, memoryless = _effects(positive), _memoryless(environment)

    def helps(cause: MemoryCause, arms: Iterable[Arm] = (), seed: SolvingSeed | None = None) -> MemoryVerdict:
        arms = list(arms)
        return MemoryVerdict(
            MemoryKind.HELPS, cause, scale.best_arm, effects, _names(arms), solving_seed=seed,
            seeds=min((len(arm.seeds) for arm in arms), default=0),
        )  # fmt: skip

    if seed := _solving_seed(memoryless, scale):
        return helps(MemoryCause.MEMORYLESS_SEED_SOLVES, seed=seed)
    solving = [pair.arm for pair in positive if pair.large and solves(pair.arm, scale)]
    if not solving:
        return helps(MemoryCause.NO_ARM_SOLVES)
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
        scale.best_arm,
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
    if value < scale.solved:
        return None
    lost = not seed.final(arm.budget) >= scale.solved
    return SolvingSeed(arm.name, seed.info.seed, scale.normalize(value), lost)


def _not_needed_or_undecided(environment: Environment, scale: Scale, pairs: Sequence[Pair]) -> MemoryVerdict:
    """The verdict where none of the `pairs`, in which an arm learned, has a positive effect."""

    def verdict(cause: MemoryCause, kind: MemoryKind = MemoryKind.UNDECIDED, **evidence: Any) -> MemoryVerdict:
        return MemoryVerdict(kind, cause, scale.best_arm, **evidence)

    if uncertain := [pair for pair in pairs if not pair.equivalent]:
        return verdict(MemoryCause.EFFECT_UNCERTAIN, effects=_effects(uncertain))
    solvers = [a for a in _memoryless(environment) if len(a.seeds) >= MIN_SEEDS and solves(a, scale)]
    if not solvers:
        return verdict(MemoryCause.NONE_SOLVES_WITHOUT)
    if not any(_at_the_top(arm, scale, len(solvers)) for arm in solvers):
        if beyond := [pair for pair in pairs if pair.beyond]:
            horizons = tuple((pair.arm.name, pair.horizon) for pair in beyond)
            span = environment.memory_span
            return verdict(MemoryCause.BEYOND_CREDIT_HORIZON, memory_span=span, horizons=horizons)
        if ahead := [pair.arm for pair in pairs if _pulls_ahead(pair, scale)]:
            return verdict(MemoryCause.STILL_PULLS_AHEAD, arms=_names(ahead))
    return verdict(
        MemoryCause.SOLVED_WITHOUT_MEMORY,
        MemoryKind.NOT_NEEDED,
        arms=_names(pair.arm for pair in pairs),
        memoryless=_levels(solvers, scale),
        hurt=_names(pair.arm for pair in pairs if pair.hurts),
    )


def _memoryless(environment: Environment) -> list[Arm]:
    """Arms without memory that have a finished seed and are not inconsistent."""
    return [a for a in environment.arms.values() if not a.remembers and a.seeds and a.consistent is not False]


def _surely_short(arm: Arm, scale: Scale) -> bool:
    """Whether the arm's mean is significantly below 75 % of the way. The error of the scale itself counts."""
    if scale.best_arm == arm.name:
        return False
    gap = contrast((SOLVED, scale.top), (1 - SOLVED, scale.random), (-1.0, arm.finals))
    return gap.p_above() <= level(len(arm.seeds))


def _about_to_solve(arm: Arm, scale: Scale) -> bool:
    """Whether the arm surely rises, and would solve after another third of the budget at the slope of the last."""
    change = contrast((1.0, projected_changes(arm)))
    rises = change.p_above() <= level(len(arm.seeds)) and change.estimate > TOLERANCE * scale.span
    return rises and float(arm.finals.mean()) + change.estimate >= scale.solved


def _pulls_ahead(pair: Pair, scale: Scale) -> bool:
    """Whether memory surely gains on the twin, and would matter after another third of the budget at these slopes."""
    lead = contrast((1.0, projected_changes(pair.arm)), (-1.0, projected_changes(pair.twin)))
    gains = lead.p_above() <= level(pair.seeds) and lead.estimate > TOLERANCE * scale.span
    return gains and pair.final.estimate + lead.estimate > SMALLEST_EFFECT * scale.span


def _at_the_top(arm: Arm, scale: Scale, claims: int) -> bool:
    """Whether the arm surely ends so close to a known ceiling that no memory could add what matters."""
    if scale.best_arm is not None:
        return False
    gap = contrast((1.0, arm.finals), (SMALLEST_EFFECT - 1.0, scale.top), (-SMALLEST_EFFECT, scale.random))
    return gap.p_above() <= level(len(arm.seeds), claims)


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
