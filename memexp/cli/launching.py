"""Commands for runs as a whole: launch them, see how they stand, end them."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from memexp.cli.common import AsJson, Words
from memexp.config import UsageError


def launch(
    words: Words = None,
    run: Annotated[str | None, typer.Option(help="The run's name: one that exists is resumed.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs of a node; with --local, processes.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes of a run.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs of a node, at least.")] = None,
    spot: Annotated[
        bool | None,
        typer.Option("--spot/--no-spot", help="Spot machines only, or none; else spot first.", show_default=False),
    ] = None,
    copies: Annotated[int | None, typer.Option(min=1, help="Runs that differ in the seed alone.")] = None,
    git_ref: Annotated[str | None, typer.Option(help="Commit, tag or branch that nodes run.")] = None,
    max_runtime_hours: Annotated[
        float | None, typer.Option("--max-runtime-hours", "-t", help="Stop a run after this long, over all restarts.")
    ] = None,
    heartbeat_timeout_seconds: Annotated[
        int | None,
        typer.Option("--heartbeat-timeout-seconds", "--hb", min=1, help="Restart a run that is silent for this long."),
    ] = None,
    skip_git_check: Annotated[bool, typer.Option(help="Launch although nodes run other code than is here.")] = False,
    confirm: Annotated[bool, typer.Option(help="Ask before submitting.")] = False,
    infra: Annotated[str | None, typer.Option(help="aws, gcp, k8s, slurm/cluster, ...")] = None,
    bucket: Annotated[str | None, typer.Option(help="Where run directories are kept: s3://..., gs://...")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Dollars: refuse what may cost more.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Submit runs again whose job failed.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Validate everything, show the plan, submit nothing.")] = False,
    dump_config: Annotated[str | None, typer.Option(help="Print the SkyPilot tasks: yaml or json.")] = None,
    render: Annotated[Path | None, typer.Option(help="Write one SkyPilot task a run into this folder.")] = None,
    local: Annotated[bool, typer.Option(help="Run here.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time (--local); else half the cores.")] = None,
    nproc: Annotated[int | None, typer.Option(min=1, help="Processes of a run (--local), under torchrun.")] = None,
    select: Annotated[list[str] | None, typer.Option(help="Cells to launch: arch=S,X16; repeatable.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Number of seeds, or a list: 0,1,2.")] = None,
    steps: Annotated[str | None, typer.Option(help="Agent steps of a run: 2b, 500m.")] = None,
    scale: Annotated[str | None, typer.Option(help="A scale of the matrix file.")] = None,
    as_json: AsJson = False,
) -> int:
    """Launch a recipe, or every cell of a matrix file (*.yaml), in the cloud or here; what is done is not run again.

    `launch pilots MATRIX` looks for the knobs with which an agent learns, by cheap runs on one architecture.
    """
    given: dict[str, Any] = dict(locals())
    from memexp.launch import Terminal
    from memexp.launch.launch import launch as run_launch
    from memexp.launch.plan.options import Options

    del given["words"]
    options = Options(**{**given, "select": tuple(select or ())})
    if words and words[0] == "pilots":
        return _pilots(words[1:], options)
    return run_launch(words or [], options, Terminal(typer.confirm))


def _pilots(words: list[str], options: Any) -> int:
    """Cheap runs that look for knobs with which an agent learns."""
    from memexp.analysis.knobs.suggest import suggest
    from memexp.analysis.pilots import judge_pilots
    from memexp.launch import Terminal
    from memexp.launch.pilots import pilots

    def settings(env: str, knobs: dict[str, Any]) -> list[dict[str, Any]]:
        return [one.settings for one in suggest(env, knobs)]

    return pilots(words, options, settings, judge_pilots, Terminal(typer.confirm))


def status(
    targets: Annotated[list[str] | None, typer.Argument(metavar="[MATRIX|RUN]...", show_default=False)] = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option(help="Keep the table up to date until Ctrl-C.")] = False,
    plan: Annotated[
        bool, typer.Option("--next", help="Also judge the runs: whether to stop paying, or which seeds to run next.")
    ] = False,
) -> None:
    """Show how runs stand, here and in the cloud: state, agent steps, return, rate, time left and dollars."""
    if plan and watch:
        raise UsageError("--next judges the runs once; to keep judging them: memexp report MATRIX --watch")
    from memexp.launch.status.cloud_status import Look, watch_table
    from memexp.launch.status.status import find_targets, status_view

    if watch:
        return watch_table(targets or [], Console())
    look = Look()
    statuses = look.at(targets or [])
    if look.problem:
        print(f"memexp: SkyPilot's queue is not known: {look.problem}", file=sys.stderr)
    todo: dict[str, str] | None = None
    if plan:
        from memexp.cli.report_watch import plans

        todo = plans(find_targets(targets or []))
    if as_json:
        rows = [one.as_dict() | ({"next": todo.get(one.run)} if todo is not None else {}) for one in statuses]
        print(json.dumps(rows, indent=2))
    elif statuses:
        Console().print(status_view(statuses, todo), soft_wrap=True)
    else:
        print("no runs yet")
    return None


def monitor(
    target: Annotated[str, typer.Argument(metavar="RUN|MATRIX", show_default=False)],
    once: Annotated[bool, typer.Option(help="Print it once; so it is also without a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a run or a matrix: progress, return, funnel, entropy, consistency, GPU, time split, checkpoint, alarms."""
    from memexp.launch.status.monitor.screen import monitor as watch

    watch(target, once, as_json, Console(), Console(stderr=True))


def cancel(targets: Annotated[list[str], typer.Argument(metavar="MATRIX|RUN...", show_default=False)]) -> None:
    """End runs after a checkpoint, here and in the cloud; launching them again resumes them."""
    from memexp.launch.status.control import cancel as end

    number = end(targets, print)
    print(f"{number} run{'s' * (number != 1)} cancelled")


def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until the run ends.")] = False,
) -> None:
    """Print what a run printed, here or in the cloud."""
    from memexp.launch.status.control import print_logs

    print_logs(run, follow, lambda line: print(line, end="", flush=True))
