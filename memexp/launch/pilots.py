"""`memexp launch pilots MATRIX`: cheap runs that look for the knobs with which an agent learns, before the matrix.

Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943): every suggested setting of an environment's knobs,
and the environment as it is, plays with one architecture; the best third goes on to three times the steps. Each rung is
a matrix of its own (`<name>-pilots-<environment>-<steps>`) whose runs are named after setting, steps and seed: the same
command carries on wherever it was stopped. The setting as it is always goes on: it tells whether a knob was needed. No
arm of the memory comparison takes part: sparse rewards are flat and then jump, memory starts slowly, and what is
dropped early here must never be a verdict there.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console

from memexp.config import UsageError, count_name, did_you_mean
from memexp.cortex.pattern import remembers
from memexp.launch import LaunchError
from memexp.launch.launch import Options, check_options, machines, read_matrix, send
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import Matrix, naming
from memexp.launch.plan.run_spec import RunSpec, word_text
from memexp.launch.status.state import state_of
from memexp.runs import Run

FACTOR = 3
"""Each rung takes so many times the steps, and one in so many of the settings, of the one before."""
AS_IS = "as-is"
"""Name of the setting that turns no knob."""
MAX_SLUG = 40
Knobs = dict[str, Any]


class Pilot(Protocol):
    """How one setting did in one rung, as a judge tells (memexp.analysis.pilots)."""

    @property
    def setting(self) -> str: ...

    @property
    def learns(self) -> bool: ...

    @property
    def words(self) -> str: ...


Suggest = Callable[[str, Knobs], Sequence[Knobs]]
"""(environment, its knobs) -> settings of knobs to try."""
Judge = Callable[[Sequence[Run], str], Sequence[Pilot]]
"""(runs of a rung, its matrix) -> the settings, the best first."""


@dataclass(frozen=True)
class Ladder:
    """The settings of one environment on their way up."""

    env: str
    settings: Mapping[str, Knobs]
    """Name -> knobs turned, the one as it is among them."""
    steps: list[int]
    """Agent steps of a run, one a rung."""


def pilots(
    words: Sequence[str],
    options: Options,
    suggest: Suggest,
    judge: Judge,
    console: Console,
    notes: Console,
    confirm: Any,
) -> int:
    """Climb every environment's ladder rung by rung, as far as runs are done; returns the exit code.

    Here (--local) all rungs follow one another. In the cloud a call submits the rung that is due; the next call judges
    it and goes on. Raises UsageError for wrong words, LaunchError where nothing is suggested.
    """
    if not words:
        raise UsageError("name a matrix file: memexp launch pilots experiments.yaml --local")
    for option in options.given("dump_config", "render"):
        raise UsageError(f"{option} is not for pilots: each rung depends on the one before")
    check_options(options)
    matrix = _piloted(words, options)
    ladders = [_ladder(matrix, env, suggest) for env in matrix.environments]
    ladders = [ladder for ladder in ladders if len(ladder.settings) > 1]
    if not ladders:
        raise LaunchError(
            f"no setting of knobs is known for {', '.join(matrix.environments)}: list some under `pilots: settings:`"
        )

    def launch(rung: Matrix, cells: list[RunSpec]) -> int:
        return send(rung.name, cells, machines(rung.resources, options), options, console, notes, confirm)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    return max(_climb(matrix, ladder, launch, judge, say, options.dry_run) for ladder in ladders)


def _piloted(words: Sequence[str], options: Options) -> Matrix:
    """The matrix with one architecture, without twins; --steps and --seeds are those of the first rung."""
    file, *pairs = words
    matrix = read_matrix(file, pairs, Options(**{**vars(options), "steps": None, "seeds": None}))
    changed = read_matrix(file, pairs, options)
    plan = matrix.pilots
    arch = plan.arch or _first_that_remembers(matrix)
    with naming(f"{file}: pilots"):
        _known(arch, "architecture", matrix.architectures)
        for env in plan.settings:
            _known(env, "environment", matrix.environments)
    first = changed.steps[0] if options.steps else plan.steps or _rounded(matrix.steps[0] / FACTOR**plan.rungs)
    changes = {
        "architectures": {arch: matrix.architectures[arch]},
        "environments": {name: env for name, env in matrix.environments.items() if _selected(name, options)},
        "twins": False,
        "exclude": [],
        "seeds": changed.seeds if options.seeds else plan.seeds,
        "steps": [first],
        "run": type(matrix).model_fields["run"].default,
        "vars": {},
    }
    return matrix.but(changes, file)


def _first_that_remembers(matrix: Matrix) -> str:
    """The first architecture with memory; the first of all where none has."""
    one = {"environments": dict([next(iter(matrix.environments.items()))]), "twins": False, "seeds": 1, "exclude": []}
    for arch, cell in zip(matrix.architectures, expand(matrix.but({**one, "steps": matrix.steps[:1]})), strict=True):
        if remembers(cell.config.cortex.pattern, cell.config.cortex.mem_len):
            return arch
    return next(iter(matrix.architectures))


def _rounded(steps: float) -> int:
    """Two digits and zeros, at least 1: 74074075 -> 74000000."""
    return max(1, int(float(f"{steps:.2g}")))


def _known(name: str, what: str, table: Mapping[str, Any]) -> None:
    if name not in table:
        raise UsageError(f"unknown {what} '{name}'{did_you_mean(name, table)}")


def _selected(env: str, options: Options) -> bool:
    asked = [word.partition("=") for word in options.select]
    for key, _, _ in asked:
        if key != "env":
            raise UsageError(f"--select {key}=...: pilots can be selected by env alone")
    return not asked or any(env in value.split(",") for _, _, value in asked)


def _ladder(matrix: Matrix, env: str, suggest: Suggest) -> Ladder:
    """The settings of one environment: as it is, those of the matrix file, and those that are suggested."""
    only = matrix.but({"environments": {env: matrix.environments[env]}})
    world = expand(only)[0].config.env
    knobs = world.model_dump(exclude={"name"})
    settings = {AS_IS: {}}
    for turned in (*matrix.pilots.settings.get(env, []), *suggest(world.name, knobs)):
        settings.setdefault(slug(turned), dict(turned))
    rungs = min(matrix.pilots.rungs, 1 + math.ceil(math.log(max(len(settings) - 1, 1), FACTOR)))
    return Ladder(env, settings, [matrix.steps[0] * FACTOR**rung for rung in range(rungs)])


def slug(knobs: Knobs) -> str:
    """A name that the same setting always has: 'num_vibes-0', 'map_width-30.map_height-30'."""
    text = ".".join(f"{key}-{_plain(value)}" for key, value in knobs.items())
    if len(text) > MAX_SLUG:
        text = f"{text[: MAX_SLUG - 7].rstrip('-_.')}.{hashlib.sha256(text.encode()).hexdigest()[:6]}"
    return text


def _plain(value: Any) -> str:
    parts = dict.fromkeys(str(one) for one in (value if isinstance(value, list) else [value]))
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-").lower() or "none"


def _climb(
    matrix: Matrix,
    ladder: Ladder,
    launch: Callable[[Matrix, list[RunSpec]], int],
    judge: Judge,
    say: Callable[[str], None],
    dry_run: bool,
) -> int:
    """One environment's rungs, as far as their runs have ended (a failed one shows no learning); the exit code."""
    names, ranked, worst = list(ladder.settings), [], 0
    for number, steps in enumerate(ladder.steps, 1):
        rung, cells = _rung(matrix, ladder, names, steps)
        size = f"{len(names)} settings, {count_name(steps)} agent steps"
        say(f"\n{ladder.env}, rung {number} of {len(ladder.steps)}: {size}")
        worst, last = max(worst, launch(rung, cells)), number == len(ladder.steps)
        runs = [Run.named(cell.run) for cell in cells]
        waiting = [run.name for run in runs if state_of(run) not in ("done", "failed")]
        if waiting:
            if not last:
                say(f"then the best {_kept(names)} and {AS_IS}, with {count_name(steps * FACTOR)} steps")
            if not dry_run:
                say(f"{len(waiting)} runs of the rung are not done: the same command carries on")
            return worst
        ranked = list(judge(runs, rung.name))
        best = [pilot.setting for pilot in ranked if pilot.setting != AS_IS][: _kept(names)]
        names = [AS_IS, *best]
        _tell(ranked, [] if last else names, say)
    _conclude(ladder, ranked, say)
    return worst


