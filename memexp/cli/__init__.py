"""The command line: each command is a few lines that call one function. Exit codes: 0 done, 1 failed, 2 wrong usage.

`memexp train` ends with 75 (EX_TEMPFAIL) when it was told to stop and wrote a checkpoint: a managed job is then
restarted, and resumes. What a command needs is imported when it runs, so that planning stays instant.
"""

from collections.abc import Sequence

import typer

from memexp.cli import answering, launching, running
from memexp.cli.common import DONE, FAILED, Group

app = typer.Typer(
    cls=Group,
    help="Does an environment require memory, do agents learn, do they converge, how long does it take?",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


@app.callback()
def _about(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


for command in (
    launching.launch,
    running.train,
    running.doctor,
    running.bench,
    launching.status,
    launching.monitor,
    launching.cancel,
    launching.logs,
    answering.report,
    running.play,
    running.funnel,
):
    app.command()(command)
app.command("list")(answering.show)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (by default the process's own); returns the exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="memexp")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    return DONE
