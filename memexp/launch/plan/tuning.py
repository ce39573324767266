"""The runs of a tuned matrix: trials of settings on seeds of their own, then every arm at its best setting.

Every arm, its twin too, is tried with the same settings on the same number of seeds. The setting with the highest mean
of final returns wins; only runs at the winners, on the matrix's seeds, are judged. The twin also runs at the settings
of its arm: memory must beat the better of the two. The settings are a grid or random points: both are known before the
first trial ends, so that all trials run at once, and a second launch finds the same ones.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from memexp.config import UsageError, value_at
from memexp.formatting import counted
from memexp.launch.plan.expand import Place, naming, places, run_at
from memexp.launch.plan.matrix import TRIAL_SEED, Matrix
from memexp.launch.plan.run_spec import RunSpec, override_text, slug
from memexp.runs import Run
from memexp.runs.status import State, state_of
from memexp.runs.trials import Settings, best_first

FACTOR = 3
"""A rung has FACTOR times the steps, and 1 / FACTOR of the settings, of the rung before. Sensitivity: see there."""
LEARNING_RATE = "trainer.learning_rate"
SENSITIVITY_SEED = 2 * TRIAL_SEED
FinalReturn = Callable[[Run], float | None]
"""The final return of a completed run; None where no episode ended."""


class ArmKey(NamedTuple):
    env: str
    arch: str
    memory: str


@dataclass(frozen=True)
class Winner:
    """The setting that an arm runs with."""

    place: Place
    settings: Settings
    mean: float
    """Mean of the final returns of its trials."""
    seeds: int
    tried: int
    failed: int
    """Settings with a run that failed, or in which no episode ended. They cannot win."""

    @property
    def text(self) -> str:
        lost = f"; {self.failed} with a failed run left out" if self.failed else ""
        how = f"best of {self.tried} in {counted(self.seeds, 'trial seed')}: return {self.mean:.4g}{lost}"
        return f"{self.place.env} {self.place.arm}: {settings_text(self.settings)} ({how})"


@dataclass
class Stage:
    """What a tuned matrix can run now, and what follows."""

    now: list[RunSpec] = field(default_factory=list[RunSpec])
    later: list[RunSpec] = field(default_factory=list[RunSpec])
    """Stand-ins for runs whose settings are not known yet."""
    winners: dict[ArmKey, Winner] = field(default_factory=dict[ArmKey, Winner])
    trials: list[RunSpec] = field(default_factory=list[RunSpec])
    """Trials among `now`."""


def settings_text(settings: Settings) -> str:
    """'trainer.learning_rate=0.003 trainer.gamma=0.9'."""
    return " ".join(f"{key}={override_text(value)}" for key, value in settings.items())


def next_stage(matrix: Matrix, where: str, select: Sequence[str], final: FinalReturn) -> Stage:
    """The runs of a matrix with `tune:`, as far as the trials have come. Raises UsageError."""
    kept, stage = places(matrix, where, select), Stage()
    with naming(where):
        arms: dict[ArmKey, list[Place]] = {}
        for place in kept:
            arms.setdefault(ArmKey(place.env, place.arch, place.memory), []).append(place)
        for key, members in arms.items():
            _search(matrix, members, kept[members[0]], stage, final)
            arm, twin = stage.winners.get(key._replace(memory="on")), stage.winners.get(key)
            for place in members:
                runs = stage.now if twin else stage.later
                runs.append(run_at(matrix, place, twin.settings) if twin else kept[place])
                if place.memory == "off" and replace(place, memory="on") in kept:
                    if not (arm and twin):
                        stage.later.append(at_settings_of_arm(matrix, place, {}))
                    elif arm.settings != twin.settings:
                        stage.now.append(at_settings_of_arm(matrix, place, arm.settings))
    return stage


def at_settings_of_arm(matrix: Matrix, place: Place, settings: Settings) -> RunSpec:
    """The run of a twin with the settings that are best for its arm."""
    return run_at(matrix, place, settings, mark=f"at-{place.arch}", arm=f"{place.arm}@{place.arch}", twin_of=place.arch)


def first_trials(matrix: Matrix) -> list[RunSpec]:
    """The trials that need no result of others; [] without `tune:`."""
    return next_stage(matrix, "", (), lambda run: None).trials if matrix.tune else []


def sensitivity(matrix: Matrix, where: str, select: Sequence[str]) -> list[RunSpec]:
    """Every arm at 3 times and at a third of its learning rate, on seeds of their own. Raises UsageError."""
    if matrix.tune:
        raise UsageError(f"{where}: --sensitivity is for a matrix without `tune:`; the trials of this one show it")
    specs: dict[str, RunSpec] = {}
    for place, spec in places(matrix, where, select).items():
        rate = spec.config.trainer.learning_rate
        for value in (rate / FACTOR, rate * FACTOR):
            settings = {LEARNING_RATE: float(f"{value:.4g}")}
            for number in range(matrix.tuning.seeds):
                trial = _trial(matrix, replace(place, seed=SENSITIVITY_SEED + number), settings, "sensitivity")
                specs[trial.run] = trial
    return list(specs.values())


def _trial(matrix: Matrix, place: Place, settings: Settings, kind: str) -> RunSpec:
    short: Settings = {key.rpartition(".")[2]: value for key, value in settings.items()}
    short = short if len(short) == len(settings) else settings
    tuning = {"arm": place.arm, "kind": kind, "values": dict(settings)}
    arm = f"{place.arm} {settings_text(short)}"
    return run_at(matrix, place, settings, mark=slug(short), arm=arm, tuning=tuning)


def _search(matrix: Matrix, members: list[Place], spec: RunSpec, stage: Stage, final: FinalReturn) -> None:
    """Add the trials of one arm to `stage`, up to those that are not known yet, and the winner when all have ended."""
    plan, settings, first = matrix.tuning, matrix.settings, members[0]
    most = plan.steps or max(place.steps for place in members)
    sizes = [len(settings)]
    while len(sizes) < plan.rungs and sizes[-1] > FACTOR:
        sizes.append(math.ceil(sizes[-1] / FACTOR))
    known, failed = True, 0
    for rung, size in enumerate(sizes, 1):
        steps = max(1, round(most / FACTOR ** (len(sizes) - rung)))
        seeds = [replace(first, steps=steps, seed=TRIAL_SEED + number) for number in range(plan.seeds)]
        trials = [(one, [_trial(matrix, place, one, "tune") for place in seeds]) for one in settings[:size]]
        runs = [run for _, some in trials for run in some]
        if not known:
            stage.later += runs
            continue
        finals = [(one, [_final(trial, final) for trial in some]) for one, some in trials]
        means = best_first(finals, {key: value_at(spec.config.model_dump(), key) for key in matrix.tune})
        states = {run.run: state_of(Run.named(run.run)) for run in runs}
        known = bool(means) and set(states.values()) <= {State.COMPLETED, State.FAILED}
        if known:
            runs = [run for run in runs if states[run.run] is State.COMPLETED]
            failed += len(trials) - len(means)
            settings = [one for one, _ in means]
            if rung == len(sizes):
                winner = Winner(first, *means[0], plan.seeds, len(matrix.settings), failed)
                stage.winners[ArmKey(first.env, first.arch, first.memory)] = winner
        stage.trials += runs
        stage.now += runs


def _final(spec: RunSpec, final: FinalReturn) -> float | None:
    run = Run.named(spec.run)
    return final(run) if state_of(run) is State.COMPLETED else None
