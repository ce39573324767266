"""Verdicts, causes and plans as sentences. All prose about an answer is written here and in `recommendations`."""

import math

from memexp.analysis.alpha_spending import MIN_SEEDS
from memexp.analysis.convergence import COLLAPSE, FAR, Convergence, ConvergenceCause
from memexp.analysis.credit_horizon import ENOUGH, Sweep, SweepCause
from memexp.analysis.forecast import Forecast, NoForecast, NoForecastCause
from memexp.analysis.formatting import interval, joined, kind_text, number
from memexp.analysis.knobs.find import Knob, KnobCause
from memexp.analysis.knobs.suggest import Suggestion
from memexp.analysis.knobs.table import as_overrides, measured
from memexp.analysis.learning import Learning, LearningCause
from memexp.analysis.memory_verdict import SOLVING_RATE, Memory
from memexp.analysis.pairs import SMALLEST_EFFECT
from memexp.analysis.power import DESIGNS, POWER
from memexp.analysis.scale import SOLVED
from memexp.analysis.seeds import FINAL_SHARE
from memexp.analysis.sequential_plan import Action, AnsweredCause, Plan, PlanCause, UntilAnswered
from memexp.analysis.statistics import Contrast
from memexp.analysis.verdicts import Effect, LeftOut, LeftOutCause, MemoryCause, MemoryKind, MemoryVerdict
from memexp.config import count_name
from memexp.formatting import counted, percent

MEMORY_TEXTS = {
    MemoryCause.PAIR_LEFT_OUT: "{left_out}",
    MemoryCause.NO_ARM_REMEMBERS: "No arm can remember.",
    MemoryCause.NO_PAIR: "No architecture can be compared with its twin.",
    MemoryCause.RANDOM_NOT_MEASURED: "The random policy's return was not measured, so returns have no scale.",
    MemoryCause.NO_ARM_ABOVE_RANDOM: "Nothing learned: no arm is above the random policy, so memory could not show an "
    "effect.",
    MemoryCause.NO_PAIR_LEARNED: "Nothing learned: no architecture and no twin is above the random policy.",
    MemoryCause.MEMORYLESS_SEED_SOLVES: "{gains} But {seed}.",
    MemoryCause.NO_ARM_SOLVES: "{gains} But no arm both reaches {solved} of the way and has an effect that is surely "
    "above {smallest:g}.",
    MemoryCause.SPREAD_CANNOT_EXCLUDE: "{gains} But with these seeds we cannot rule out that {arms} would reach "
    "{solved} of the way without memory.",
    MemoryCause.MEMORYLESS_STILL_RISES: "{gains} But the return of {arms} still rises: at this pace, another third of "
    "the steps would bring it to {solved} of the way without memory.",
    MemoryCause.FEW_SEEDS_CANNOT_EXCLUDE: "{gains} But with {seeds} seeds we cannot rule out that {arms} would solve "
    "the task in {rate} of the runs.",
    MemoryCause.SOLVED_WITH_MEMORY_ALONE: "With memory, at least {solved} {way} is reached by {arms}. Without memory, "
    "{memoryless}, which is the best. Memory adds {effects}.",
    MemoryCause.EFFECT_UNCERTAIN: "The effect of memory is neither significant (in final returns and in best windows) "
    "nor surely too small to matter (less than {smallest:g} {way}): {effects}.",
    MemoryCause.NONE_SOLVES_WITHOUT: "With and without memory, the arms end at the same level. But no arm without "
    "memory reaches {solved} {way}: the rest may need memory.",
    MemoryCause.BEYOND_CREDIT_HORIZON: "Memory adds nothing. But the task's memory span of {span} steps is beyond what "
    "training could connect ({horizons}). Train with a longer horizon or mem_len first.",
    MemoryCause.STILL_PULLS_AHEAD: "Memory adds nothing yet. But {arms} still gains on the twin: at this pace, the "
    "lead would be more than {smallest:g} after another third of the steps.",
    MemoryCause.SOLVED_WITHOUT_MEMORY: "Without memory, {memoryless} {way}. Memory adds less than {smallest:g} in "
    "{arms}.{harm}",
}


