"""Verdicts, causes and plans as sentences. All prose about an answer is written here and in `recommendations`."""

import math
from collections.abc import Sequence

from memexp.analysis.alpha_spending import MIN_SEEDS
from memexp.analysis.convergence import COLLAPSE, FAR, Convergence, ConvergenceCause, Solved
from memexp.analysis.credit_horizon import ENOUGH, Sweep, SweepCause
from memexp.analysis.forecast import Forecast, NoForecast, NoForecastCause
from memexp.analysis.formatting import interval, joined, kind_text, number, share
from memexp.analysis.knobs.find import Knob, KnobCause
from memexp.analysis.knobs.suggest import Suggestion
from memexp.analysis.knobs.table import as_overrides, measured
from memexp.analysis.learning import Entropy, Learning, LearningCause
from memexp.analysis.memory_verdict import SOLVING_RATE, Memory
from memexp.analysis.pairs import SMALLEST_EFFECT
from memexp.analysis.power import DESIGNS, POWER
from memexp.analysis.scale import SOLVED
from memexp.analysis.seeds import FINAL_SHARE
from memexp.analysis.sequential_plan import Action, AnsweredCause, Plan, PlanCause, UntilAnswered
from memexp.analysis.statistics import Contrast
from memexp.analysis.verdicts import Effect, LeftOut, LeftOutCause, MemoryCause, MemoryKind, MemoryVerdict
from memexp.config import count_name


def memory_text(memory: Memory) -> str:
    """The environment's memory verdict, and which arms do not count."""
    text = verdict_text(memory.verdict)
    if memory.left_out:
        text += f" Left out: {'; '.join(f'{name} ({left_out_text(why)})' for name, why in memory.left_out.items())}."
    if memory.inconsistent:
        text += f" Inconsistent without memory, not counted: {', '.join(memory.inconsistent)}."
    return text


def left_out_text(why: LeftOut) -> str:
    match why.cause:
        case LeftOutCause.NO_TWIN:
            return "no memory-ablated twin"
        case LeftOutCause.NO_FINISHED_RUN:
            return f"no finished run of {why.arm}"
        case LeftOutCause.INCONSISTENT:
            return f"inconsistent: max_logprob_gap {why.gap:.2g} > {why.limit:g} in {why.run}"
        case LeftOutCause.FEW_SEEDS:
            return f"{why.seeds[0]} v {why.seeds[1]} finished seeds, {MIN_SEEDS} v {MIN_SEEDS} are the least"


