"""`memexp report`: the runs of a target, their verdicts as a table, and the files that were asked for."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from memexp.cli.common import AsJson
from memexp.config import UsageError
from memexp.console import Console, say, table_console
from memexp.formatting import counted

if TYPE_CHECKING:
    from memexp.analysis.answer import Answer


def report(
    targets: Annotated[list[str] | None, typer.Argument(metavar="MATRIX|RUN|RUNS_DIR|wandb:ENTITY/PROJECT...")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the HTML page to this file.")] = None,
    md: Annotated[Path | None, typer.Option("--md", help="Also write a Markdown appendix for a paper.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Also write every figure as PNG and SVG to this folder.")] = None,
    watch: Annotated[
        bool, typer.Option(help="Update the verdicts and the next runs until Ctrl-C. Write no files.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option("--from", help="Logs of another program: CSV or event files, a folder, wandb:ENTITY/PROJECT."),
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="With --from: YAML file that maps the columns.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="NAME=COLUMN", help="With --from: one line of such a file; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge the runs: write the report, and print its path and the verdicts.

    Several targets stand over one another. Arms that are in several are told apart: 'ARM of TARGET'.
    """
    if bool(targets) == bool(source):
        raise UsageError("name a matrix, a folder of runs, or --from LOGS" + ("; not both" if targets else ""))
    if (map_file or column) and not source:
        raise UsageError("--map and --column describe the logs of --from")
    if watch and source:
        raise UsageError("--watch is for runs of memexp, not for --from")
    if watch and targets:
        if len(targets) > 1:
            raise UsageError(f"--watch judges one target, not also {targets[1]}; `memexp monitor` shows several")
        if out or md or figures or as_json:
            raise UsageError("--watch writes nothing: leave out --out, --md, --figures and --json")
        from memexp.cli.report_watch import watch as keep_watching

        return keep_watching(targets[0], verdict_table, Console())
    from memexp.analysis.answer import answer_of
    from memexp.analysis.answer_json import answer_json
    from memexp.analysis.load import load

    name, runs, notes, *stated = foreign_runs_of(source, map_file, column or []) if source else runs_of(targets or [])
    environments, more = load(runs, name, *stated)
    found = answer_of(environments, notes + more, name)
    if source:
        given = [
            ("--from", source),
            *[("--map", str(map_file))] * bool(map_file),
            *(("--column", c) for c in column or []),
        ]
        found = replace(found, source=shlex.join(word for pair in given for word in pair))
    if as_json:
        print(json.dumps(answer_json(found), indent=2))
    written = []
    if out or md or figures or not as_json:
        written = write_reports(found, out, md, figures, page=not as_json)
    if not as_json:
        table_console().print(verdict_table(found))
        for note in found.notes:
            say(f"note: {note}")
        for path in written:
            say(path)
    return None


class Compared:
    """A run of a comparison: under another name of its arm, and as part of the matrix `name`."""

    def __init__(self, run: Any, arm: str, name: str):
        self._run = run
        self.info = run.info.model_copy(update={"arm": arm, "matrix": name})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


def runs_of(targets: list[str]) -> tuple[Any, ...]:
    """(name, runs, notes on runs that cannot be read) of a matrix, a folder of runs, or wandb:ENTITY/PROJECT; of a
    matrix file also what it states (see `load`). Several targets are one: a run that is in two is there once.

    Raises UsageError for an unknown target, LaunchError if W&B does not answer.
    """
    if len(targets) == 1:
        return _runs_of(targets[0])
    from memexp.launch.status.targets import told_apart
    from memexp.runs.status import known

    name, notes, stated, found = ", ".join(targets), list[str](), dict[str, Any](), dict[Any, tuple[Any, Any, str]]()
    for target in targets:
        _, runs, more, *says = _runs_of(target)
        notes += more
        stated |= says[0] if says else {}
        for run in runs:
            if info := known(lambda run=run: run.info, problems := list[str]()):
                found.setdefault(getattr(run, "path", run), (run, info, target))
            notes += [f"{run.name}: {problem}" for problem in problems]
    arms = told_apart([(target, info.env, info.arm) for _, info, target in found.values()])
    compared = [Compared(run, arm, name) for (run, _, _), arm in zip(found.values(), arms, strict=True)]
    return name, compared, list(dict.fromkeys(notes)), stated


