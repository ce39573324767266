"""What to run next, in sentences: only what follows from the verdicts and plans by itself."""

from collections.abc import Sequence

from memexp.analysis.alpha_spending import MIN_SEEDS
from memexp.analysis.answer import EnvironmentAnswer
from memexp.analysis.formatting import joined, names_text
from memexp.analysis.knobs.suggest import Knob
from memexp.analysis.knobs.table import as_overrides
from memexp.analysis.learning import LearningState
from memexp.analysis.scale import solves
from memexp.analysis.sentences import knob_text, offers_text, plan_text
from memexp.analysis.sequential_plan import DEFAULT_SEEDS, Action, PlanCause
from memexp.analysis.verdicts import NOT_REACHED, MemoryKind, MemoryVerdict, Reach
from memexp.config import count_name
from memexp.formatting import counted

SAID_ONCE = (PlanCause.NO_CEILING, PlanCause.STILL_RISES)  # of all arms together, in another sentence


def next_steps(answer: EnvironmentAnswer) -> list[str]:
    """Sentences, the most useful first."""
    steps: list[str] = []
    environment, arms = answer.environment, answer.environment.arms
    # A run that cannot change a verdict is neither waited for nor repeated.
    actions = (Action.RUN, Action.WAIT, Action.LONGER)
    going_on = [arm for name, arm in arms.items() if answer.plans[name].action in actions]
    unfinished = [seed for arm in going_on for seed in arm.partial]
    if running := [seed.run for seed in unfinished if seed.status == "running"]:
        verb = "is" if len(running) == 1 else "are"
        steps.append(f"wait for the {counted(len(running), 'run')} that {verb} not finished: {names_text(running)}")
    if ended := [seed.run for seed in unfinished if seed.status in ("failed", "preempted", "cancelled")]:
        steps.append(
            f"launch the matrix again: {counted(len(ended), 'run')} did not get to the end: {names_text(ended)}"
        )
    if environment.random_level is None:
        steps.append("measure the random policy (evaluation.random_episodes > 0): without it returns have no scale")
    if not any(arm.remembers for arm in arms.values()):
        steps.append("run an architecture with memory and its memory-ablated twin (twins: true): no arm can remember")
    steps += _first_seeds(answer)
    for name, arm in arms.items():
        if arm.remembers and not environment.twins(name):
            steps.append(f"run the memory-ablated twin of arm {name} (twins: true in the matrix file)")
        if arm.consistent is False:
            recipe = arm.info.recipe or "RECIPE"
            steps.append(f"memexp doctor {recipe}: arm {name} acts and learns with different log-probabilities")
    verdict, scale = answer.memory.verdict, answer.scale
    if _too_short(verdict) and verdict.reach:
        steps.insert(0, _raise(verdict.reach))
    if verdict.kind in (MemoryKind.UNDECIDED, MemoryKind.HELPS):
        steps += _more_seeds(answer)
    if scale is not None and scale.solved is None:
        steps.append(offers_text(environment.offers))
    nobody = all(arm.learning.state is LearningState.NOT_LEARNED for arm in answer.arms.values())
    longer = any(plan.action is Action.LONGER for plan in answer.plans.values())
    knobs = _knob_steps(answer.knobs)
    return knobs + steps if nobody or longer else steps + knobs


def _too_short(verdict: MemoryVerdict) -> bool:
    """Whether a part that nobody reached may be beyond what training could connect."""
    return verdict.cause in NOT_REACHED and verdict.reach is not None and bool(verdict.reach.knobs)


def _raise(reach: Reach) -> str:
    known = joined(f"{'an unknown number' if n is None else n} in {arm}" for arm, n in reach.horizons)
    return f"raise {' or '.join(reach.knobs)} until training connects {reach.needed} steps (now {known})"


def _first_seeds(answer: EnvironmentAnswer) -> list[str]:
    """New seeds of arms that have too few for any verdict; arms that lack as many share a sentence."""
    lacking: dict[tuple[int, int], list[str]] = {}
    for name, arm in answer.environment.arms.items():
        known = {seed.info.seed for seed in arm.partial}
        new = [number for number in answer.plans[name].seeds if number not in known]
        if new and len(arm.seeds) < MIN_SEEDS:
            lacking.setdefault((len(arm.seeds), len(new)), []).append(name)
    return [
        f"run {counted(new, 'more seed')} of arm{'' if len(names) == 1 else 's'} {', '.join(names)} "
        f"(--seeds {DEFAULT_SEEDS}): {have or 'none'} finished, {MIN_SEEDS} are the least that can decide"
        for (have, new), names in sorted(lacking.items())
    ]


def _knob_steps(knobs: Sequence[Knob]) -> list[str]:
    measured = [knob for knob in knobs if knob.suggestion]
    steps: list[str] = []
    for knob in measured[:1]:
        which = "it" if len(measured) == 1 else f"all {len(measured)} of `knobs`"
        settings = as_overrides(knob.suggestion.settings) if knob.suggestion else ""
        steps.append(
            f"turn a knob: {settings}. {knob_text(knob)} `memexp launch pilots` with the matrix file tries {which} "
            "cheaply; whatever learns there, test it on the unchanged task again"
        )
    for knob in knobs:
        if knob.steps:
            steps.append(f"train longer (--steps {count_name(knob.steps)}): {knob_text(knob)}")
        elif not knob.suggestion:
            steps.append(f"change {knob.cause.what}: {knob_text(knob)}")
    return steps


def _more_seeds(answer: EnvironmentAnswer) -> list[str]:
    """The seeds planned for the pairs that can be compared already, or why more seeds do not help."""
    sentences: list[str] = []
    for name, pair in answer.memory.pairs.items():
        if pair.left_out or answer.plans[name].action is Action.LONGER:
            continue
        plans = answer.plans[name], answer.plans[pair.twin.name]
        if more := max(len(plan.seeds) for plan in plans):
            target = max(plan.target or 0 for plan in plans)
            sentences.append(
                f"run {counted(more, 'more seed')} of arms {name} and {pair.twin.name} (--seeds {target}) to decide"
            )
        elif answer.memory.pair_verdicts[name].kind is MemoryKind.UNDECIDED and plans[0].cause not in SAID_ONCE:
            sentences.append(f"arms {name} and {pair.twin.name}: {plan_text(plans[0])}")
    finished, scale = [one.arm for one in answer.arms.values() if one.arm.seeds], answer.scale
    can_tell = finished and scale is not None and scale.solved is not None and not _too_short(answer.memory.verdict)
    if can_tell and not answer.knobs and not any(solves(arm, scale) for arm in finished):
        steps = count_name(2 * answer.environment.budget)
        sentences.append(f"train longer (--steps {steps}) or start easier: no arm solves it")
    return sentences
