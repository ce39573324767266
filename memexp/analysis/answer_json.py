"""The answer as JSON data: the verdicts (docs/method.md), and every number that a verdict rests on."""

import math
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from memexp.analysis import sentences
from memexp.analysis.answer import Answer, ArmAnswer, EnvironmentAnswer
from memexp.analysis.convergence import TOLERANCE
from memexp.analysis.credit_horizon import Sweep
from memexp.analysis.forecast import Forecast
from memexp.analysis.knobs.suggest import Knob
from memexp.analysis.knobs.table import as_overrides, measured
from memexp.analysis.learning import POWER
from memexp.analysis.look_back import LookBack
from memexp.analysis.memory_verdict import Memory
from memexp.analysis.pairs import Pair, oracle_ratio
from memexp.analysis.recommendations import next_steps
from memexp.analysis.sequential_plan import AnsweredCause
from memexp.analysis.tuning import trials_of, tuning_texts
from memexp.analysis.verdicts import LeftOut, MemoryKind

METHOD = "Lan-DeMets spending over seeds an arm (4, 5, ..., 40), exact permutation and Welch tests, Holm over arms"
UNKNOWN = (None, None)


def answer_json(answer: Answer) -> dict[str, Any]:
    """Plain types only: None for what is not known, verdicts as their words, floats with six significant digits."""
    environments = {name: environment_json(one) for name, one in answer.environments.items()}
    return {"matrix": answer.matrix, "environments": environments, "notes": list(answer.notes)}


def environment_json(answer: EnvironmentAnswer) -> dict[str, Any]:
    """One environment's part."""
    environment, until = answer.environment, answer.until_answered
    random, mean = environment.random_returns, environment.random_mean
    solved = answer.scale.solved if answer.scale else None
    plans = {
        name: {"action": plan.action, "seeds": plan.seeds, "target": plan.target, "because": sentences.plan_text(plan)}
        for name, plan in answer.plans.items()
    }
    found = {
        "memory": _memory(answer),
        "arms": {name: _arm(one) for name, one in answer.arms.items()},
        "random_return": mean,
        "ceiling_return": environment.ceiling,
        "solved_return": solved,
        "levels": {
            "random": {"mean": mean, "sd": random.std(ddof=1) if len(random) > 1 else None, "n": len(random)},
            "memoryless": environment.memoryless,
            "ceiling": environment.ceiling,
            "oracle": environment.oracle,
            "solved": solved,
        },
        "memory_span": environment.memory_span,
        "partner": environment.partner,
        "budget": environment.budget,
        "notes": environment.notes,
        "tuning": {
            "reason": tuning_texts(environment, answer.scale),
            "per_arm": {one.arm: asdict(one) for one in trials_of(environment)},
        },
        "sequential": {"per_arm": plans, "method": METHOD},
        "until_answered": {
            "seeds": until.seeds,
            "budget": until.budget,
            "power": None if until.cause in (AnsweredCause.LONGER_FIRST, AnsweredCause.FIRST_SEEDS) else POWER,
            **asdict(until.total),
            "per_arm": {name: asdict(cost) for name, cost in until.per_arm.items()},
            "reason": sentences.until_answered_text(until, answer.memory.verdict.kind),
        },
        "knobs": [_knob(knob) for knob in answer.knobs],
        "next": next_steps(answer),
    }
    return _plain(found)


def _memory(answer: EnvironmentAnswer) -> dict[str, Any]:
    memory, scale = answer.memory, answer.scale
    pairs = {name: _pair(pair, memory, answer.environment.oracle) for name, pair in memory.pairs.items()}
    return {
        "verdict": memory.verdict.kind,
        "effect": memory.effect,
        "ci": memory.interval,
        "p_improvement": memory.improvement,
        "per_arm": pairs | {name: _no_pair(why) for name, why in memory.unpaired.items()},
        "reason": sentences.memory_text(memory),
        "scale": None if scale is None else scale.name,
        "oracle_ratio": memory.oracle_ratio and memory.oracle_ratio._asdict(),
        "shortest": [_without_cause(sweep) | {"reason": sentences.sweep_text(sweep)} for sweep in memory.sweeps],
    }