def memory_text(memory: Memory) -> str:
    """The environment's memory verdict, and which arms do not count."""
    text = verdict_text(memory.verdict)
    if memory.left_out:
        text += f" Left out: {'; '.join(f'{name} ({left_out_text(why)})' for name, why in memory.left_out.items())}."
    if memory.inconsistent:
        text += f" Inconsistent without memory, not counted: {', '.join(memory.inconsistent)}."
    return text


def verdict_text(verdict: MemoryVerdict) -> str:
    """Why the memory verdict of an environment or a pair is what it is."""
    top = f"the best arm ({verdict.best_arm}; no ceiling is known)" if verdict.best_arm else "the ceiling"
    way = f"of the way from the random policy to {top}"
    effects = joined(f"{effect_text(effect)} in {effect.arm}" for effect in verdict.effects)
    seed = verdict.solving_seed
    return MEMORY_TEXTS[verdict.cause].format(
        left_out=left_out_text(verdict.left_out) if verdict.left_out else "",
        way=way,
        effects=effects,
        gains=f"Memory adds {effects}, as shares {way}.",
        arms=joined(verdict.arms),
        solved=percent(SOLVED),
        smallest=SMALLEST_EFFECT,
        rate=percent(SOLVING_RATE),
        seeds=verdict.seeds,
        span=verdict.memory_span,
        horizons=", ".join(f"{arm} {horizon or 'unknown'}" for arm, horizon in verdict.horizons),
        memoryless=joined(f"{level.arm} reaches {percent(level.share)}" for level in verdict.memoryless),
        harm=f" It even costs return in {joined(verdict.hurt)}." if verdict.hurt else "",
        seed=seed
        and f"seed {seed.seed} of {seed.arm} reaches {percent(seed.share)} of the way without memory"
        + (", and loses it again" if seed.lost else ""),
    )


def left_out_text(why: LeftOut) -> str:
    match why.cause:
        case LeftOutCause.NO_TWIN:
            return "no memory-ablated twin"
        case LeftOutCause.NO_FINISHED_RUN:
            return f"no finished run of {why.arm}"
        case LeftOutCause.INCONSISTENT:
            return f"inconsistent: max_logprob_gap {why.gap:.2g} > {why.limit:g} in {why.run}"
        case LeftOutCause.FEW_SEEDS:
            return f"{why.seeds[0]} v {why.seeds[1]} finished seeds, the minimum is {MIN_SEEDS} v {MIN_SEEDS}"


def effect_text(effect: Effect) -> str:
    """'+0.45 [+0.40, +0.50]'."""
    return f"{number(effect.estimate)} {interval(effect.interval)}"


LEARNING_TEXTS = {
    LearningCause.NO_FINISHED_RUN: "No run has finished.",
    LearningCause.RANDOM_NOT_MEASURED: "The random policy's return was not measured (random_return in run.json).",
    LearningCause.FEW_SEEDS_AT_CHANCE: "{few} Nothing learned at this budget.{chance} {seeds} cannot show whether "
    "other seeds would learn.",
    LearningCause.FEW_SEEDS: "{few} {seeds} can show neither learning nor its absence. The minimum is {least}, the "
    "default 5.",
    LearningCause.ABOVE_RANDOM: "{enough}",
    LearningCause.SEEDS_SOLVE: "{solving} of {seeds} solve the task, which the random policy does not. {enough}",
    LearningCause.STILL_RISING: "{enough} The return is still rising: too early to tell.",
    LearningCause.NOTHING_LEARNED: "{enough} Nothing learned at this budget.{chance}",
    LearningCause.NO_SCALE: "{enough} No ceiling is known and no arm is above random, so a gain has no scale.{chance}",
    LearningCause.SPREAD_TOO_WIDE: "{enough} A gain of at least {floor:.3g} would be learning.{detectable}{chance}",
}


