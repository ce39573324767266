"""The answer as JSON data: the keys that CONTRACT ("Answer") lists, and every number that a verdict rests on."""

import math
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from memexp.analysis.answer import Answer, ArmAnswer, EnvironmentAnswer
from memexp.analysis.convergence import TOLERANCE, Convergence
from memexp.analysis.credit_horizon import Sweep
from memexp.analysis.forecast import Forecast
from memexp.analysis.knobs.find import Knob
from memexp.analysis.knobs.table import as_overrides, measured
from memexp.analysis.learning import Learning
from memexp.analysis.memory_verdict import Memory
from memexp.analysis.pairs import Pair, Ratio, oracle_ratio
from memexp.analysis.power import POWER
from memexp.analysis.recommendations import KNOB_NAMES, next_steps
from memexp.analysis.sentences import (
    convergence_text,
    forecast_text,
    knob_text,
    learning_text,
    left_out_text,
    memory_text,
    plan_text,
    stage_text,
    suggestion_text,
    sweep_text,
    until_answered_text,
    verdict_text,
)
from memexp.analysis.sequential_plan import Plan
from memexp.analysis.timing import TimeToSolve
from memexp.analysis.verdicts import LeftOut, MemoryKind

METHOD = "Lan-DeMets spending over seeds an arm (4, 5, ..., 40), exact permutation and Welch tests, Holm over arms"
UNKNOWN = (None, None)


def answer_json(answer: Answer) -> dict[str, Any]:
    """Plain types only: None for what is not known, verdicts as their words, floats with six significant digits."""
    environments = {name: _environment(one) for name, one in answer.environments.items()}
    return _plain({"matrix": answer.matrix, "environments": environments, "notes": answer.notes})


def environment_json(answer: EnvironmentAnswer) -> dict[str, Any]:
    """One environment's part."""
    return _plain(_environment(answer))


def _environment(answer: EnvironmentAnswer) -> dict[str, Any]:
    environment, until = answer.environment, answer.until_answered
    random = environment.random_returns
    mean = float(random.mean()) if len(random) else None
    solved = answer.scale.solved if answer.scale else None
    return {
        "memory": _memory(answer),
        "arms": {name: _arm(one) for name, one in answer.arms.items()},
        "random_return": mean,
        "ceiling_return": environment.ceiling,
        "solved_return": solved,
        "levels": {
            "random": {"mean": mean, "sd": float(random.std(ddof=1)) if len(random) > 1 else None, "n": len(random)},
            "memoryless": environment.memoryless,
            "ceiling": environment.ceiling,
            "oracle": environment.oracle,
            "solved": solved,
        },
        "memory_span": environment.memory_span,
        "budget": environment.budget,
        "notes": environment.notes,
        "sequential": {"per_arm": {name: _plan(plan) for name, plan in answer.plans.items()}, "method": METHOD},
        "until_answered": {
            "seeds": until.seeds,
            "budget": until.budget,
            "power": POWER,
            **asdict(until.total),
            "per_arm": {name: asdict(cost) for name, cost in until.per_arm.items()},
            "reason": until_answered_text(until, answer.memory.verdict.kind),
        },
        "knobs": [_knob(knob) for knob in answer.knobs],
        "next": next_steps(answer),
    }


def _memory(answer: EnvironmentAnswer) -> dict[str, Any]:
    memory, scale = answer.memory, answer.scale
    pairs = {name: _pair(pair, memory, answer.environment.oracle) for name, pair in memory.pairs.items()}
    return {
        "verdict": memory.verdict.kind,
        "effect": memory.effect,
        "ci": memory.interval,
        "p_improvement": memory.improvement,
        "per_arm": pairs | {name: _no_pair(why) for name, why in memory.unpaired.items()},
        "reason": memory_text(memory),
        "scale": None if scale is None else scale.best_arm or "ceiling",
        "oracle_ratio": _ratio(memory.oracle_ratio),
        "shortest": [_sweep(sweep) for sweep in memory.sweeps],
    }


def _pair(pair: Pair, memory: Memory, oracle: float | None) -> dict[str, Any]:
    verdict, effect, (by_iqm, ci_iqm) = memory.pair_verdicts[pair.arm.name], pair.effect, pair.effect_iqm
    return {
        "twin": pair.twin.name,
        "seeds": (len(pair.arm.seeds), len(pair.twin.seeds)),
        "effect": effect.estimate if effect else None,
        "ci": effect.interval if effect else UNKNOWN,
        "ci90": pair.interval90,
        "effect_iqm": by_iqm,
        "ci_iqm": ci_iqm,
        "effect_return": pair.final.estimate,
        "p_value": pair.final.p_above(),
        "p_holm": None if pair.left_out else pair.p_holm,
        "p_improvement": pair.improvement,
        "oracle_ratio": _ratio(oracle_ratio([pair], oracle)),
        "reach": pair.horizon,
        "level": pair.level,
        "negligible": None if pair.scale is None or pair.left_out else pair.negligible,
        "excluded": left_out_text(pair.left_out) if pair.left_out else None,
        "verdict": verdict.kind,
        "reason": verdict_text(verdict),
    }


