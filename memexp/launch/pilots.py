"""`memexp launch pilots MATRIX`: short runs before the matrix, which search for settings with which an agent learns.

Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943). Every suggested setting of an environment's knobs,
and the unchanged environment ("as-is"), is trained with one architecture. The best third goes on to three times the
steps, and so on; the unchanged environment always goes on, which shows whether a changed knob was needed. Each rung is
a matrix of its own (`<name>-pilots-<environment>-<steps>`), so that the same command continues wherever it was stopped.
Pilots never enter the memory comparison: an agent with memory may learn slowly at first, so that a setting which is
dropped early here says nothing about memory.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from memexp.config import UsageError, count_name, did_you_mean, parse_value
from memexp.launch import LaunchError, Terminal
from memexp.launch.launch import read_matrix, send
from memexp.launch.plan.expand import expand, naming, selection
from memexp.launch.plan.matrix import Matrix, Seeds
from memexp.launch.plan.options import Options
from memexp.launch.plan.run_spec import RunSpec, override_text, slug
from memexp.ppo.config import Steps
from memexp.runs import Run
from memexp.runs.status import State, state_of

FACTOR = 3
"""A rung has FACTOR times the steps, and 1 / FACTOR of the settings, of the rung before."""
AS_IS = "as-is"
"""Name of the unchanged environment among the settings."""
Knobs = dict[str, Any]


class Pilot(Protocol):
    """Result of one setting in one rung, from a judge (memexp.analysis.pilots)."""

    @property
    def setting(self) -> str: ...

    @property
    def learns(self) -> bool: ...

    @property
    def text(self) -> str: ...


Suggest = Callable[[str, Knobs], Sequence[Knobs]]
"""(environment, its knobs) -> settings of knobs to try."""
Judge = Callable[[Sequence[Run], str], Sequence[Pilot]]
"""(runs of a rung, its matrix) -> the settings, the best first."""


@dataclass(frozen=True)
class Ladder:
    """The rungs of one environment."""

    env: str
    settings: Mapping[str, Knobs]
    """Name -> changed knobs, AS_IS among them."""
    steps: list[int]
    """Agent steps of a run, one entry a rung."""


def pilots(arguments: Sequence[str], options: Options, suggest: Suggest, judge: Judge, terminal: Terminal) -> int:
    """Launch the rungs of every environment of `arguments` (FILE [KEY=VALUE ...]); returns the exit code.

    Here (--local) all rungs follow one another. In the cloud a call submits the rung that is due, and the next call
    judges it. Raises UsageError for wrong arguments, LaunchError where no setting is known.
    """
    if not arguments:
        raise UsageError("name a matrix file: memexp launch pilots experiments.yaml --local")
    options.refuse(
        "is not for pilots: each rung depends on the one before", "dump_config", "render", "scout", "sensitivity"
    )
    options.check()
    matrix = _pilot_matrix(arguments, options)
    ladders = [_ladder(matrix, env, suggest) for env in matrix.environments]
    ladders = [ladder for ladder in ladders if len(ladder.settings) > 1]
    if not ladders:
        raise LaunchError(
            f"no setting of knobs is known for {', '.join(matrix.environments)}: list some under `pilots: settings:`"
        )

    def launch(rung: Matrix, specs: list[RunSpec]) -> int:
        return send(rung.name, specs, rung.resources, options, terminal)

    return max(_climb(matrix, ladder, launch, judge, terminal.say, options.dry_run) for ladder in ladders)


def _pilot_matrix(arguments: Sequence[str], options: Options) -> Matrix:
    """The matrix with one architecture, without twins; --steps and --seeds are those of the first rung."""
    file = arguments[0]
    matrix = read_matrix(arguments, replace(options, steps=None, seeds=None))
    plan = matrix.pilots
    arch = plan.arch or _first_that_remembers(matrix)
    with naming(f"{file}: pilots"):
        _check_known(arch, "architecture", matrix.architectures)
        for env in plan.settings:
            _check_known(env, "environment", matrix.environments)
    steps = plan.steps or _rounded(matrix.steps[0] / FACTOR**plan.rungs)
    changes = {
        "architectures": {arch: matrix.architectures[arch]},
        "environments": {name: env for name, env in matrix.environments.items() if _is_selected(name, options)},
        "twins": False,
        "exclude": [],
        "seeds": parse_value(options.seeds, Seeds, "--seeds") if options.seeds else plan.seeds,
        "steps": [parse_value(options.steps, Steps, "--steps") if options.steps else steps],
        "run": type(matrix).model_fields["run"].default,
        "vars": {},
    }
    return matrix.but(changes, file)


def _first_that_remembers(matrix: Matrix) -> str:
    """The first architecture with memory; the first of all if none has."""
    env = dict([next(iter(matrix.environments.items()))])
    one: dict[str, Any] = {"environments": env, "twins": False, "seeds": 1, "exclude": [], "steps": matrix.steps[:1]}
    specs = expand(matrix.but(one))
    found = (arch for arch, spec in zip(matrix.architectures, specs, strict=True) if spec.remembers)
    return next(found, next(iter(matrix.architectures)))


def _rounded(steps: float) -> int:
    """Two digits and zeros, at least 1: 74074075 -> 74000000."""
    return max(1, int(float(f"{steps:.2g}")))


def _check_known(name: str, what: str, table: Mapping[str, Any]) -> None:
    if name not in table:
        raise UsageError(f"unknown {what} '{name}'{did_you_mean(name, table)}")


def _is_selected(env: str, options: Options) -> bool:
    asked = selection(options.select)
    for key in asked.keys() - {"env"}:
        raise UsageError(f"--select {key}=...: pilots can be selected by env alone")
    return env in asked.get("env", [env])


def _ladder(matrix: Matrix, env: str, suggest: Suggest) -> Ladder:
    """The settings of one environment: the unchanged one, those of the matrix file, and those that are suggested."""
    config = expand(matrix.but({"environments": {env: matrix.environments[env]}}))[0].config.env
    settings: dict[str, Knobs] = {AS_IS: {}}
    suggested = suggest(config.name, config.model_dump(exclude={"name"}))
    for changed in (*matrix.pilots.settings.get(env, []), *suggested):
        settings.setdefault(slug(changed), dict(changed))
    rungs = min(matrix.pilots.rungs, 1 + math.ceil(math.log(max(len(settings) - 1, 1), FACTOR)))
    return Ladder(env, settings, [matrix.steps[0] * FACTOR**rung for rung in range(rungs)])


def _climb(
    matrix: Matrix,
    ladder: Ladder,
    launch: Callable[[Matrix, list[RunSpec]], int],
    judge: Judge,
    say: Callable[[str], None],
    dry_run: bool,
) -> int:
    """Launch and judge one environment's rungs until one has runs that have not ended; returns the exit code."""
    names, code = list(ladder.settings), 0
    for number, steps in enumerate(ladder.steps, 1):
        rung, specs = _rung(matrix, ladder, names, steps)
        size = f"{len(names)} settings, {count_name(steps)} agent steps"
        say(f"\n{ladder.env}, rung {number} of {len(ladder.steps)}: {size}")
        code, last = max(code, launch(rung, specs)), number == len(ladder.steps)
        runs = [Run.named(spec.run) for spec in specs]
        kept = max(1, math.ceil((len(names) - 1) / FACTOR))
        # A run that failed shows no learning.
        if waiting := [run for run in runs if state_of(run) not in (State.COMPLETED, State.FAILED)]:
            if not last:
                say(f"then the best {kept} and {AS_IS}, with {count_name(steps * FACTOR)} steps")
            if not dry_run:
                say(f"{len(waiting)} runs of the rung are not done: the same command carries on")
            return code
        ranked = judge(runs, rung.name)
        names = [AS_IS, *[pilot.setting for pilot in ranked if pilot.setting != AS_IS][:kept]]
        for place, pilot in enumerate(ranked, 1):
            on = " -> goes on" if pilot.setting in names and not last else ""
            say(f"  {place}. {pilot.setting}: {pilot.text}{on}")
        if last:
            _conclude(ladder, ranked, say)
        else:
            say(f"  the best go on: those that learn first, then those that gain most; {AS_IS} always goes on")
    return code