def verdict_text(verdict: MemoryVerdict) -> str:
    """Why the memory verdict of an environment or a pair is what it is."""
    top = f"the best arm ({verdict.best_arm}; no ceiling is known)" if verdict.best_arm else "the ceiling"
    way = f"of the way from the random policy to {top}"
    effects = joined(f"{effect_text(effect)} in {effect.arm}" for effect in verdict.effects)
    gains = f"Memory adds {effects} (shares {way})"
    arms, several = joined(verdict.arms), len(verdict.arms) > 1
    match verdict.cause:
        case MemoryCause.PAIR_LEFT_OUT:
            return left_out_text(verdict.left_out) if verdict.left_out else ""
        case MemoryCause.NO_ARM_REMEMBERS:
            return "No arm can remember."
        case MemoryCause.NO_PAIR:
            return "No architecture can be compared with its twin."
        case MemoryCause.RANDOM_NOT_MEASURED:
            return "The random policy's return was not measured, so returns have no scale."
        case MemoryCause.NO_ARM_ABOVE_RANDOM:
            return "Nothing learned: no arm is above the random policy, so memory had nothing to show."
        case MemoryCause.NO_PAIR_LEARNED:
            return "Nothing learned: neither an architecture nor its twin is above the random policy."
        case MemoryCause.MEMORYLESS_SEED_SOLVES:
            return f"{gains}, but {_solving_seed_text(verdict)}."
        case MemoryCause.NO_ARM_SOLVES:
            return (
                f"{gains}; {SOLVED:.0%} of the way, with an effect surely above {SMALLEST_EFFECT:g}, "
                "is reached by none."
            )
        case MemoryCause.SPREAD_CANNOT_EXCLUDE:
            return (
                f"{gains}; these seeds cannot exclude that {', '.join(verdict.arms)} would get {SOLVED:.0%} of the way "
                "without."
            )
        case MemoryCause.MEMORYLESS_STILL_RISES:
            return (
                f"{gains}; {arms} still {'rise' if several else 'rises'} and would get {SOLVED:.0%} of the way in "
                "another third of the steps."
            )
        case MemoryCause.FEW_SEEDS_CANNOT_EXCLUDE:
            return (
                f"{gains}; the few seeds of {', '.join(verdict.arms)} cannot exclude that {SOLVING_RATE:.0%} of the "
                "runs solve it without."
            )
        case MemoryCause.SOLVED_WITH_MEMORY_ALONE:
            (best,) = verdict.memoryless
            return (
                f"{arms} {'get' if several else 'gets'} at least {SOLVED:.0%} {way}; without memory the best "
                f"({best.arm}) gets {best.share:.0%}. Memory adds {effects}."
            )
        case MemoryCause.EFFECT_UNCERTAIN:
            spans = ", ".join(f"{effect.arm} {effect_text(effect)}" for effect in verdict.effects)
            return f"The effect of memory is neither significant nor surely within {SMALLEST_EFFECT:g} {way}: {spans}."
        case MemoryCause.NONE_SOLVES_WITHOUT:
            return (
                f"With and without memory the arms end at the same level, but without it none gets {SOLVED:.0%} "
                f"{way}: memory may be what the rest takes."
            )
        case MemoryCause.BEYOND_CREDIT_HORIZON:
            far = ", ".join(f"{arm} {horizon or 'unknown'}" for arm, horizon in verdict.horizons)
            return (
                f"Memory adds nothing, but the task's memory span of {verdict.memory_span} steps is beyond what "
                f"training could connect ({far}): a longer horizon or mem_len first."
            )
        case MemoryCause.STILL_PULLS_AHEAD:
            return (
                f"Memory adds nothing yet, but {arms} still {'gain' if several else 'gains'} on the twin: in "
                f"another third of the steps the lead would be more than {SMALLEST_EFFECT:g}."
            )
        case MemoryCause.SOLVED_WITHOUT_MEMORY:
            levels = joined(f"{level.arm} gets {level.share:.0%}" for level in verdict.memoryless)
            harm = f" It even costs {joined(verdict.hurt)} return." if verdict.hurt else ""
            return f"Without memory {levels} {way}; memory adds less than {SMALLEST_EFFECT:g} in {arms}.{harm}"


def _solving_seed_text(verdict: MemoryVerdict) -> str:
    seed = verdict.solving_seed
    if seed is None:
        return ""
    later = ", and loses it again" if seed.lost else ""
    return f"a policy without memory gets {seed.share:.0%} of the way too ({seed.arm}, seed {seed.seed}{later})"


def effect_text(effect: Effect) -> str:
    """'+0.45 [+0.40, +0.50]'."""
    return f"{number(effect.estimate)} {interval(effect.interval)}"


def learning_text(learning: Learning) -> str:
    gain, n = learning.gain, learning.seeds
    chance = f" {_entropy_text(learning.entropy)}." if learning.entropy and learning.at_chance else ""
    if gain is None:
        if learning.cause is LearningCause.NO_FINISHED_RUN:
            return "no finished run"
        return "the random policy's return was not measured (random_return in run.json)"
    few, enough = f"gain over the random policy {gain.estimate:+.3g}", _gain_text(gain)
    seeds = f"{n} {'seed' if n == 1 else 'seeds'}"
    match learning.cause:
        case LearningCause.FEW_SEEDS_AT_CHANCE:
            return f"{few}: nothing learned at this budget.{chance} {seeds} cannot tell whether others would learn"
        case LearningCause.FEW_SEEDS:
            return (
                f"{few}, but {seeds} can show neither learning nor its absence: {MIN_SEEDS} are the least, 5 the "
                "default"
            )
        case LearningCause.SEEDS_SOLVE:
            return f"{learning.solving} of {n} seeds solve it, which the random policy does not; {enough}"
        case LearningCause.STILL_RISING:
            return f"{enough}, but still rising: too early to tell"
        case LearningCause.NOTHING_LEARNED:
            return f"{enough}: nothing learned at this budget.{chance}"
        case LearningCause.NO_SCALE:
            return f"{enough}; no ceiling and no arm above random say how much a gain is worth.{chance}"
        case LearningCause.SPREAD_TOO_WIDE:
            known = math.isfinite(learning.detectable)
            could = f", and these seeds show no gain below {learning.detectable:.2g} reliably" if known else ""
            return f"{enough}: at least {learning.floor:.3g} would count as learning{could}.{chance}"
        case _:
            return enough


