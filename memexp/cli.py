"""The command line: each command is a few lines that call one function. Exit codes: 0 done, 1 failed, 2 wrong usage.

`memexp train` ends with 75 (EX_TEMPFAIL) when it was told to stop and wrote a checkpoint: a managed job is then
restarted, and resumes. What a command needs is imported when it runs, so that planning stays instant.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from memexp.config import UsageError, did_you_mean
from memexp.launch import LaunchError
from memexp.runs import RESTART

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

_TyperError: type[Exception] = typer.BadParameter.__mro__[2]
"""Base of what Typer itself raises for wrong usage."""


class _Group(TyperGroup):
    """Every error is one clear line on stderr and an exit code, never a traceback or a box."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **settings: Any) -> Any:
        try:
            code = super().main(args, *rest, **{**settings, "standalone_mode": False})
        except UsageError as error:
            sys.exit(_fail(str(error), WRONG_USAGE))
        except LaunchError as error:
            sys.exit(_fail(str(error), FAILED))
        except _TyperError as error:
            sys.exit(_fail(explain(error), WRONG_USAGE))
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(_fail("stopped", FAILED))
        except BrokenPipeError:
            sys.stderr.close()  # what reads our output has gone: `memexp ... | head`
            sys.exit(FAILED)
        if code == INTERRUPTED:  # Typer's own answer to Ctrl-C
            sys.exit(_fail("stopped", FAILED))
        sys.exit(code or DONE)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        print(f"memexp: {line}", file=sys.stderr)
    return code


def explain(error: Any) -> str:
    """What Typer found wrong, with the nearest right word where there is one."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    if option and context and option not in (known := _options(context)):
        return f"unknown option '{option}'{did_you_mean(option, known)}"
    message = " ".join(error.format_message().split()).rstrip(".")
    if context and message.startswith("No such command"):
        word = message.split("'")[1]
        return f"unknown command '{word}'{did_you_mean(word, context.command.list_commands(context))}"
    return message[:1].lower() + message[1:]


def _options(context: Any) -> list[str]:
    return [name for parameter in context.command.params for name in (*parameter.opts, *parameter.secondary_opts)]


app = typer.Typer(
    cls=_Group,
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


Words = Annotated[list[str] | None, typer.Argument(metavar="TARGET [KEY=VALUE]...", show_default=False)]
RecipeWords = Annotated[list[str], typer.Argument(metavar="RECIPE [KEY=VALUE]...", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
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
    from memexp.launch import launch as flow

    del given["words"]
    options = flow.Options(**{**given, "select": tuple(select or ())})
    if words and words[0] == "pilots":
        return _pilots(words[1:], options)
    return flow.launch(words or [], options, Console(), Console(stderr=True), typer.confirm)


def _pilots(words: list[str], options: Any) -> int:
    """Cheap runs that look for knobs with which an agent learns."""
    from memexp.analysis.knobs.suggest import suggest
    from memexp.analysis.pilots import judge_pilots
    from memexp.launch.pilots import pilots

    def settings(env: str, knobs: dict[str, Any]) -> list[dict[str, Any]]:
        return [one.settings for one in suggest(env, knobs)]

    return pilots(words, options, settings, judge_pilots, Console(), Console(stderr=True), typer.confirm)


@app.command()
def train(words: RecipeWords) -> int:
    """Train one run in this process (what a node executes, under torchrun)."""
    config, arguments = _config(words)
    return exit_of(config, ["memexp", "train", *arguments])


def exit_of(config: Any, argv: list[str]) -> int:
    """Train `config`; the exit code."""
    from memexp.envs.base import WorldError
    from memexp.ppo.train import CheckpointError
    from memexp.ppo.train import train as run

    try:
        outcome = run(config, argv=argv)
    except WorldError as error:
        return _fail(str(error), FAILED)
    except (CheckpointError, OSError) as error:
        return _fail(f"{config.run}: {error}", FAILED)
    if outcome.status == "completed":
        return DONE
    return _fail(
        f"{config.run} {outcome.status}: {outcome.reason}", RESTART if outcome.status == "preempted" else FAILED
    )


@app.command()
def doctor(words: RecipeWords, as_json: AsJson = False) -> int:
    """Check that the policy that acts is the policy that learns, and the environment and the device besides."""
    config, _ = _config(words)
    from memexp.ppo.doctor import doctor as examine

    report = examine(config)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        report.print()
    return DONE if report.ok else FAILED


@app.command()
def bench(
    words: RecipeWords,
    updates: Annotated[int, typer.Option(min=1, help="Updates that are timed.")] = 5,
    table: Annotated[Path | None, typer.Option(help="Table to write into; else this machine's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a recipe trains here; launches then plan with it. Under torchrun: all ranks together."""
    config, _ = _config(words)
    from memexp.launch.throughput import add_figure, figure_of
    from memexp.ppo.bench import measure

    notes = Console(stderr=True)
    found = measure(config, updates, lambda sps: notes.print(f"{sps:,.0f} agent steps/s", highlight=False))
    figure = figure_of(config, found.device, found.gpus, found.sps)
    where = add_figure(figure, table)
    if as_json:
        print(figure.model_dump_json(indent=2))
    else:
        spread = f"{found.lowest:,.0f} to {found.highest:,.0f}"
        print(f"{found.sps:,.0f} agent steps/s (median of {updates} updates, {spread}) on {figure.hardware}; {where}")


