"""What `memexp report` reads and writes: runs of a target, files that were asked for, verdicts as a table."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from memexp.analysis.answer import Answer
from memexp.analysis.convergence import ConvergenceKind
from memexp.analysis.formatting import file_name, interval, kind_text, number
from memexp.config import UsageError
from memexp.launch import LaunchError
from memexp.launch.status.status import find_matrix
from memexp.runs import home


def runs_of(target: str) -> tuple[str, list[Any], list[str]]:
    """The name and the runs of `target` (a matrix, a folder of runs, wandb:ENTITY/PROJECT), and notes on those that
    cannot be read. Raises UsageError for a name that fits nothing, LaunchError where W&B does not answer."""
    if not target.startswith("wandb:"):
        return *find_matrix(target), []
    from rich.progress import track
    from wandb import Error

    from memexp.runs.wandb_source import wandb_runs

    notes = Console(stderr=True)
    try:
        return wandb_runs(
            target.removeprefix("wandb:"),
            lambda runs: track(runs, "reading W&B", console=notes, transient=True, disable=not notes.is_terminal),
        )
    except UsageError:
        raise
    except (Error, ValueError) as error:
        raise LaunchError(f"cannot read {target}: {' '.join(str(error).split())}") from None


def write_reports(found: Answer, out: Path | None, md: Path | None, figures: Path | None, page: bool) -> list[Path]:
    """Write what was asked for, and the page in any case where `page`; returns the paths."""
    from memexp.analysis.figures.files import save_figures  # matplotlib: only where something is drawn
    from memexp.analysis.report import write_markdown, write_report

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


def verdict_table(found: Answer) -> Table:
    """The answer's verdicts, a line an environment."""
    table = Table("environment", "memory", "effect of memory", "learned", "converged", box=box.SIMPLE_HEAD)
    for name, one in found.environments.items():
        memory, arms = one.memory, one.arms.values()
        effect = "" if memory.effect is None else f"{number(memory.effect)} {interval(memory.interval)}"
        learned = sum(arm.learning.learned for arm in arms)
        converged = sum(arm.convergence.verdict is ConvergenceKind.CONVERGED for arm in arms)
        shares = [f"{number} of {len(arms)} arms" for number in (learned, converged)]
        table.add_row(name, kind_text(memory.verdict.kind), effect, *shares)
    return table
