"""Verdicts, causes and plans as sentences: puts the numbers into the sentence that is the value of each cause."""

import math
from collections.abc import Sequence

from memexp.analysis.alpha_spending import MIN_SEEDS
from memexp.analysis.convergence import COLLAPSE, FAR, Convergence
from memexp.analysis.credit_horizon import ENOUGH, Sweep
from memexp.analysis.forecast import Forecast, NoForecast
from memexp.analysis.formatting import interval, joined, kind_text, names_text, number
from memexp.analysis.knobs.suggest import Knob, Suggestion
from memexp.analysis.knobs.table import as_overrides, measured
from memexp.analysis.learning import POWER, Learning
from memexp.analysis.look_back import LookBack
from memexp.analysis.memory_verdict import SOLVING_RATE, Memory
from memexp.analysis.pairs import SMALLEST_EFFECT
from memexp.analysis.seeds import FINAL_SHARE
from memexp.analysis.sequential_plan import DESIGNS, Action, Plan, UntilAnswered
from memexp.analysis.verdicts import LeftOut, MemoryKind, MemoryVerdict, NearMiss, Reach
from memexp.config import count_name
from memexp.formatting import counted, percent


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
    way = f"of the way from the random policy to {verdict.top}"
    effects = joined(f"{number(one.estimate)} {interval(one.interval)} in {one.arm}" for one in verdict.effects)
    seed = verdict.solving_seed
    return verdict.cause.value.format(
        left_out=left_out_text(verdict.left_out) if verdict.left_out else "",
        way=way,
        effects=effects,
        gains=f"Memory adds {effects}, as shares {way}.",
        arms=joined(verdict.arms),
        solved=percent(verdict.solved),
        smallest=SMALLEST_EFFECT,
        rate=percent(SOLVING_RATE),
        seeds=verdict.seeds,
        reach=f" {reach_text(verdict.reach)}" if verdict.reach else "",
        rest=percent(verdict.rest),
        near_misses="".join(f" {near_miss_text(miss)}" for miss in verdict.near_misses),
        offers=offers_text(verdict.offers),
        far=ends_text(verdict.far),
        memoryless=joined(f"{arm} reaches {percent(share)}" for arm, share in verdict.memoryless),
        harm=f" It even costs return in {joined(verdict.hurt)}." if verdict.hurt else "",
        seed=seed
        and f"seed {seed.seed} of {seed.arm} reaches {percent(seed.share)} of the way without memory"
        + (", and loses it again" if seed.lost else ""),
    )


def reach_text(reach: Reach) -> str:
    """What training could connect, beside what the task asks, and which setting makes it longer."""
    known = joined(f"{'an unknown number of' if n is None else n} steps ({arm})" for arm, n in reach.horizons)
    task = f"the task asks to remember {reach.span}" if reach.span is not None else ""
    episode = f"an episode has up to {reach.episode}" if reach.episode is not None else ""
    asked = f"; {task or episode}" if task or episode else ""
    raised = f": raise {' or '.join(reach.knobs)}" if reach.knobs else ""
    assumed = f" This assumes that {joined(reach.assumed)} keeps a recurrent state." if reach.assumed else ""
    return f"Training could connect {known}{asked}{raised}.{assumed}"


def near_miss_text(miss: NearMiss) -> str:
    more = f": {counted(miss.more, 'more seed')} would do if it stays there" if miss.more else ""
    return (
        f"The interval of {miss.arm} excludes 0, but p = {miss.p:.3g}, and this look allows {miss.allowed:.3g}{more}."
    )


def offers_text(offers: Sequence[str]) -> str:
    """What to do where no ceiling is known."""
    text = "no ceiling is known: give `ceiling_return:` or `solved_return:` of the environment in the matrix file, or "
    return text + (f"compare with {' or '.join(offers)}" if offers else "compare with a fully observed `partner:`")


def ends_text(runs: Sequence[str]) -> str:
    """'a.s0 and a.s3 end'."""
    return f"{names_text(runs)} {'ends' if len(runs) == 1 else 'end'}"


