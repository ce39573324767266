"""Commands for many runs: launch them, show how they stand, cancel them, read their logs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from memexp.cli.common import AsJson
from memexp.config import MAX_RUNS, UsageError
from memexp.console import Console, Printable, say, table_console
from memexp.formatting import counted


def launch(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="TARGET [KEY=VALUE]...")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run. A run that exists is resumed.")] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs of each node (0: none); with --local, processes.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes of each run.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs that each node has at least.")] = None,
    spot: Annotated[
        bool | None,
        typer.Option("--spot/--no-spot", help="Only spot machines, or none. Default: spot machines if there are any."),
    ] = None,
    copies: Annotated[
        int | None, typer.Option(min=1, max=MAX_RUNS, help="Number of runs, which differ only in their seed.")
    ] = None,
    git_ref: Annotated[str | None, typer.Option(help="Commit, tag or branch that the nodes run.")] = None,
    max_runtime_hours: Annotated[
        float | None,
        typer.Option("--max-runtime-hours", "-t", help="Stop each run after this time, all its starts together."),
    ] = None,
    heartbeat_timeout_seconds: Annotated[
        int | None,
        typer.Option("--heartbeat-timeout-seconds", "--hb", min=1, help="Restart a run that is silent for this long."),
    ] = None,
    skip_git_check: Annotated[
        bool, typer.Option(help="Launch even if local changes are uncommitted or unpushed.")
    ] = False,
    confirm: Annotated[bool, typer.Option(help="Ask before submitting.")] = False,
    infra: Annotated[str | None, typer.Option(help="Where to run: aws, gcp, k8s, slurm/CLUSTER, ...")] = None,
    bucket: Annotated[str | None, typer.Option(help="Bucket for the run directories: s3://..., gs://...")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Submit nothing if it may cost more dollars.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also submit runs whose job failed.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Resume runs although the code of their environment has changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything and show the plan, but submit nothing.")] = False,
    no_build: Annotated[
        bool,
        typer.Option(
            "--no-build",
            help="Import nothing that runs name, and make no environment or stack before.",
        ),
    ] = False,
    dump_config: Annotated[str | None, typer.Option(help="Print the SkyPilot tasks as yaml or json.")] = None,
    render: Annotated[Path | None, typer.Option(help="Write one SkyPilot task file a run to this folder.")] = None,
    local: Annotated[bool, typer.Option(help="Run on this machine.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="With --local: runs at a time. Default: as fit.")] = None,
    nproc: Annotated[int | None, typer.Option(min=1, help="With --local: processes of each run (torchrun).")] = None,
    scout: Annotated[
        bool, typer.Option(help="Time one run of each environment (2 minutes in all), show the plan, launch nothing.")
    ] = False,
    select: Annotated[
        list[str] | None,
        typer.Option(help="Launch only these runs of the matrix: arch=S,X16 or env=maze,arch=S. Repeatable."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Number of seeds of the matrix, or a list: 0,1,2 or 7,.")] = None,
    steps: Annotated[str | None, typer.Option(help="Agent steps of each run: 2b, 500m.")] = None,
    scale: Annotated[str | None, typer.Option(help="Name of one of the matrix file's scales.")] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Run every arm of the matrix at learning_rate x 3 and / 3.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Launch a recipe, or every run of a matrix file (*.yaml), in the cloud or on this machine.

    Completed runs are skipped. `launch pilots MATRIX` uses cheap runs of one architecture to find knobs with which an
    agent learns.
    """
    given: dict[str, Any] = dict(locals())
    from memexp.launch import Terminal
    from memexp.launch.launch import launch as run_launch
    from memexp.launch.plan.options import Options

    del given["arguments"]
    options = Options(**{**given, "select": tuple(select or ())})
    if arguments and arguments[0] == "pilots":
        return _pilots(arguments[1:], options)
    return run_launch(arguments or [], options, Terminal(typer.confirm), _final_return)


def _final_return(run: Any) -> float:
    from memexp.analysis.load import read_seed
    from memexp.launch import LaunchError

    try:
        seed = read_seed(run)
    except ValueError as error:
        raise LaunchError(f"{run.name}: {error}") from None
    return seed.final(seed.info.total_timesteps)


def _pilots(arguments: list[str], options: Any) -> int:
    from memexp.analysis.knobs.suggest import suggest
    from memexp.analysis.pilots import judge_pilots
    from memexp.launch import Terminal
    from memexp.launch.pilots import pilots

    def settings(env: str, knobs: dict[str, Any]) -> list[dict[str, Any]]:
        return [one.settings for one in suggest(env, knobs)]

    return pilots(arguments, options, settings, judge_pilots, Terminal(typer.confirm))


def status(
    targets: Annotated[list[str] | None, typer.Argument(metavar="[MATRIX|RUN]...")] = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option(help="Update the table until Ctrl-C.")] = False,
    plan: Annotated[
        bool, typer.Option("--next", help="Also judge the runs: which to stop, and which seeds to run next.")
    ] = False,
) -> None:
    """Show the state, agent steps, return, rate, time left and dollars of runs, here and in the cloud."""
    if plan and watch:
        raise UsageError("--next judges the runs once; to keep judging them: memexp report MATRIX --watch")
    from memexp.launch.status.cloud_status import StatusReader, watch_table
    from memexp.launch.status.status import status_view
    from memexp.launch.status.targets import find_targets

    if watch:
        return watch_table(targets or [], Console())
    reader = StatusReader()
    statuses = reader.read(targets or [])
    if reader.problem:
        say(f"memexp: SkyPilot's queue is not known: {reader.problem}", error=True)
    todo: dict[str, str] | None = None
    if plan:
        from memexp.cli.report_watch import plans

        todo = plans(find_targets(targets or []))
    if as_json:
        rows = [one.as_dict() | ({"next": todo.get(one.run)} if todo is not None else {}) for one in statuses]
        print(json.dumps(rows, indent=2))
    elif statuses:
        table_console().print(status_view(statuses, todo), soft_wrap=True)
    else:
        print("no runs yet")
    return None


def monitor(
    targets: Annotated[list[str], typer.Argument(metavar="RUN|MATRIX...")],
    once: Annotated[bool, typer.Option(help="Print the dashboard once; the default without a terminal.")] = False,
    arm: Annotated[
        list[str] | None, typer.Option(help="Only this arm (S, S~), its curve over those of the others; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a live dashboard of a run or a matrix: progress, return, funnel, entropy, GPU, checkpoints, alarms.

    Of several runs or matrices, and of single arms, it shows the curves over one another.
    """
    from memexp.launch.status.monitor.screen import monitor as watch

    watch(targets, once, as_json, Console(), Console(stderr=True), arm or ())


def cancel(targets: Annotated[list[str], typer.Argument(metavar="MATRIX|RUN...")]) -> None:
    """Cancel runs after a checkpoint, here and in the cloud, and those that wait for their start. Launching resumes."""
    from memexp.launch.status.control import cancel as cancel_runs

    cancelled, dropped = cancel_runs(targets, say)
    verb = "is" if dropped == 1 else "are"
    rest = f", {dropped} that waited {verb} not started; launching again resumes" if dropped else ""
    print(f"{counted(cancelled, 'run')} cancelled{rest}")


def logs(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Also print new lines until the run ends.")] = False,
) -> None:
    """Print what a run printed, here or in the cloud."""
    from memexp.launch.status.control import print_logs

    print_logs(run, follow, Printable())
