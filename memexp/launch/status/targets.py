"""Which runs a name on the command line means: a run, a matrix, a matrix file or a folder of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from memexp.config import UsageError, did_you_mean
from memexp.formatting import counted
from memexp.launch import waiting
from memexp.launch.cloud import submissions
from memexp.launch.plan.expand import expand
from memexp.launch.plan.matrix import load_matrix
from memexp.launch.plan.tuning import first_trials
from memexp.runs import Run, RunInfo, find_runs, runs_dir
from memexp.runs.status import RunStatus, State, info_of, matrix_of


class Target:
    """The runs of a name: a run, a matrix, a matrix file, a folder of runs, or FOLDER/MATRIX.

    A matrix file means all its combinations, and all runs of the matrix's name, also those with other seeds or steps.
    """

    def __init__(self, name: str, to_report: bool = False):
        """`to_report`: only runs that have begun, and the matrix if a run has the same name.

        Raises UsageError if there are no such runs, with the nearest name that has some.
        """
        self.name, self._to_report = name, to_report
        self.matrix: str | None = name
        self.folder: Path | None = None
        self.planned: dict[str, RunStatus] = {}
        """What a matrix file says about its runs."""
        self._matrices: dict[str, str | None] = {}
        self.arms: set[tuple[str, str]] = set()
        """(environment, arm) of a matrix file's runs, as it is now."""
        self.stated: dict[str, dict[str, Any]] = {}
        """Environment -> what a matrix file says of its task, and the metric."""
        self._at: Run | None = None
        path, is_file = Path(name), name.endswith((".yaml", ".yml"))
        if is_file:
            matrix = load_matrix(name)
            self.matrix = matrix.name
            self.stated = {env: {**one.stated, "metric": matrix.metric} for env, one in matrix.environments.items()}
            specs = expand(matrix, name)
            self.arms = {(spec.env, spec.config.arm) for spec in specs}
            for spec in [] if to_report else [*first_trials(matrix), *specs]:
                self.planned[spec.run] = RunStatus(
                    run=spec.run,
                    state=State.NEW,
                    env=spec.env,
                    arm=spec.config.arm,
                    seed=spec.config.seed,
                    total_timesteps=spec.agent_steps,
                )
        elif path.parent != Path() and Run(path).exists():
            self._at = Run(path)
        elif path.is_dir() and not _begun(name) and find_runs(path):
            self.folder, self.matrix = path, None
        elif path.parent != Path() and find_runs(path.parent):
            self.folder, self.matrix = path.parent, path.name
        self.is_run = self._at is not None
        is_run = not is_file and not self.folder and (_begun(name) or name in _launched())
        if is_run and not (to_report and self.runs()):
            self.is_run = True
        if not self.runs():
            if is_file:
                raise UsageError(f"no run of {name} has started: `memexp launch {name}`")
            if path.is_dir():
                raise UsageError(f"there are no runs in {name}")
            raise self._unknown()

    def runs(self, unknown: bool = False) -> list[Run]:
        """The runs that exist or are planned now: those of the matrix file in its order, then by name.

        `unknown`: also runs that may belong to any matrix, because their run.json is damaged.
        """
        if self.is_run:
            return [self._at or Run.named(self.name)]
        found, elsewhere = find_runs(self.folder), dict[str, str | None]()
        if not self.folder and not self._to_report:
            elsewhere = _launched()
            there = {run.name for run in found}
            found += [Run.named(name) for name in elsewhere if name not in there]
        for run in found:
            if self._matrices.get(run.name) is None:
                self._matrices[run.name] = matrix_of(run) or elsewhere.get(run.name)
        if self.matrix is not None:
            wanted = {self.matrix, None} if unknown else {self.matrix}
            found = [run for run in found if (matrix := self._matrices[run.name]) in wanted and (matrix or lost(run))]
        return [Run.named(name) for name in self.planned] + [run for run in found if run.name not in self.planned]

    def _unknown(self) -> UsageError:
        name = self.matrix or self.name
        where = "" if self._matrices else f": there are no runs in {runs_dir()}"
        matrices = {matrix for matrix in self._matrices.values() if matrix}
        hint = did_you_mean(name, [*self._matrices, *matrices])
        if hint.startswith("; known") and matrices:
            hint = did_you_mean(name, matrices)  # the list of all runs would be too long
        return UsageError(f"no run and no matrix is called '{name}'{where}{hint}")


