"""What to do about each arm (stop, fix, wait, or run which seeds), and what it costs until the question is answered.

Nothing is tested here. The plan reads the verdicts, whose levels allow for an analysis at every number of seeds
(`alpha_spending`). So stopping an arm never changes a verdict, and more seeds may be added at any time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from itertools import count, islice

import numpy as np
from scipy import special

from memexp.analysis.alpha_spending import MIN_SEEDS, level
from memexp.analysis.learning import POWER, Learning, LearningState
from memexp.analysis.memory_verdict import Memory
from memexp.analysis.pairs import SMALLEST_EFFECT
from memexp.analysis.scale import Scale, solves
from memexp.analysis.seeds import Arm, Environment, architecture_of
from memexp.analysis.verdicts import CANNOT_EXCLUDE, MemoryKind, MemoryVerdict

DESIGNS = (5, 10, 20)  # Proposed numbers of seeds an arm: most of the error is spent there
ROUNDS = 1000
DEFAULT_SEEDS = DESIGNS[0]


class Action(StrEnum):
    STOP = auto()
    FIX = auto()
    WAIT = auto()
    RUN = auto()


class PlanCause(Enum):
    INCONSISTENT = "acts and learns with different log-probabilities: more seeds of it mean nothing"
    ENVIRONMENT_CERTAIN = "the environment's verdict is certain: {kind}"
    NOBODY_LEARNED = "neither this architecture nor its twin learned: steps and knobs help, seeds do not"
    FEW_SEEDS = "{least} seeds are the minimum for a verdict"
    NO_PAIR = "has no pair to decide: the default number of seeds"
    PAIR_CERTAIN = "verdict certain: {kind}"
    EFFECT_SMALL = "the effect is surely too small to matter, so more seeds do not help. {reason}"
    MAY_BE_REQUIRED = "memory helps; more seeds may show that it is required"
    DEFAULT_FIRST = "undecided: the default number of seeds first"
    SEEDS_CANNOT_DECIDE = "{most} seeds would not decide at this spread: make the seeds more alike, or train longer"
    SEEDS_WOULD_DECIDE = "undecided: {target} seeds would decide with {power} probability"


@dataclass(frozen=True)
class Plan:
    """What to do about one arm."""

    cause: PlanCause
    target: int | None = None
    """Seeds that the arm should have; None: no further seeds."""
    action: Action = Action.STOP
    seeds: list[int] = field(default_factory=list[int])
    """Seeds to run."""
    running: int = 0
    """Runs under way that are waited for."""
    verdict: MemoryVerdict | None = None
    """The verdict that the cause is about."""


@dataclass(frozen=True)
class Cost:
    """Of runs that are still missing; None where no rate or price is known."""

    runs: int
    agent_steps: int
    hours: float | None
    dollars: float | None


class AnsweredCause(Enum):
    ANSWERED = "answered: {kind}"
    SEEDS_DO_NOT_HELP = "more seeds alone would not answer it: see what to run next"
    SEEDS_DECIDE = "these seeds decide with {power} probability if the truth is as it looks now"


@dataclass(frozen=True)
class UntilAnswered:
    """What it takes until the memory question is decided with 80 % probability."""

    cause: AnsweredCause
    seeds: int | None
    """Most seeds that an arm needs."""
    budget: int
    """Agent steps of a run."""
    total: Cost
    per_arm: dict[str, Cost]


def sequential_plan(
    environment: Environment, scale: Scale | None, memory: Memory, learned: Mapping[str, Learning]
) -> dict[str, Plan]:
    """The plan of every arm."""
    return {
        name: _with_action(arm, _target(arm, environment, scale, memory, learned))
        for name, arm in environment.arms.items()
    }


def _target(
    arm: Arm, environment: Environment, scale: Scale | None, memory: Memory, learned: Mapping[str, Learning]
) -> Plan:
    """How many seeds the arm should have, and why."""
    name = architecture_of(arm.name)
    members = [learned[member] for member in (name, f"{name}~") if member in learned]
    if arm.consistent is False:
        return Plan(PlanCause.INCONSISTENT)
    if is_final(environment, scale, memory):
        return Plan(PlanCause.ENVIRONMENT_CERTAIN, verdict=memory.verdict)
    if all(one.state is LearningState.NOT_LEARNED for one in members):
        return Plan(PlanCause.NOBODY_LEARNED)
    if len(arm.seeds) < MIN_SEEDS:
        return Plan(PlanCause.FEW_SEEDS, DEFAULT_SEEDS)
    if name not in memory.pairs:
        return Plan(PlanCause.NO_PAIR, DEFAULT_SEEDS)
    pair, verdict = memory.pairs[name], memory.pair_verdicts[name]
    may_be_required = verdict.cause in CANNOT_EXCLUDE and solves(environment.arms[name], scale)
    if verdict.kind is not MemoryKind.UNDECIDED and not may_be_required:
        return Plan(PlanCause.PAIR_CERTAIN, verdict=verdict)
    # The pair is not decided, or may still turn out to require memory.
    if scale and not pair.left_out and pair.negligible:
        return Plan(PlanCause.EFFECT_SMALL, verdict=verdict)
    if verdict.kind is MemoryKind.HELPS:
        return Plan(PlanCause.MAY_BE_REQUIRED, next((n for n in DESIGNS if n > pair.seeds), None))
    if pair.seeds < DEFAULT_SEEDS or scale is None:
        return Plan(PlanCause.DEFAULT_FIRST, DEFAULT_SEEDS)
    claims = sum(not one.left_out for one in memory.pairs.values())
    needed = seeds_needed(pair.arm.finals, pair.twin.finals, scale.span, max(claims, 1))
    return Plan(PlanCause.SEEDS_WOULD_DECIDE if needed else PlanCause.SEEDS_CANNOT_DECIDE, needed)


def _with_action(arm: Arm, plan: Plan) -> Plan:
    """stop, fix, wait for what already runs, or run seeds: first the failed ones again, then the lowest new ones."""
    if arm.consistent is False:
        return replace(plan, action=Action.FIX)
    if plan.target is None or len(arm.seeds) >= plan.target:
        return plan
    running = [seed.info.seed for seed in arm.partial if seed.status == "running"]
    ended = sorted(seed.info.seed for seed in arm.partial if seed.status != "running")
    known = {seed.info.seed for seed in (*arm.seeds, *arm.partial)}
    missing = max(0, plan.target - len(arm.seeds) - len(running))
    again = ended[:missing]
    chosen = again + list(islice((n for n in count() if n not in known), missing - len(again)))
    if not chosen:
        return replace(plan, action=Action.WAIT, running=len(running))
    return replace(plan, action=Action.RUN, seeds=chosen)


def until_answered(
    environment: Environment, scale: Scale | None, memory: Memory, plans: Mapping[str, Plan], improving: bool
) -> UntilAnswered:
    """The cost of the plans. If no arm solves it and one is still `improving`, all runs need as many steps again."""
    decided, arms = is_final(environment, scale, memory), environment.arms
    solved = any(solves(arm, scale) for arm in arms.values())
    longer = environment.budget if improving and not solved and not decided else 0
    costs = {name: _cost(arm, plans[name], longer) for name, arm in arms.items()}
    cause = AnsweredCause.SEEDS_DECIDE
    if decided:
        cause = AnsweredCause.ANSWERED
    elif not memory.pairs or not any(cost.agent_steps for cost in costs.values()):
        cause = AnsweredCause.SEEDS_DO_NOT_HELP
    return UntilAnswered(
        cause,
        max((plan.target for plan in plans.values() if plan.target is not None), default=None),
        environment.budget + longer,
        Cost(
            sum(cost.runs for cost in costs.values()),
            sum(cost.agent_steps for cost in costs.values()),
            _sum(cost.hours for cost in costs.values()),
            _sum(cost.dollars for cost in costs.values()),
        ),
        costs,
    )


def is_final(environment: Environment, scale: Scale | None, memory: Memory) -> bool:
    """Whether no further run can change the verdict. 'helps' is final where an arm without memory solves as well."""
    solved = any(solves(arm, scale) for arm in environment.arms.values() if not arm.remembers)
    kind = memory.verdict.kind
    return kind in (MemoryKind.REQUIRED, MemoryKind.NOT_NEEDED) or (kind is MemoryKind.HELPS and solved)


def _cost(arm: Arm, plan: Plan, longer: int) -> Cost:
    """Cost of the planned seeds, of the runs under way, and of `longer` more steps of each seed."""
    left = sum(max(0, arm.budget - seed.reached) for seed in arm.partial if seed.status == "running")
    goes_on = plan.action in (Action.RUN, Action.WAIT)
    steps = len(plan.seeds) * (arm.budget + longer) + len(arm.seeds) * longer + (left if goes_on else 0)
    hours = arm.hours_for(steps) if steps else 0.0
    return Cost(len(plan.seeds), steps, hours, arm.dollars_for(hours) if steps else 0.0)


def _sum(values: Iterable[float | None]) -> float | None:
    """None where a value is not known."""
    values = list(values)
    return None if None in values else sum(value for value in values if value is not None)


def seeds_needed(x: np.ndarray, y: np.ndarray, span: float, claims: int) -> int | None:
    """The first of DESIGNS, above the seeds at hand, that decides the pair in 80 % of the simulations.

    x [n] and y [m] are the observed returns, `claims` the pairs that share the error. None where 20 do not suffice.
    """
    have = min(len(x), len(y))
    return next((n for n in DESIGNS if n > have and decided(x / span, y / span, n, claims) >= POWER), None)


def decided(x: np.ndarray, y: np.ndarray, n: int, claims: int) -> float:
    """Share of simulated pairs of `n` seeds whose effect is significant, or surely below the smallest that matters.

    Simulated seeds are drawn from the observed ones, whose deviations are widened to the unbiased spread.
    """
    rng = np.random.default_rng(0)
    x, y = _redraw(rng, x, n), _redraw(rng, y, n)  # [rounds, n]
    # A draw of equal seeds has no spread: a tiny variance keeps the quotient finite.
    parts = np.maximum([x.var(axis=1, ddof=1) / n, y.var(axis=1, ddof=1) / n], 1e-18)
    gain, error = x.mean(axis=1) - y.mean(axis=1), parts.sum(axis=0) ** 0.5
    df: np.ndarray = (n - 1) * parts.sum(axis=0) ** 2 / (parts**2).sum(axis=0)
    negligible = special.stdtr(df, (gain - SMALLEST_EFFECT) / error) <= level(n)
    significant = special.stdtr(df, -gain / error) <= level(n, claims)
    return float((negligible | significant).mean())


def _redraw(rng: np.random.Generator, values: np.ndarray, n: int) -> np.ndarray:
    k = len(values)
    deviations = (values - values.mean()) * (k / (k - 1)) ** 0.5
    return values.mean() + deviations[rng.integers(0, k, (ROUNDS, n))]
