"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage.

`memexp train` ends with 75 (EX_TEMPFAIL) if it was told to stop and wrote a checkpoint: SkyPilot then restarts the job,
which resumes. Each command imports what it needs when it runs, so that planning starts at once.
"""

import atexit
import gc
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from memexp.cli import launching, report, running, starting
from memexp.cli.common import DONE, FAILED, Command, Group


@atexit.register
def _end_without_a_search_for_garbage() -> None:
    """Python would search some 400,000 objects when the process ends: seconds on a busy machine.

    Not if Triton was imported: it reports whatever is left as leaked, in dozens of lines.
    """
    if "triton" not in sys.modules:
        gc.freeze()


app = typer.Typer(
    cls=Group,
    help="Does an environment require memory, do agents learn, do they converge, how long does it take?",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich cuts options that are longer than its columns
    invoke_without_command=True,
)


@app.callback()
def _main(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show_version:
        print(f"memexp {version('memexp')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (
    starting.init,
    launching.launch,
    running.train,
    running.doctor,
    running.check,
    running.bench,
    launching.status,
    launching.monitor,
    launching.cancel,
    launching.logs,
    report.report,
    running.horizon,
    running.export,
    running.play,
    running.funnel,
):
    app.command(cls=Command)(command)
app.command("eval", cls=Command)(running.evaluate)
app.command("list", cls=Command)(running.show)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (by default those of the process); returns the exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="memexp")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    return DONE