class Targets:
    """Several targets side by side, as if they were one matrix. Raises UsageError as Target does."""

    is_run, matrix = False, None

    def __init__(self, names: Sequence[str]):
        self.name, self._targets = ", ".join(names), {name: Target(name) for name in names}
        self.planned = {run: planned for one in self._targets.values() for run, planned in one.planned.items()}
        self.owners: dict[Path, str] = {}
        """Run directory -> the first target that it belongs to."""

    def runs(self, unknown: bool = False) -> list[Run]:
        """See Target.runs. A run of several targets is there once."""
        found: dict[Path, Run] = {}
        for name, target in self._targets.items():
            for run in target.runs(unknown):
                found.setdefault(run.path, run)
                self.owners.setdefault(run.path, name)
        return list(found.values())


def told_apart(places: Sequence[tuple[str, str, str]]) -> list[str]:
    """The names of arms, of (target, environment, arm) each: 'ARM of TARGET' if the arm is in several targets."""
    owners: dict[tuple[str, str], set[str]] = {}
    for target, env, arm in places:
        owners.setdefault((env, arm.removesuffix("~")), set()).add(target)
    short = {target: Path(target).name for target, _, _ in places}
    if len(set(short.values())) < len(short):  # a/runs and b/runs
        short = {target: target for target in short}
    names: list[str] = []
    for target, env, arm in places:
        base = arm.removesuffix("~")
        names.append(f"{base} of {short[target]}{arm[len(base) :]}" if len(owners[env, base]) > 1 else arm)
    return names


def find_targets(names: Sequence[str], unknown: bool = False) -> list[Run]:
    """The runs of all `names`; without names all runs that exist or were submitted from here.

    `unknown`: see Target.runs. Raises UsageError for a name without runs.
    """
    if names:
        return list({run.name: run for name in names for run in Target(name).runs(unknown)}.values())
    known = find_runs()
    there = {run.name for run in known}
    return known + [Run.named(name) for name in _launched() if name not in there]


def find_matrix(name: str) -> tuple[str, list[Run], list[str], dict[str, dict[str, Any]]]:
    """(name, runs, notes, `Target.stated`) to report on. Raises UsageError if there is no run.

    Of a matrix file, runs of arms and environments that it no longer has are left out; notes name these. A run whose
    run.json is damaged may belong to any matrix, so it is returned, too: the report then names it.
    """
    target = Target(name, to_report=True)
    runs = target.runs(unknown=True)
    if target.matrix is None:
        matrices = {matrix_of(run) for run in runs if info_of(run)}
        return (matrices.pop() if len(matrices) == 1 else None) or Path(name).resolve().name, runs, [], {}
    gone: dict[tuple[str, str], list[Run]] = {}
    for run in runs if target.arms else []:
        if (info := info_of(run)) and (info.env, _planned_arm(info)) not in target.arms:
            gone.setdefault((info.env, info.arm), []).append(run)
    left_out = {run.name for some in gone.values() for run in some}
    listed = ", ".join(f"{arm} of {env} ({counted(len(some), 'run')})" for (env, arm), some in gone.items())
    notes = [f"left out, because {name} no longer has them: {listed}"] if gone else []
    if len(left_out) == len(runs) and runs:
        raise UsageError(f"no run of {name} as it is now has started; {notes[0]}")
    return target.matrix, [run for run in runs if run.name not in left_out], notes, target.stated


def _planned_arm(info: RunInfo) -> str:
    """The matrix file's arm that the run belongs to: 'S' for a trial of S, 'S~' for 'S~@S'."""
    return info.tuning.arm if info.tuning else info.arm.partition("@")[0]


def lost(run: Run) -> bool:
    """Whether the run has a run.json that cannot be read."""
    return run.exists() and info_of(run) is None


def _launched() -> dict[str, str | None]:
    """Run -> its matrix, for runs that may have no directory yet: those submitted, and those of local launches."""
    return {name: sent.matrix for name, sent in submissions.read().items()} | waiting.matrices()


def _begun(name: str) -> bool:
    """Whether a run of this name has a directory, perhaps without run.json yet."""
    folder = runs_dir() / name
    return name == Path(name).name and any((folder / file).exists() for file in ("run.json", "config.yaml", "lock"))