def _config(words: list[str]) -> tuple[Any, list[str]]:
    """The config that a recipe and its words stand for, and the words that say so."""
    from memexp.config import parse_words
    from memexp.launch.cell import recipe_cells
    from memexp.launch.recipe import split_target

    recipe, pairs = split_target(words)
    cell = recipe_cells(recipe, parse_words(pairs))[0]
    return cell.config, cell.arguments


@app.command()
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
    from memexp.launch.merge import Look, watch_table
    from memexp.launch.status import find_targets, status_view

    if watch:
        return watch_table(targets or [], Console())
    look = Look()
    statuses = look.at(targets or [])
    if look.problem:
        print(f"memexp: SkyPilot's queue is not known: {look.problem}", file=sys.stderr)
    todo: dict[str, str] | None = None
    if plan:
        from memexp.watch import plans

        todo = plans(find_targets(targets or []))
    if as_json:
        rows = [one.as_dict() | ({"next": todo.get(one.run)} if todo is not None else {}) for one in statuses]
        print(json.dumps(rows, indent=2))
    elif statuses:
        Console().print(status_view(statuses, todo), soft_wrap=True)
    else:
        print("no runs yet")
    return None


@app.command()
def monitor(
    target: Annotated[str, typer.Argument(metavar="RUN|MATRIX", show_default=False)],
    once: Annotated[bool, typer.Option(help="Print it once; so it is also without a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a run or a matrix: progress, return, funnel, entropy, consistency, GPU, time split, checkpoint, alarms."""
    from memexp.launch.monitor.screen import monitor as watch

    watch(target, once, as_json, Console(), Console(stderr=True))


@app.command()
def cancel(targets: Annotated[list[str], typer.Argument(metavar="MATRIX|RUN...", show_default=False)]) -> None:
    """End runs after a checkpoint, here and in the cloud; launching them again resumes them."""
    from memexp.launch.control import cancel as end

    number = end(targets, print)
    print(f"{number} run{'s' * (number != 1)} cancelled")


@app.command()
def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until the run ends.")] = False,
) -> None:
    """Print what a run printed, here or in the cloud."""
    from memexp.launch.control import print_logs

    print_logs(run, follow, lambda line: print(line, end="", flush=True))


@app.command()
def report(
    target: Annotated[str, typer.Argument(metavar="MATRIX|RUNS_DIR|wandb:ENTITY/PROJECT", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Where the page is written.", show_default=False)] = None,
    md: Annotated[
        Path | None, typer.Option("--md", help="Also write a paper's appendix (Markdown).", show_default=False)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Also write every picture as PNG and SVG here.", show_default=False)
    ] = None,
    watch: Annotated[
        bool, typer.Option(help="Keep verdicts, and what to run next, up to date until Ctrl-C; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Answer the question: write the report, print its path and the verdicts."""
    if watch:
        if out or md or figures or as_json:
            raise UsageError("--watch writes nothing: leave out --out, --md, --figures and --json")
        from memexp.reports import verdict_table
        from memexp.watch import watch as keep_watching

        return keep_watching(target, verdict_table, Console())
    from memexp.analysis.answer import answer_of
    from memexp.analysis.load import load
    from memexp.reports import runs_of, verdict_table, write_reports

    name, runs, notes = runs_of(target)
    environments, more = load(runs, name)
    notes += more
    found = answer_of(environments, notes, name)
    if as_json:
        print(json.dumps(found, indent=2))
    written = []
    if out or md or figures or not as_json:
        written = write_reports(environments, found, out, md, figures, page=not as_json)
    if not as_json:
        Console().print(verdict_table(found))
        for path in written:
            print(path)
    return None


@app.command()
def play(
    words: Annotated[list[str], typer.Argument(metavar="RUN|ENV [KEY=VALUE]...", show_default=False)],
    player: Annotated[
        str | None, typer.Option(help="Who plays an environment: random, memoryless, memory or full.")
    ] = None,
    greedy: Annotated[bool, typer.Option(help="A run's policy takes its most probable action.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of world and player; else 0, or the run's.")] = None,
    task: Annotated[int | None, typer.Option(help="Task id; else drawn by the seed.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop watching after so many steps.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the page is written.", show_default=False)] = None,
    ascii: Annotated[bool, typer.Option("--ascii", help="Show it here in the terminal.")] = False,
) -> int:
    """Watch one episode: of a run's policy, a scripted player or the random policy, as a page or in the terminal."""
    from memexp.replay.play import ReplayError
    from memexp.replay.play import play as watch
    from memexp.replay.target import Options

    try:
        watch(words, Options(player, greedy, seed, task), max_steps, out, ascii, Console(), Console(stderr=True))
    except ReplayError as error:
        return _fail(str(error), FAILED)
    return DONE


@app.command()
def funnel(
    words: Annotated[list[str], typer.Argument(metavar="ENV [KEY=VALUE]...", show_default=False)],
    player: Annotated[list[str] | None, typer.Option(help="random, memoryless, memory, full; repeatable.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each player.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Other worlds, tasks and luck.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show how far players that do not learn come on the way to reward, and what they earn (measured once)."""
    from memexp.ppo.funnel import funnel_table, funnels

    found = funnels(words, player or ["random"], episodes, seed, Console(stderr=True))
    if as_json:
        print(json.dumps([one.model_dump() for one in found], indent=2))
    else:
        Console().print(funnel_table(found))


@app.command("list")
def show(
    what: Annotated[str, typer.Argument(metavar="recipes|envs|patterns|runs", show_default=False)],
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False)] = None,
    knobs: Annotated[bool, typer.Option("--knobs", help="(envs) Default, range and effect of every knob.")] = False,
    as_json: AsJson = False,
) -> None:
    """List recipes, environments with their knobs, pattern tokens, or runs.

    `patterns` says what stacks cost, at sizes of your own: d_hidden=64 num_layers=3 n_heads=4 mem_len=16 pattern=AgSA.
    """
    from memexp.launch.listing import list_rows, pattern_table

    rows = list_rows(what, words or [])
    if knobs and what != "envs":
        raise UsageError(f"--knobs is for the list of envs, not of {what}")
    if knobs:
        from memexp.launch.knobs import knob_list, knob_rows

        print(json.dumps(knob_rows(), indent=2)) if as_json else Console().print(knob_list(knob_rows()))
        return
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if what == "patterns":
        Console().print(pattern_table(rows))
        return
    for row in rows:
        first, *others = row.values()
        print(f"{first}  {'  '.join(str(other) for other in others)}".rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (by default the process's own); returns the exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="memexp")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    return DONE