def learning_text(learning: Learning) -> str:
    entropy, gain = learning.entropy, learning.gain
    chance = detectable = ""
    if entropy and learning.at_chance:
        chance = (
            f" The policy is as random as at the start: entropy {entropy.start:.3f} -> {entropy.end:.3f}, "
            f"{entropy.share:.1%} of ln(actions) = {entropy.chance:.3f}."
        )
    if math.isfinite(learning.detectable):
        detectable = f" These seeds would not reliably show a gain below {learning.detectable:.2g}."
    return LEARNING_TEXTS[learning.cause].format(
        few=gain and f"The gain over the random policy is {gain.estimate:+.3g}.",
        enough=gain and _gain_text(gain),
        chance=chance,
        detectable=detectable,
        seeds=counted(learning.seeds, "seed"),
        solving=learning.solving,
        least=MIN_SEEDS,
        floor=learning.floor,
    )


def _gain_text(gain: Contrast) -> str:
    low, high = gain.interval(0.90)
    p = "< 0.001" if gain.p_above() < 0.001 else f"{gain.p_above():.3f}"
    return (
        f"The gain over the random policy is {gain.estimate:+.3g} (90 % interval {low:+.3g} to {high:+.3g}, "
        f"one-sided p {p})."
    )


CONVERGENCE_TEXTS = {
    ConvergenceCause.NO_FINISHED_RUN: "No run has finished.",
    ConvergenceCause.NO_SCALE: "Changes have no scale: no ceiling is known and no arm is above random.",
    ConvergenceCause.SEEDS_COLLAPSED: "{collapsed} of {seeds} end {lost} of the scale or more below their own best "
    "{window} of the steps.",
    ConvergenceCause.NOT_LEARNED: "The arm has not been shown to learn, so a flat curve would mean nothing.",
    ConvergenceCause.FEW_SEEDS: "{seeds}; the minimum is {least}.",
    ConvergenceCause.FEW_EPISODES: "The last third has too few episodes for a slope.",
    ConvergenceCause.PROJECTED_CHANGE: "At the slope of the last third, another third of the steps would change the "
    "return by {change} of the scale.",
}


def convergence_text(found: Convergence) -> str:
    """Why the convergence verdict is what it is, and whether the seeds of the arm disagree."""
    solved, change = found.solved, ""
    if found.change:
        low, high = found.change.interval(0.90)
        change = f"{found.change.estimate:+.1%} (90 % interval {low:+.1%} to {high:+.1%})"
    text = CONVERGENCE_TEXTS[found.cause].format(
        collapsed=found.collapsed,
        seeds=counted(solved.of, "seed"),
        lost=percent(COLLAPSE),
        window=percent(FINAL_SHARE),
        least=MIN_SEEDS,
        change=change,
    )
    if solved.disagree:
        text += f" The seeds disagree: {solved.seeds} of {solved.of} solve it, {solved.far} end below {percent(FAR)} "
        text += "of the way."
    return text


def forecast_text(found: Forecast | NoForecast | None) -> str:
    if found is None:
        return ""
    if isinstance(found, Forecast):
        return (
            f"{found.family} curves predicted the last third with an error of {found.error:.3f} of the scale, "
            f"'it stays as it is' with {found.persistence:.3f}"
        )
    match found.cause:
        case NoForecastCause.ONE_SEED:
            return "one seed has no spread to extrapolate with"
        case NoForecastCause.FEW_EPISODES:
            return "too few episodes for a curve"
        case NoForecastCause.NO_FAMILY_PREDICTS:
            return (
                f"no extrapolation: 'it stays as it is' predicted the last third about as well (error "
                f"{found.persistence:.3f} of the scale) as the best curve ({found.family}, {found.error:.3f})"
            )


def sweep_text(sweep: Sweep) -> str:
    match sweep.cause:
        case SweepCause.NO_MEMORYLESS_ARM:
            return "no arm without memory to measure the effect from"
        case SweepCause.NO_EFFECT:
            return "no length of memory has a significant effect"
        case SweepCause.FOUND:
            sure = f"at most {sweep.at_most}" if sweep.at_most is not None else "no tested length is surely enough"
            return (
                f"the shortest {sweep.knob} with {percent(ENOUGH)} of the effect is {sweep.estimate} "
                f"(at least {sweep.at_least}, {sure})"
            )


