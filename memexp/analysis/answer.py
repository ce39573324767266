"""The answer about the runs of a matrix: memory, learning, convergence, time, knobs, and what to run next."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from memexp.analysis.convergence import Convergence, ConvergenceKind, judge_convergence
from memexp.analysis.knobs.suggest import Knob, find_knobs
from memexp.analysis.learning import Learning, judge_learning
from memexp.analysis.load import load
from memexp.analysis.memory_verdict import Memory, judge_memory
from memexp.analysis.scale import Scale, find_scale, normalized
from memexp.analysis.seeds import Arm, Environment
from memexp.analysis.sequential_plan import Plan, UntilAnswered, sequential_plan, until_answered
from memexp.analysis.statistics import Interval, iqm, iqm_interval
from memexp.analysis.timing import TimeToSolve, time_to_solve
from memexp.runs import Run


@dataclass(frozen=True)
class ArmAnswer:
    """The verdicts on one arm."""

    arm: Arm
    iqm: float | None
    """Interquartile mean of the final returns; None without a finished seed."""
    interval: Interval
    """Its 95 % interval."""
    normalized: float | None
    """The same on the scale."""
    evaluation: float | None
    """Mean of the last evaluation of each seed."""
    learning: Learning
    convergence: Convergence
    time: TimeToSolve


@dataclass(frozen=True)
class EnvironmentAnswer:
    """The verdicts on one environment."""

    environment: Environment
    scale: Scale | None
    memory: Memory
    arms: dict[str, ArmAnswer]
    plans: dict[str, Plan]
    until_answered: UntilAnswered
    knobs: list[Knob]


@dataclass(frozen=True)
class Answer:
    matrix: str
    environments: dict[str, EnvironmentAnswer]
    notes: list[str]
    """Runs that cannot be read."""


def answer(runs: Iterable[Run], matrix_name: str) -> Answer:
    """The answer about the runs of one matrix. For `matrix_name` and errors see `load`."""
    return answer_of(*load(runs, matrix_name), matrix_name)


def answer_of(environments: dict[str, Environment], notes: list[str], matrix_name: str) -> Answer:
    return Answer(matrix_name, {name: judge(environment) for name, environment in environments.items()}, notes)


def judge(environment: Environment) -> EnvironmentAnswer:
    scale, arms = find_scale(environment), environment.arms
    learned = {name: judge_learning(arm, environment, scale) for name, arm in arms.items()}
    judged = {name: _judge_arm(arm, environment, scale, learned[name]) for name, arm in arms.items()}
    memory = judge_memory(environment, scale, learned)
    improving = [name for name, one in judged.items() if one.convergence.verdict is ConvergenceKind.IMPROVING]
    plans = sequential_plan(environment, scale, memory, learned)
    return EnvironmentAnswer(
        environment,
        scale,
        memory,
        judged,
        plans,
        until_answered(environment, scale, memory, plans, bool(improving)),
        find_knobs(environment, scale, list(learned.values()), improving),
    )


def _judge_arm(arm: Arm, environment: Environment, scale: Scale | None, learned: Learning) -> ArmAnswer:
    evaluations = [seed.evals[~np.isnan(seed.evals)] for seed in arm.seeds]
    last = [float(values[-1]) for values in evaluations if len(values)]
    return ArmAnswer(
        arm,
        float(iqm(arm.finals)) if len(arm.finals) else None,
        iqm_interval(arm.finals),
        normalized(arm, scale),
        float(np.mean(last)) if last else None,
        learned,
        judge_convergence(arm, scale, learned.learned),
        time_to_solve(arm, scale, environment.twin_of(arm.name)),
    )
