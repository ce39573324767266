"""The answer about one environment as text, table by table: what the page and the appendix are filled with."""

from collections.abc import Sequence
from typing import Any

from memexp.analysis import sentences
from memexp.analysis.answer import ArmAnswer, EnvironmentAnswer
from memexp.analysis.convergence import ConvergenceKind
from memexp.analysis.forecast import Forecast
from memexp.analysis.formatting import hours_text, interval, kind_text, number, title_of
from memexp.analysis.knobs.suggest import Knob
from memexp.analysis.knobs.table import as_overrides
from memexp.analysis.learning import LearningState
from memexp.analysis.recommendations import next_steps
from memexp.analysis.seeds import Arm
from memexp.analysis.sequential_plan import Plan
from memexp.analysis.tuning import tuning_texts
from memexp.analysis.verdicts import MemoryKind
from memexp.config import count_name
from memexp.formatting import counted, dollars, percent, short_count

LEARNING_STATES = {LearningState.TOO_EARLY: "too early to tell", LearningState.NOT_LEARNED: "not learned"}


def section(answer: EnvironmentAnswer) -> dict[str, Any]:
    """Everything that is said about one environment, without the pictures."""
    environment, memory, arms = answer.environment, answer.memory, answer.arms.values()
    random, ceiling = environment.random_mean, environment.ceiling
    converged = sum(arm.convergence.verdict is ConvergenceKind.CONVERGED for arm in arms)
    return {
        "answer": answer,
        "name": environment.name,
        "title": title_of(environment.name, memory.verdict.kind),
        "verdict": memory.verdict.kind,
        "reason": sentences.memory_text(memory),
        "effect": number(memory.effect) if memory.effect is not None else "",
        "effect_ci": interval(memory.interval),
        "random": "not measured" if random is None else f"{random:.3g}",
        "ceiling": "not known" if ceiling is None else f"{ceiling:.3g}",
        "solved": solved_text(answer),
        "learned": f"{sum(arm.learning.learned for arm in arms)} of {counted(len(arms), 'arm')}",
        "converged": f"{converged} of {counted(len(arms), 'arm')}",
        "fastest": _fastest(answer),
        "arms": [_arm(one, answer) for one in arms],
        "costs": [_cost(arm, answer.plans[name]) for name, arm in environment.arms.items()],
        "spent": spent_text(list(environment.arms.values())),
        "needed": _needed(answer),
        "budget": short_count(environment.budget),
        "more": _more(answer),
        "knobs": _knobs(answer.knobs),
        "next": next_steps(answer),
        "notes": environment.notes,
    }


def solved_text(answer: EnvironmentAnswer) -> str:
    """'475', or why nobody knows what counts as solved."""
    scale = answer.scale
    if scale is None:
        return "not known"
    return "not known: no ceiling is known" if scale.solved is None else f"{scale.solved:.4g}"


def _fastest(answer: EnvironmentAnswer) -> str:
    """'S~: 12k steps' for the arm with the lowest median time to solve."""
    if answer.scale is not None and answer.scale.solved is None:
        return "not known: no ceiling is known"
    medians = {name: one.time.median.estimate for name, one in answer.arms.items()}
    known = {name: steps for name, steps in medians.items() if steps is not None}
    if not known:
        return "no arm in half of its seeds"
    first = min(known, key=lambda name: known[name])
    took = answer.arms[first].time
    return ", ".join([f"{first}: {short_count(known[first])} steps", *_price(took.hours, took.dollars)])


def _price(hours: float | None, amount: float | None) -> list[str]:
    """Texts of hours and dollars, as far as they are known."""
    return [text(value) for text, value in ((hours_text, hours), (dollars, amount)) if value is not None]


def _arm(one: ArmAnswer, answer: EnvironmentAnswer) -> dict[str, Any]:
    """One line of the table of verdicts."""
    arm, settled, took, n = one.arm, one.convergence, one.time, len(one.arm.seeds)
    (low, high), median, ahead, at = one.interval, took.median.estimate, settled.forecast, settled.at_agent_steps
    gap = arm.worst.max_gap if arm.worst else None
    pair, left_out = answer.memory.pairs.get(arm.name), answer.memory.left_out.get(arm.name)
    effect, verdict = pair.effect if pair else None, answer.memory.kind_of(arm.name)
    forecast = sentences.forecast_text(ahead) if settled.change else ""
    if isinstance(ahead, Forecast):
        gain = f"{number(ahead.gain)} {interval(ahead.ci)}"
        forecast = f"{ahead.family} curve: {gain} of the scale by {short_count(ahead.until)} steps"
    solved = [f"{n - took.censored} of {counted(n, 'seed')}"] if took.threshold is not None else []
    return {
        "name": arm.name,
        "twin": arm.info.memory == "off",
        "seeds": counted(n, "seed") + (f", {len(arm.partial)} unfinished" if arm.partial else ""),
        "final": "–" if one.iqm is None else f"{one.iqm:.3g}",
        "final_ci": "" if low != low else f"[{low:.3g}, {high:.3g}]",
        "normalized": "" if one.normalized is None else f"{one.normalized:.0%} of the way",
        "learning": one.learning.verdict,
        "learning_reason": sentences.learning_text(one.learning),
        "learned": LEARNING_STATES.get(one.learning.state, one.learning.state),
        "convergence": settled.verdict,
        "convergence_reason": sentences.convergence_text(settled),
        "settled": f"at {short_count(at)}" if at is not None else "",
        "effect": number(effect.estimate) if effect else "",
        "effect_ci": interval(effect.interval) if effect else "",
        "effect_p": f"Holm p {pair.p_holm:.2g}" if pair and not left_out else "",
        "effect_verdict": kind_text(verdict) if verdict else "",
        "excluded": sentences.left_out_text(left_out) if left_out else "",
        "steps": "–" if took.threshold is None else "not reached" if median is None else f"{short_count(median)} steps",
        "reached": " · ".join([*solved, *_price(took.hours, took.dollars)]),
        "consistent": {True: "yes", False: "NO", None: "not measured"}[arm.consistent],
        "gap": "" if gap is None else f"{gap:.1e}",
        "forecast": forecast,
    }