def _gain_text(gain: Contrast) -> str:
    low, high = gain.interval(0.90)
    p = "< 0.001" if gain.p_above() < 0.001 else f"{gain.p_above():.3f}"
    return (
        f"gain over the random policy {gain.estimate:+.3g} (90 % interval {low:+.3g} to {high:+.3g}, one-sided p {p})"
    )


def _entropy_text(entropy: Entropy) -> str:
    return (
        f"The policy is as random as at the start: entropy {entropy.start:.3f} -> {entropy.end:.3f}, "
        f"{entropy.share:.1%} of ln(actions) = {entropy.chance:.3f}"
    )


def convergence_text(found: Convergence) -> str:
    """Why the convergence verdict is what it is, and whether the seeds of the arm disagree."""
    solved = found.solved
    text = _convergence_cause_text(found)
    return f"{text}; {_disagreement_text(solved)}" if solved.disagree else text


def _convergence_cause_text(found: Convergence) -> str:
    match found.cause:
        case ConvergenceCause.NO_FINISHED_RUN:
            return "no finished run"
        case ConvergenceCause.NO_SCALE:
            return "nothing to scale a change with: no ceiling and no arm above random"
        case ConvergenceCause.SEEDS_COLLAPSED:
            return (
                f"{found.collapsed} of {found.solved.of} seeds lost at least {COLLAPSE:.0%} of the scale since their "
                f"best {FINAL_SHARE:.0%} of the steps"
            )
        case ConvergenceCause.NOT_LEARNED:
            return "not shown to have learned: a flat curve would say nothing"
        case ConvergenceCause.FEW_SEEDS:
            return f"{found.solved.of} seeds; {MIN_SEEDS} are the least"
        case ConvergenceCause.FEW_EPISODES:
            return "too few episodes in the last third for a slope"
        case ConvergenceCause.PROJECTED_CHANGE:
            change = found.change or Contrast(math.nan, math.nan, 1.0)
            low, high = change.interval(0.90)
            return (
                f"projected over another third: {change.estimate:+.1%} of the scale (90 % interval {low:+.1%} to "
                f"{high:+.1%})"
            )


def _disagreement_text(solved: Solved) -> str:
    return f"seeds disagree: {solved.seeds} of {solved.of} solve it, {solved.far} end below {FAR:.0%} of the way"


def forecast_text(found: Forecast | NoForecast | None) -> str:
    if found is None:
        return ""
    if isinstance(found, Forecast):
        return (
            f"{found.family} curves predicted the last third with an error of {found.error:.3f} of the scale, "
            f"'as it is now' with {found.persistence:.3f}"
        )
    match found.cause:
        case NoForecastCause.ONE_SEED:
            return "one seed has no spread to extrapolate with"
        case NoForecastCause.FEW_EPISODES:
            return "too few episodes for a curve"
        case NoForecastCause.NO_FAMILY_PREDICTS:
            return (
                f"no extrapolation: 'as it is now' predicted the last third as well (error {found.persistence:.3f} of "
                f"the scale) as the best curve did ({found.family}, {found.error:.3f})"
            )


def sweep_text(sweep: Sweep) -> str:
    match sweep.cause:
        case SweepCause.NO_MEMORYLESS_ARM:
            return "no memoryless arm to measure the effect from"
        case SweepCause.NO_EFFECT:
            return "no length of memory has a significant effect"
        case SweepCause.FOUND:
            sure = f"at most {sweep.at_most}" if sweep.at_most is not None else "no tested length is surely enough"
            return (
                f"the shortest {sweep.knob} with {ENOUGH:.0%} of the effect is {sweep.estimate} "
                f"(at least {sweep.at_least}, {sure})"
            )


def plan_text(plan: Plan) -> str:
    """Why an arm gets more seeds, or none."""
    text = _plan_cause_text(plan)
    return f"{text}; {plan.running} running" if plan.action is Action.WAIT else text