def left_out_text(why: LeftOut) -> str:
    return why.cause.value.format(**vars(why), least=MIN_SEEDS)


def learning_text(learning: Learning) -> str:
    entropy, gain = learning.entropy, learning.gain
    few = enough = chance = detectable = ""
    if gain:
        low, high = gain.interval(0.90)
        p = "< 0.001" if gain.p_above() < 0.001 else f"{gain.p_above():.3f}"
        few = f"The gain over the random policy is {gain.estimate:+.3g}"
        enough = f"{few} (90 % interval {low:+.3g} to {high:+.3g}, one-sided p {p})."
    if entropy and learning.at_chance:
        chance = (
            f" The policy is as random as at the start: entropy {entropy.start:.3f} -> {entropy.end:.3f}, "
            f"{entropy.share:.1%} of ln(actions) = {entropy.chance:.3f}."
        )
    if math.isfinite(learning.detectable):
        detectable = f" These seeds would not reliably show a gain below {learning.detectable:.2g}."
    return learning.cause.value.format(
        few=f"{few}.",
        enough=enough,
        chance=chance,
        detectable=detectable,
        seeds=counted(learning.seeds, "seed"),
        solving=learning.solving,
        least=MIN_SEEDS,
        floor=learning.floor,
        far=ends_text(learning.far),
        spread=learning.spread,
    )


def convergence_text(found: Convergence) -> str:
    """Why the convergence verdict is what it is, and whether the seeds of the arm disagree."""
    solved, change = found.solved, ""
    if found.change:
        low, high = found.change.interval(0.90)
        change = f"{found.change.estimate:+.1%} (90 % interval {low:+.1%} to {high:+.1%})"
    text = found.cause.value.format(
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
    if isinstance(found, NoForecast):
        return found.cause.value.format(**vars(found))
    if found is None:
        return ""
    return (
        f"{found.family} curves predicted the last third with an error of {found.error:.3f} of the scale, "
        f"'it stays as it is' with {found.persistence:.3f}"
    )


def sweep_text(sweep: Sweep) -> str:
    sure = f"at most {sweep.at_most}" if sweep.at_most is not None else "no tested length is surely enough"
    return sweep.cause.value.format(**vars(sweep), enough=percent(ENOUGH), sure=sure)


def look_back_text(found: LookBack) -> str:
    shorter = [k for k in found.steps if found.at_least is not None and k < found.at_least]
    sure = f"more than {shorter[-1]}, " if shorter else ""
    sure += f"at most {found.at_most}" if found.at_most is not None else "none is surely enough"
    sure = "one seed: no interval" if found.seeds == 1 else sure
    base = f"{found.whole:.3g} with it, {found.base:.3g} {'in the twin' if found.has_twin else 'with k = 0'}"
    facts = {**vars(found), "base": base, "longest": found.steps[-1]}
    return found.cause.value.format(**facts, enough=percent(ENOUGH), sure=sure)


def plan_text(plan: Plan) -> str:
    """Why an arm gets more seeds, or none."""
    text = plan.cause.value.format(
        kind=plan.verdict and kind_text(plan.verdict.kind),
        reason=plan.verdict and verdict_text(plan.verdict),
        least=MIN_SEEDS,
        most=DESIGNS[-1],
        target=plan.target,
        power=percent(POWER),
        arms=", ".join(plan.arms),
        miss=plan.miss and near_miss_text(plan.miss),
    )
    return f"{text}; {plan.running} running" if plan.action is Action.WAIT else text


def until_answered_text(found: UntilAnswered, kind: MemoryKind) -> str:
    return found.cause.value.format(kind=kind_text(kind), power=percent(POWER))


def knob_text(knob: Knob) -> str:
    found = knob.suggestion
    return knob.cause.why.format(
        stage=found and stage_text(found),
        suggestion=found and suggestion_text(found),
        budget=count_name((knob.steps or 0) // 2),
        arms=", ".join(knob.arms),
    )


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