def _more(answer: EnvironmentAnswer) -> list[str]:
    """Sentences about the effect of memory: how much full sight would bring, and the shortest memory."""
    memory, ratio = answer.memory, answer.memory.oracle_ratio
    found = [sentences.reach_text(memory.reach)] if memory.reach else []
    if ratio and memory.verdict.kind is not MemoryKind.UNDECIDED:
        low, high = ratio.ci
        ends = "" if low != low else f" (95 % interval {low:.0%} to {high:.0%})"
        found.append(
            f"Memory brings {ratio.estimate:.0%}{ends} of what full sight would bring beyond a policy without memory."
        )
    found += [f"Arms {', '.join(sweep.arms)}: {sentences.sweep_text(sweep)}." for sweep in memory.sweeps]
    found += [sentences.look_back_text(arm.look_back) for arm in answer.arms.values() if arm.look_back]
    return found + tuning_texts(answer.environment, answer.scale)


def _knobs(knobs: Sequence[Knob]) -> dict[str, Any]:
    """The measured settings as one table of funnels, the other knobs as text."""
    measured = [knob.suggestion for knob in knobs if knob.suggestion]
    names = list(measured[0].before.funnel) if measured else []
    rows = [("as it was measured", "", one.before.funnel) for one in measured[:1]]
    rows += [(as_overrides(one.settings), sentences.suggestion_text(one), one.predicted.funnel) for one in measured]
    return {
        "ends": sentences.stage_text(measured[0]) if measured else "",
        "milestones": names,
        "rows": [
            {"setting": setting, "why": why, "shares": [percent(funnel.get(name)) for name in names]}
            for setting, why, funnel in rows
        ],
        "others": [
            (knob.cause.what + (f"={count_name(knob.steps)}" if knob.steps else ""), sentences.knob_text(knob))
            for knob in knobs
            if not knob.suggestion
        ],
    }


def spent_hours(arm: Arm) -> float:
    """Machine hours of all runs of the arm."""
    return sum(seed.reached / seed.rate / 3600 for seed in (*arm.seeds, *arm.partial) if seed.rate)


def _cost(arm: Arm, plan: Plan) -> dict[str, str]:
    """One line of the table of costs: what the arm's runs took, and what those that are not finished still take."""
    seeds = [*arm.seeds, *arm.partial]
    rates = sorted(seed.rate for seed in seeds if seed.rate)
    rate = rates[len(rates) // 2] if rates else None
    hours, steps = spent_hours(arm), sum(max(0, arm.budget - seed.reached) for seed in arm.partial)
    left = steps / rate / 3600 if rate and steps else None
    new = plan.seeds
    return {
        "name": arm.name,
        "runs": str(len(seeds)),
        "agent_steps": short_count(sum(seed.reached for seed in seeds)),
        "rate": f"{short_count(rate)}/s" if rate else "–",
        "spent": hours_text(hours) if rates else "–",
        "spent_dollars": dollars(arm.dollars_for(hours)),
        "left": hours_text(left),
        "left_dollars": dollars(arm.dollars_for(left)),
        "action": f"run {counted(len(new), 'seed')}: {', '.join(map(str, new))}" if new else plan.action,
        "because": sentences.plan_text(plan),
    }


def spent_text(arms: Sequence[Arm]) -> str:
    """'3.2 h, $4.10' over all runs; 'at least $4.10' where the price of some is not known."""
    hours = {arm.name: spent_hours(arm) for arm in arms}
    prices = [price for arm in arms if (price := arm.dollars_for(hours[arm.name])) is not None]
    least = "at least " if len(prices) < sum(spent > 0 for spent in hours.values()) else ""
    return hours_text(sum(hours.values())) + (f", {least}{dollars(sum(prices))}" if prices else "")


def _needed(answer: EnvironmentAnswer) -> str:
    """What is needed until the question is answered, or why nothing is."""
    needed = answer.until_answered.total
    parts = [counted(needed.runs, "run")] if needed.runs else []
    parts += [f"{short_count(needed.agent_steps)} agent steps"] if needed.agent_steps else []
    parts += _price(needed.hours or None, needed.dollars or None)
    return ", ".join(parts) or sentences.until_answered_text(answer.until_answered, answer.memory.verdict.kind)