def _kept(names: Sequence[str]) -> int:
    """How many settings go on, besides the one as it is."""
    return max(1, math.ceil((len(names) - 1) / FACTOR))


def _rung(matrix: Matrix, ladder: Ladder, names: Sequence[str], steps: int) -> tuple[Matrix, list[RunSpec]]:
    """The matrix of one rung, each setting an environment of its own, and its cells."""
    env = matrix.environments[ladder.env].model_dump()
    environments = {name: {**env, "args": {**env["args"], **ladder.settings[name]}} for name in names}
    name = f"{matrix.name}-pilots-{ladder.env}-{count_name(steps)}"
    rung = matrix.but({"name": name, "environments": environments, "steps": [steps], "pilots": {}})
    return rung, expand(rung)


def _tell(ranked: Sequence[Pilot], promoted: Sequence[str], say: Callable[[str], None]) -> None:
    """How the settings did, the best first, and which of them go on."""
    for place, pilot in enumerate(ranked, 1):
        on = " -> goes on" if pilot.setting in promoted else ""
        say(f"  {place}. {pilot.setting}: {pilot.words}{on}")
    if promoted:
        say(f"  what learns first goes on, then what gains most; {AS_IS} always does, for comparison")


def _conclude(ladder: Ladder, ranked: Sequence[Pilot], say: Callable[[str], None]) -> None:
    """Which setting first showed learning, and what to type next."""
    first = next((pilot for pilot in ranked if pilot.learns), None)
    if first is None:
        say(f"{ladder.env}: no setting shows learning; train longer (--steps) or list other settings under `pilots:`")
    elif first.setting == AS_IS:
        say(f"{ladder.env}: it learns as it is, before any setting: no knob has to be turned")
    else:
        words = " ".join(f"{key}={word_text(value)}" for key, value in ladder.settings[first.setting].items())
        say(f"{ladder.env}: {first.setting} shows learning first: put {words} into its args in the matrix file")
        say("whatever learns there, test it on the unchanged task again")