def _pair(pair: Pair, memory: Memory, oracle: float | None) -> dict[str, Any]:
    verdict, effect, (by_iqm, ci_iqm) = memory.pair_verdicts[pair.arm.name], pair.effect, pair.effect_iqm
    ratio = oracle_ratio([pair], oracle)
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
        "oracle_ratio": ratio and ratio._asdict(),
        "reach": pair.horizon,
        "level": pair.level,
        "negligible": None if pair.scale is None or pair.left_out else pair.negligible,
        "excluded": sentences.left_out_text(pair.left_out) if pair.left_out else None,
        "verdict": verdict.kind,
        "reason": sentences.verdict_text(verdict),
    }


def _no_pair(why: LeftOut) -> dict[str, Any]:
    """The entry of an arm with memory that has no pair."""
    numbers = ("effect", "effect_iqm", "effect_return", "p_value", "p_holm", "p_improvement", "reach")
    others = ("twin", "seeds", "oracle_ratio", "level", "negligible")
    text = sentences.left_out_text(why)
    intervals = dict.fromkeys(("ci", "ci90", "ci_iqm"), UNKNOWN)
    end = {"excluded": text, "verdict": MemoryKind.UNDECIDED, "reason": text}
    return dict.fromkeys((*numbers, *others)) | intervals | end


def _arm(answer: ArmAnswer) -> dict[str, Any]:
    arm, learning, settled, time = answer.arm, answer.learning, answer.convergence, answer.time
    solved, gain, trend, change, ahead = settled.solved, learning.gain, learning.trend, settled.change, settled.forecast
    steps, low, high = time.median
    return {
        "seeds": len(arm.seeds),
        "final": {"iqm": answer.iqm, "ci": answer.interval, "normalized": answer.normalized, "eval": answer.evaluation},
        "solved": {
            "seeds": solved.seeds,
            "of": solved.of,
            "ci": solved.interval,
            "disagree": None if solved.seeds is None else solved.disagree,
            "unsolved": solved.unsolved,
        },
        "learning": {
            "verdict": learning.verdict,
            "reason": sentences.learning_text(learning),
            "state": learning.state,
            "gain": gain
            and {"estimate": gain.estimate, "ci": gain.interval(), "normalized": gain.estimate / learning.span},
            "p_value": gain.p_above() if gain and learning.seeds > 1 else None,
            "detectable": learning.detectable / learning.span,
            "trend": trend and {"estimate": trend.estimate, "ci": trend.interval()},
            "entropy": learning.entropy and asdict(learning.entropy),
        },
        "convergence": {
            "verdict": settled.verdict,
            "at_agent_steps": settled.at_agent_steps,
            "reason": sentences.convergence_text(settled),
            "change": change and {"estimate": change.estimate, "ci90": change.interval(0.90)},
            "tolerance": TOLERANCE,
            "window": settled.window,
            "forecast": asdict(ahead) if isinstance(ahead, Forecast) else None,
            "forecast_reason": sentences.forecast_text(ahead),
        },
        "time": {
            "agent_steps": {"median": steps, "ci": (low, high), "censored": time.censored},
            "hours": time.hours,
            "dollars": time.dollars,
            "threshold": time.threshold,
            "curve": time.curve and {"agent_steps": time.curve[0], "unsolved": time.curve[1]},
            "p_twin": time.p_twin,
        },
        "look_back": answer.look_back
        and _without_cause(answer.look_back) | {"reason": sentences.look_back_text(answer.look_back)},
        "consistent": arm.consistent,
        "max_logprob_gap": arm.worst.max_gap if arm.worst else None,
        "remembers": arm.remembers,
        "runs": [seed.run for seed in arm.seeds],
    }


def _knob(knob: Knob) -> dict[str, Any]:
    found, because = knob.suggestion, sentences.knob_text(knob)
    if found is None:
        return {"knob": knob.cause.what, "value": knob.steps, "because": because}
    values = list(found.settings.values())
    return {
        "knob": " ".join(found.settings),
        "value": values[0] if len(values) == 1 else found.settings,
        "because": because,
        "ends": sentences.stage_text(found),
        "why": sentences.suggestion_text(found),
        "words": as_overrides(found.settings),
        "before": found.before.funnel,
        "predicted": found.predicted.funnel,
        "measured": {"date": measured().date, "episodes": measured().episodes, "player": "random"},
    }


def _without_cause(found: LookBack | Sweep) -> dict[str, Any]:
    return {key: value for key, value in asdict(found).items() if key != "cause"}


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: plain types, None for NaN and infinities, floats to six significant digits."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast(list[Any], value)]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, str) else value