def _rung(matrix: Matrix, ladder: Ladder, names: Sequence[str], steps: int) -> tuple[Matrix, list[RunSpec]]:
    """The matrix of one rung, in which each setting is an environment, and its runs."""
    env = matrix.environments[ladder.env].model_dump()
    environments = {name: {**env, "args": {**env["args"], **ladder.settings[name]}} for name in names}
    name = f"{matrix.name}-pilots-{ladder.env}-{count_name(steps)}"
    rung = matrix.but({"name": name, "environments": environments, "steps": [steps], "pilots": {}})
    return rung, expand(rung)


def _conclude(ladder: Ladder, ranked: Sequence[Pilot], say: Callable[[str], None]) -> None:
    """Say which setting first showed learning, and what to type next."""
    first = next((pilot for pilot in ranked if pilot.learns), None)
    if first is None:
        say(f"{ladder.env}: no setting shows learning; train longer (--steps) or list other settings under `pilots:`")
    elif first.setting == AS_IS:
        say(f"{ladder.env}: the unchanged environment shows learning first: no knob has to be changed")
    else:
        changed = " ".join(f"{key}={override_text(value)}" for key, value in ladder.settings[first.setting].items())
        say(f"{ladder.env}: {first.setting} shows learning first: put {changed} into its args in the matrix file")
        say("then test an agent that learns there on the unchanged environment, too")