def _no_pair(why: LeftOut) -> dict[str, Any]:
    """The entry of an arm with memory that has no pair."""
    numbers = ("effect", "effect_iqm", "effect_return", "p_value", "p_holm", "p_improvement", "reach")
    others = ("twin", "seeds", "oracle_ratio", "level", "negligible")
    text = left_out_text(why)
    return {
        **dict.fromkeys((*numbers, *others)),
        **dict.fromkeys(("ci", "ci90", "ci_iqm"), UNKNOWN),
        "excluded": text,
        "verdict": MemoryKind.UNDECIDED,
        "reason": text,
    }


def _ratio(ratio: Ratio | None) -> dict[str, Any] | None:
    return {"estimate": ratio.estimate, "ci": ratio.interval} if ratio else None


def _sweep(sweep: Sweep) -> dict[str, Any]:
    found = asdict(sweep)
    del found["cause"]
    return {**found, "reason": sweep_text(sweep)}


def _arm(answer: ArmAnswer) -> dict[str, Any]:
    arm, solved = answer.arm, answer.convergence.solved
    return {
        "seeds": len(arm.seeds),
        "final": {
            "iqm": answer.iqm,
            "ci": answer.interval,
            "normalized": answer.normalized,
            "eval": answer.evaluation,
        },
        "solved": {
            "seeds": solved.seeds,
            "of": solved.of,
            "ci": solved.interval,
            "disagree": None if solved.seeds is None else solved.disagree,
            "unsolved": solved.unsolved,
        },
        "learning": _learning(answer.learning),
        "convergence": _convergence(answer.convergence),
        "time": _time(answer.time),
        "consistent": arm.consistent,
        "max_logprob_gap": arm.worst.max_gap if arm.worst else None,
        "remembers": arm.remembers,
        "runs": [seed.run for seed in arm.seeds],
    }


def _learning(found: Learning) -> dict[str, Any]:
    gain, trend = found.gain, found.trend
    return {
        "verdict": found.verdict,
        "reason": learning_text(found),
        "state": found.state,
        "gain": gain and {"estimate": gain.estimate, "ci": gain.interval(), "normalized": gain.estimate / found.span},
        "p_value": gain.p_above() if gain and found.seeds > 1 else None,
        "detectable": found.detectable / found.span,
        "trend": trend and {"estimate": trend.estimate, "ci": trend.interval()},
        "entropy": found.entropy and asdict(found.entropy),
    }


def _convergence(found: Convergence) -> dict[str, Any]:
    change, ahead = found.change, found.forecast
    return {
        "verdict": found.verdict,
        "at_agent_steps": found.at_agent_steps,
        "reason": convergence_text(found),
        "change": change and {"estimate": change.estimate, "ci90": change.interval(0.90)},
        "tolerance": TOLERANCE,
        "window": found.window,
        "forecast": asdict(ahead) if isinstance(ahead, Forecast) else None,
        "forecast_reason": forecast_text(ahead),
    }


def _time(found: TimeToSolve) -> dict[str, Any]:
    steps, low, high = found.median
    return {
        "agent_steps": {"median": steps, "ci": (low, high), "censored": found.censored},
        "hours": found.hours,
        "dollars": found.dollars,
        "threshold": found.threshold,
        "curve": found.curve and {"agent_steps": found.curve[0], "unsolved": found.curve[1]},
        "p_twin": found.p_twin,
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {"action": plan.action, "seeds": plan.seeds, "target": plan.target, "because": plan_text(plan)}


def _knob(knob: Knob) -> dict[str, Any]:
    found = knob.suggestion
    if found is None:
        return {"knob": KNOB_NAMES[knob.cause], "value": knob.steps, "because": knob_text(knob)}
    values = list(found.settings.values())
    return {
        "knob": " ".join(found.settings),
        "value": values[0] if len(values) == 1 else found.settings,
        "because": knob_text(knob),
        "ends": stage_text(found),
        "why": suggestion_text(found),
        "words": as_overrides(found.settings),
        "before": found.before.funnel,
        "predicted": found.predicted.funnel,
        "measured": {"date": measured().date, "episodes": measured().episodes, "player": "random"},
    }


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: plain types, None for NaN and infinities, floats to six significant digits."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast(list[Any], value)]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return float(f"{number:.6g}") if math.isfinite(number) else None
    return value
