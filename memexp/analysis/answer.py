"""Runs of a matrix -> its answer: memory, learning, convergence, time, knobs, and what to run next."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from memexp.analysis import recommendations
from memexp.analysis.convergence import convergence, solved_seeds
from memexp.analysis.learning import Learning, learning
from memexp.analysis.levels import levels, memory_span
from memexp.analysis.load import load
from memexp.analysis.memory_verdict import memory
from memexp.analysis.scale import Scale, find_scale, normalized
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.sequential_plan import remaining
from memexp.analysis.statistics import iqm, iqm_interval
from memexp.analysis.timing import time_to_solve
from memexp.runs import Run


def answer(runs: Iterable[Run], matrix_name: str) -> dict[str, Any]:
    """The answer as plain JSON data (CONTRACT, Answer): what is not known is None, verdicts are the words listed there.

    `matrix_name` selects the runs of that matrix; any other name (a folder's) fits where all runs belong to one.
    Raises UsageError where there is no run, or where the runs belong to several matrices.
    """
    environments, notes = load(runs, matrix_name)
    return answer_of(environments, notes, matrix_name)


def answer_of(environments: dict[str, Environment], notes: list[str], matrix_name: str) -> dict[str, Any]:
    """The same of runs that are loaded already."""
    return clean(
        {
            "matrix": matrix_name,
            "environments": {name: judge(environment) for name, environment in environments.items()},
            "notes": notes,
        }
    )


def judge(environment: Environment) -> dict[str, Any]:
    """One environment's part of the answer."""
    scale = find_scale(environment)
    solved = scale.solved if scale else None
    learned = {name: learning(arm, environment, scale) for name, arm in environment.arms.items()}
    judged: dict[str, Any] = {
        "memory": memory(environment, scale, learned),
        "arms": {name: _arm(arm, environment, scale, learned[name]) for name, arm in environment.arms.items()},
        "random_return": float(environment.random_returns.mean()) if len(environment.random_returns) else None,
        "ceiling_return": environment.ceiling,
        "solved_return": solved,
        "levels": levels(environment, solved),
        "memory_span": memory_span(environment),
        "budget": environment.budget,
        "notes": environment.notes,
    }
    judged |= remaining(environment, scale, judged)
    judged["knobs"] = recommendations.knobs(environment, scale, judged)
    judged["next"] = recommendations.next_runs(environment, scale, judged)
    return judged


def _arm(arm: Arm, environment: Environment, scale: Scale | None, learned: Learning) -> dict[str, Any]:
    settled = convergence(arm, scale, learned.verdict)
    finals = arm.finals
    evals = [seed.evals[~np.isnan(seed.evals)] for seed in arm.seeds]
    evals = [float(values[-1]) for values in evals if len(values)]
    return {
        "seeds": len(arm.seeds),
        "final": {
            "iqm": float(iqm(finals)) if len(finals) else None,
            "ci": list(iqm_interval(finals)),
            "normalized": normalized(arm, scale),
            "eval": float(np.mean(evals)) if evals else None,
        },
        "solved": solved_seeds(arm, scale),
        "learning": learned.as_dict(),
        "convergence": settled.as_dict(),
        "time": time_to_solve(arm, scale, environment.arms.get(f"{arm.name}~")),
        "consistent": arm.consistent,
        "max_logprob_gap": arm.worst.max_gap if arm.worst else None,
        "remembers": arm.remembers,
        "runs": [seed.run for seed in arm.seeds],
    }


def clean(value: Any) -> Any:
    """`value` as JSON can hold it: plain types, None for NaN and infinities, floats to six significant digits."""
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return float(f"{number:.6g}") if math.isfinite(number) else None
    return value