def _runs_of(target: str) -> tuple[Any, ...]:
    from memexp.launch.status.targets import find_matrix

    if not target.startswith("wandb:"):
        return find_matrix(target)
    from memexp.runs.wandb_source import wandb_runs

    return _from_wandb(target, lambda: wandb_runs(target.removeprefix("wandb:"), _progress("reading W&B")))


def foreign_runs_of(source: str, file: Path | None, pairs: list[str]) -> tuple[str, list[Any], list[str]]:
    """The same of the logs of another program. Raises UsageError for a wrong mapping."""
    from memexp.config import parse_overrides, read_yaml
    from memexp.runs.foreign import foreign_runs, mapping_of

    mapping = mapping_of(read_yaml(file) if file else {}, parse_overrides(pairs), str(file or "--column"))
    return _from_wandb(source, lambda: foreign_runs(source, mapping, _progress("reading logs")))


def _progress(what: str) -> Any:
    from rich.progress import track

    notes = Console(stderr=True)
    return lambda things: track(things, what, console=notes, transient=True, disable=not notes.is_terminal)


def _from_wandb(target: str, read: Any) -> tuple[str, list[Any], list[str]]:
    """What `read` returns. Raises LaunchError if W&B does not answer."""
    from memexp.launch import LaunchError

    if not target.startswith("wandb:"):
        return read()
    from wandb import Error

    try:
        return read()
    except UsageError:
        raise
    except (Error, ValueError) as error:
        raise LaunchError(f"cannot read {target}: {' '.join(str(error).split())}") from None


def write_reports(found: "Answer", out: Path | None, md: Path | None, figures: Path | None, page: bool) -> list[Path]:
    """Write the files that have a path, and with `page` the HTML page in any case; returns the paths."""
    from memexp.analysis.figures.files import save_figures  # matplotlib: only where something is drawn
    from memexp.analysis.formatting import file_name
    from memexp.analysis.report import write_markdown, write_report
    from memexp.launch import LaunchError
    from memexp.runs import home

    if page and not out:
        out = home() / "reports" / f"{file_name(found.matrix)}.html"
    wanted = [
        (path, write) for path, write in ((out, write_report), (md, write_markdown), (figures, save_figures)) if path
    ]
    for path, write in wanted:
        try:
            write(found, path)
        except OSError as error:
            raise LaunchError(f"cannot write {path}: {error.strerror}") from None
    return [path for path, _ in wanted]


def verdict_table(found: "Answer") -> Table:
    """The verdicts of a report, one line an environment."""
    from memexp.analysis.alpha_spending import MIN_SEEDS
    from memexp.analysis.convergence import ConvergenceKind
    from memexp.analysis.formatting import interval, kind_text, number
    from memexp.analysis.learning import LearningState

    table = Table("environment", "memory", "effect of memory", "learned", "converged", box=box.SIMPLE_HEAD)
    for name, one in found.environments.items():
        memory, arms = one.memory, one.arms.values()
        effect = "" if memory.effect is None else f"{number(memory.effect)} {interval(memory.interval)}"
        learned = sum(arm.learning.learned for arm in arms)
        early = sum(arm.learning.verdict is LearningState.UNDECIDED for arm in arms)
        converged = sum(arm.convergence.verdict is ConvergenceKind.CONVERGED for arm in arms)
        open_ = sum(arm.convergence.verdict is ConvergenceKind.UNDECIDED for arm in arms)
        most = max((len(arm.arm.seeds) for arm in arms), default=0)
        few = f": {counted(most, 'seed')}, needs {MIN_SEEDS}" if most < MIN_SEEDS else ""
        shares = [_share(*counts, len(arms), few) for counts in ((learned, early), (converged, open_))]
        table.add_row(name, kind_text(memory.verdict.kind), effect, *shares)
    return table


def _share(count: int, undecided: int, arms: int, few: str) -> str:
    """'1 of 3 arms', '1 of 3 arms, 1 undecided', '0 of 2 arms judged: 1 seed, needs 4'. `few`: why none can be."""
    if undecided == arms and few:
        return f"0 of {arms} arms judged{few}"
    return f"{count} of {arms} arms" + (f", {undecided} undecided" if undecided else "")