PLAN_TEXTS = {
    PlanCause.INCONSISTENT: "acts and learns with different log-probabilities: more seeds of it mean nothing",
    PlanCause.ENVIRONMENT_CERTAIN: "the environment's verdict is certain: {kind}",
    PlanCause.NOBODY_LEARNED: "neither this architecture nor its twin learned: steps and knobs help, seeds do not",
    PlanCause.FEW_SEEDS: "{least} seeds are the minimum for a verdict",
    PlanCause.NO_PAIR: "has no pair to decide: the default number of seeds",
    PlanCause.PAIR_CERTAIN: "verdict certain: {kind}",
    PlanCause.EFFECT_SMALL: "the effect is surely too small to matter, so more seeds do not help. {reason}",
    PlanCause.MAY_BE_REQUIRED: "memory helps; more seeds may show that it is required",
    PlanCause.DEFAULT_FIRST: "undecided: the default number of seeds first",
    PlanCause.SEEDS_CANNOT_DECIDE: "{most} seeds would not decide at this spread: make the seeds more alike, or train "
    "longer",
    PlanCause.SEEDS_WOULD_DECIDE: "undecided: {target} seeds would decide with {power} probability",
}


def plan_text(plan: Plan) -> str:
    """Why an arm gets more seeds, or none."""
    text = PLAN_TEXTS[plan.cause].format(
        kind=plan.verdict and kind_text(plan.verdict.kind),
        reason=plan.verdict and verdict_text(plan.verdict),
        least=MIN_SEEDS,
        most=DESIGNS[-1],
        target=plan.target,
        power=percent(POWER),
    )
    return f"{text}; {plan.running} running" if plan.action is Action.WAIT else text


def until_answered_text(found: UntilAnswered, kind: MemoryKind) -> str:
    match found.cause:
        case AnsweredCause.ANSWERED:
            return f"answered: {kind_text(kind)}"
        case AnsweredCause.SEEDS_DO_NOT_HELP:
            return "more seeds alone would not answer it: see what to run next"
        case AnsweredCause.SEEDS_DECIDE:
            return f"these seeds decide with {percent(POWER)} probability if the truth is as it looks now"


def knob_text(knob: Knob) -> str:
    match knob.cause:
        case KnobCause.MEASURED:
            return f"{stage_text(knob.suggestion)} {suggestion_text(knob.suggestion)}" if knob.suggestion else ""
        case KnobCause.NO_REWARD:
            return (
                "the random policy and every arm have return 0: without a sampled reward there is no gradient. "
                "Start closer to the goal, shorten the task, or shape the reward; change the network last"
            )
        case KnobCause.STILL_IMPROVING:
            return f"still improving at {count_name(knob.budget or 0)} agent steps: {', '.join(knob.arms)}"
        case KnobCause.NO_ARM_ABOVE_RANDOM:
            return "no arm is above the random policy, which does get return: more steps, or an easier start"


def stage_text(found: Suggestion) -> str:
    """Where exploration ends as things are."""
    where = found.stage
    before = f", although {percent(where.before_share)} reach {where.before}" if where.before else ""
    return f"Exploration ends at {where.milestone}: {percent(where.share)} of the agents reach it{before}."


def suggestion_text(found: Suggestion) -> str:
    """What the settings were seen to change, when, and how to measure it here."""
    before, after, table = found.before, found.predicted, measured()
    if found.moved:
        parts = [
            f"{name} from {percent(before.funnel.get(name, 0.0))} to {percent(after.funnel.get(name, 0.0))}"
            for name in found.moved
        ]
        parts += [f"return from {before.mean:.2g} to {after.mean:.2g}"] if after.mean > before.mean else []
        text = f"With these settings the random policy changes {', '.join(parts)}"
    else:
        text = (
            f"With these settings the random policy gets a return of {after.mean:.2g} an episode on the way, "
            f"instead of {before.mean:.2g}. It does not reach later milestones more often, and a policy may stop at "
            "these rewards"
        )
    text += f" (measured {table.date}, {table.episodes} episodes"
    if found.elsewhere:
        command = f"memexp funnel {found.env} {as_overrides(found.elsewhere)}"
        text += f", with default knobs instead of yours; to measure it with yours: `{command}`"
    return f"{text})."