def _plan_cause_text(plan: Plan) -> str:
    kind = kind_text(plan.verdict.kind) if plan.verdict else ""
    match plan.cause:
        case PlanCause.INCONSISTENT:
            return "acts and learns with different log-probabilities: more seeds of it mean nothing"
        case PlanCause.ENVIRONMENT_CERTAIN:
            return f"the environment's verdict is certain: {kind}"
        case PlanCause.NOBODY_LEARNED:
            return "neither it nor its twin learned: steps and knobs help, seeds do not"
        case PlanCause.FEW_SEEDS:
            return f"{MIN_SEEDS} seeds are the least that can decide"
        case PlanCause.NO_PAIR:
            return "has no pair to decide: the default number of seeds"
        case PlanCause.PAIR_CERTAIN:
            return f"verdict certain: {kind}"
        case PlanCause.EFFECT_SMALL:
            reason = verdict_text(plan.verdict) if plan.verdict else ""
            return f"its effect is surely small, more seeds cannot say more. {reason}"
        case PlanCause.MAY_BE_REQUIRED:
            return "helps; more seeds may show that it is required"
        case PlanCause.DEFAULT_FIRST:
            return "undecided: the default number of seeds first"
        case PlanCause.SEEDS_CANNOT_DECIDE:
            return f"{DESIGNS[-1]} seeds would not decide at this spread: make the seeds more alike, or train longer"
        case PlanCause.SEEDS_WOULD_DECIDE:
            return f"undecided: {plan.target} seeds would decide with {POWER:.0%} probability"


def until_answered_text(found: UntilAnswered, kind: MemoryKind) -> str:
    match found.cause:
        case AnsweredCause.ANSWERED:
            return f"answered: {kind_text(kind)}"
        case AnsweredCause.SEEDS_DO_NOT_HELP:
            return "more seeds alone would not answer it: see what is proposed next"
        case AnsweredCause.SEEDS_DECIDE:
            return f"seeds that decide with {POWER:.0%} probability if the truth is as it looks now"


def knob_text(knob: Knob) -> str:
    match knob.cause:
        case KnobCause.MEASURED:
            return f"{stage_text(knob.suggestion)} {suggestion_text(knob.suggestion)}" if knob.suggestion else ""
        case KnobCause.NO_REWARD:
            return (
                "the random policy's return is 0 and so is every arm's: without a sampled reward there is no gradient. "
                "Start nearer to the goal, shorten the task, or shape the reward; the network comes last"
            )
        case KnobCause.STILL_IMPROVING:
            return f"still improving at {count_name(knob.budget or 0)} agent steps: {', '.join(knob.arms)}"
        case KnobCause.NO_ARM_ABOVE_RANDOM:
            return (
                "no arm is above the random policy although it does get return: more steps, or an easier task to start "
                "on"
            )


def stage_text(found: Suggestion) -> str:
    """Where exploration ends as things are."""
    where = found.stage
    taken = f", although {share(where.before_share)} reach {where.before}" if where.before else ""
    return f"Exploration ends at {where.milestone}: {share(where.share)} of the agents reach it{taken}."


def suggestion_text(found: Suggestion) -> str:
    """What the settings were seen to change, when, and how to measure it here."""
    before, after, table = found.before, found.predicted, measured()
    if found.moved:
        parts = [
            f"{name} from {share(before.funnel.get(name, 0.0))} to {share(after.funnel.get(name, 0.0))}"
            for name in found.moved
        ]
        parts += [f"return from {before.mean:.2g} to {after.mean:.2g}"] if after.mean > before.mean else []
        text = f"With it the random policy gets {', '.join(parts)}"
    else:
        text = (
            f"With it the random policy is paid {after.mean:.2g} an episode on the way, instead of {before.mean:.2g}; "
            "nobody comes further by that alone, and a policy may stop at what is paid"
        )
    text += f" (measured {table.date}, {table.episodes} episodes"
    if found.elsewhere:
        command = f"memexp funnel {found.env} {as_overrides(found.elsewhere)}"
        text += f", on the defaults instead of these knobs; here: `{command}`"
    return f"{text})."


def names_text(names: Sequence[str], most: int) -> str:
    """The first `most` names, and whether there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
