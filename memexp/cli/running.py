"""Commands for one run, recipe or environment: train, check, time, watch an episode, list what there is."""

import csv
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from memexp.cli.common import DONE, FAILED, AsJson, Recipe, config_of, fail
from memexp.config import UsageError
from memexp.console import Console, Printable, say, table_console
from memexp.credentials import masked_output
from memexp.formatting import counted
from memexp.runs import RESTART, Run

Trust = Annotated[
    bool, typer.Option("--trust", help="Import whatever the run's config.yaml names: you know who wrote it.")
]


def train(
    recipe: Recipe,
    force: Annotated[bool, typer.Option("--force", help="Resume although the environment's code has changed.")] = False,
) -> int:
    """Train one run in this process. Nodes execute this command, under torchrun."""
    config, arguments = config_of(recipe)
    config = config.model_copy(update={"force": config.force or force})
    return exit_of(config, ["memexp", "train", *arguments])


def exit_of(config: Any, argv: list[str]) -> int:
    """Train `config`; returns the exit code. A log that gets the output gets no credentials."""
    from memexp.ppo.checkpoint import CheckpointError
    from memexp.ppo.train import train as run

    try:
        with masked_output():
            outcome = run(config, argv=argv)
    except CheckpointError as error:
        return fail(f"{config.run}: {error}", FAILED)
    if outcome.status == "completed":
        if os.environ.get("RANK", "0") == "0":
            place = Run.named(config.run).path
            print(f"{config.run}: completed; files in {place} (`memexp eval {config.run}`, `memexp play {config.run}`)")
        return DONE
    return fail(
        f"{config.run} {outcome.status}: {outcome.reason}", RESTART if outcome.status == "preempted" else FAILED
    )


def doctor(
    recipe: Annotated[list[str] | None, typer.Argument(metavar="RECIPE [KEY=VALUE]...")] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="MODULE:CALLABLE", help="Check a recurrent policy of another program instead.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check that acting and learning compute the same policy. Also check the environment and the device."""
    if bool(recipe) == bool(policy):
        raise UsageError("name a recipe or --policy MODULE:CALLABLE" + ("; not both" if policy else ""))
    if policy:
        from memexp.ppo.policy_doctor import examine_policy

        report: Any = examine_policy(policy)
    else:
        from memexp.ppo.doctor import doctor as examine

        config, _ = config_of(recipe or [])
        with masked_output():
            report = examine(config)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        report.print()
    return DONE if report.ok else FAILED


def check(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="MODULE:CLASS, an installed cell, or a token such as S.")],
    d_hidden: Annotated[int, typer.Option(min=1, help="Width of the stack, features.")] = 32,
    device: Annotated[str, typer.Option(help="Where to run it: cpu, cuda, ...")] = "cpu",
    as_json: AsJson = False,
) -> int:
    """Check that a memory cell keeps what memexp relies on: resets, rows, gradients, one function for both passes."""
    from memexp.cortex.check import check_cell

    report = check_cell(cell, d_hidden, device=device)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        report.print()
    return DONE if report.ok else FAILED


def bench(
    recipe: Recipe,
    updates: Annotated[int, typer.Option(min=1, help="Number of updates to time.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="Begin no further update after this time.")] = float("inf"),
    table: Annotated[
        Path | None, typer.Option(resolve_path=True, help="Throughput table to update. Default: this machine's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the training speed of a recipe on this machine. Later launches plan with it.

    Under torchrun it measures all ranks together.
    """
    config, _ = config_of(recipe)
    from memexp.launch.plan.throughput import add_figure, figure_of
    from memexp.ppo.train import measure

    notes = Console(stderr=True)
    with masked_output():
        found = measure(config, updates, lambda sps: notes.print(f"{sps:,.0f} agent steps/s"), seconds)
    figure = figure_of(config, found.device, found.gpus, found.sps, found.start_s)
    where = add_figure(figure, table)
    if as_json:
        print(figure.model_dump_json(indent=2))
    else:
        timed = f"median of {counted(found.updates, 'update')}, {found.lowest:,.0f} to {found.highest:,.0f}"
        print(f"{found.sps:,.0f} agent steps/s ({timed}) on {figure.hardware}; {where}")


def horizon(
    target: Annotated[list[str], typer.Argument(metavar="RUN|MATRIX")],
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Episodes for each length. Default: 200, fewer if they would take long.")
    ] = None,
    trust: Trust = False,
    force: Annotated[bool, typer.Option("--force", help="Measure although the code has changed.")] = False,
) -> int:
    """Measure how far back the policies of finished runs look: their returns with memory cut to the last k steps."""
    from memexp.launch.status.targets import find_targets
    from memexp.ppo.checkpoint import CheckpointError
    from memexp.ppo.horizon import horizon_of
    from memexp.runs.status import info_of

    def is_judged(run: Any) -> bool:
        """Whether it has a memory to cut, and is no trial of a setting."""
        info = info_of(run)
        return info is not None and info.memory == "on" and info.mem_len != 0 and not info.tuning

    runs = find_targets(target)
    named, code = len(runs) == 1, DONE
    if not named and not (runs := list(filter(is_judged, runs))):
        raise UsageError(f"{' '.join(target)}: no run that is judged has a memory to cut")
    for run in runs:
        try:
            found = horizon_of(
                run, episodes, trust, force, lambda k, name=run.name: say(f"{name}: k = {k}", error=True)
            )
        except (CheckpointError, OSError, UsageError) as error:
            if named and isinstance(error, UsageError):
                raise
            code = fail(f"{run.name}: {error}", FAILED)
            continue
        returns = "  ".join(f"{k}: {value:.3g}" for k, value in found.returns.items())
        say(f"{run.name}  {found.episodes} episodes  {returns}  whole: {found.whole:.3g}")
    return code


def evaluate(
    arguments: Annotated[list[str], typer.Argument(metavar="RUN [KEY=VALUE]...")],
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes, each with a task of its own.")] = 100,
    greedy: Annotated[bool, typer.Option(help="Take the most probable action instead of a random one.")] = False,
    env: Annotated[str | None, typer.Option(help="Another environment with the same observations and actions.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the evaluation. Default: the run's.")] = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Play a run's policy on held-out tasks: mean return with its 95 % interval over episodes.

    KEY=VALUE changes a knob of the environment: `memexp eval RUN length=12`.
    """
    from memexp import envs
    from memexp.analysis.statistics import contrast
    from memexp.config import override, parse_overrides
    from memexp.loading import load

    names = [word for word in arguments if "=" not in word]
    pairs = parse_overrides(word for word in arguments if "=" in word)
    if len(names) != 1:
        raise UsageError(f"'{names[1]}' is not KEY=VALUE" if names else "name a run to evaluate")
    run = load(names[0])
    world = envs.typed_config(env, pairs) if env else override(run.config.env, pairs)
    with masked_output():
        policy = run.policy(run.config.trainer.device, trust)
        found = policy.play(episodes, world, seed, greedy)
    columns = {name: column for name, column in found.items() if name not in ("world", "task")}
    means = {name: contrast((1.0, column.astype(float))) for name, column in columns.items()}
    if as_json:
        rows = {
            name: {"mean": one.estimate, "interval": one.interval() if episodes > 1 else None}
            for name, one in means.items()
        }
        print(json.dumps({"run": run.name, "agent_steps": policy.agent_steps, "episodes": episodes, **rows}, indent=2))
        return
    say(f"{run.name} after {policy.agent_steps:,} agent steps, {counted(episodes, 'episode')}")
    for name, one in means.items():
        low, high = one.interval()
        say(f"{name}  {one.estimate:.4g}" + (f" [{low:.4g}, {high:.4g}]" if episodes > 1 else ""))


def export(
    name: Annotated[str, typer.Argument(metavar="RUN")],
    onnx: Annotated[Path | None, typer.Option(help="Write one step of the policy as ONNX.")] = None,
    torchscript: Annotated[Path | None, typer.Option(help="Write one step of the policy as TorchScript.")] = None,
    hub: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write a folder for the Hugging Face hub, with a model card.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="With --hub: episodes that its return is measured over.")] = 100,
    trust: Trust = False,
) -> int:
    """Write a run's policy for other programs; each file is compared with the policy over 100 steps."""
    files = {kind: file for kind, file in (("onnx", onnx), ("torchscript", torchscript)) if file}
    if not files and not hub:
        raise UsageError("say what to write: --onnx FILE, --torchscript FILE or --hub FOLDER")
    from memexp.exporting import BOUND, STEPS, ExportError
    from memexp.exporting import export as write
    from memexp.hub import write_hub
    from memexp.loading import load

    run = load(name)
    with masked_output():
        policy = run.policy(trust=trust)
        try:
            differences = write(policy, files) if files else {}
        except ExportError as error:
            return fail(str(error), FAILED)
        for kind, found in differences.items():
            say(f"{files[kind]}  largest difference from the policy in {STEPS} steps: {found:.2g} (at most {BOUND:g})")
        if hub:
            write_hub(run, policy, hub, episodes)
            say(f"{hub}  upload it with: hf upload USER/{run.name} {hub}")
    return DONE


def play(
    arguments: Annotated[list[str], typer.Argument(metavar="RUN|ENV [KEY=VALUE]...")],
    player: Annotated[
        str | None, typer.Option(help="Policy for an environment: random, memoryless, memory or full.")
    ] = None,
    greedy: Annotated[bool, typer.Option(help="Take the most probable action instead of a random one.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the environment. Default: 0, or the run's.")] = None,
    task: Annotated[int | None, typer.Option(help="Task id. Default: drawn at random from the seed.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after this number of steps.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the HTML page to this file.")] = None,
    ascii: Annotated[bool, typer.Option("--ascii", help="Show the episode in the terminal.")] = False,
    mp4: Annotated[Path | None, typer.Option(help="Write a video to this file.")] = None,
    gif: Annotated[Path | None, typer.Option(help="Write a GIF to this file.")] = None,
    trust: Trust = False,
) -> int:
    """Show one episode of a run's policy, a scripted policy or the random policy: page, video or text."""
    from memexp.replay.play import ReplayError
    from memexp.replay.play import play as watch
    from memexp.replay.target import Options

    try:
        watch(
            arguments,
            Options(player, greedy, seed, task, trust),
            max_steps,
            out,
            ascii,
            {kind: file for kind, file in (("mp4", mp4), ("gif", gif)) if file},
            Console(),
            Console(stderr=True),
        )
    except ReplayError as error:
        return fail(str(error), FAILED)
    return DONE


def funnel(
    arguments: Annotated[list[str], typer.Argument(metavar="ENV [KEY=VALUE]...")],
    player: Annotated[list[str] | None, typer.Option(help="random, memoryless, memory or full; repeatable.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes of each policy.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of environments, tasks and random actions.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show how many episodes of scripted and random policies reach each milestone before reward, and their returns."""
    from memexp.ppo.evaluate import funnel_table, funnels

    found = funnels(arguments, player or ["random"], episodes, seed, Console(stderr=True))
    if as_json:
        print(json.dumps([one.model_dump() for one in found], indent=2))
    else:
        table_console().print(funnel_table(found))


def show(
    what: Annotated[str, typer.Argument(metavar="recipes|envs|patterns|matrices|runs")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    knobs: Annotated[
        bool, typer.Option("--knobs", help="With envs: show default, range and effect of every knob.")
    ] = False,
    matrix: Annotated[list[str] | None, typer.Option(help="With runs: only those of this matrix; repeatable.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="With runs: only those in this environment.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="With runs: only those of this arm (S, S~).")] = None,
    status: Annotated[list[str] | None, typer.Option(help="With runs: only completed, failed, running, ...")] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="KEY", help="With runs: in the order of this column; -KEY: largest first.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """List recipes, environments with their knobs, pattern tokens, memexp's own matrix files, or runs.

    `patterns` shows the cost of stacks at the sizes that you choose: d_hidden=64 num_layers=3 n_heads=4 mem_len=16
    pattern=AgSA.
    """
    from memexp.cli.listing import RUN_COLUMNS, chosen, knob_list, knob_rows, list_rows, pattern_table, run_table

    wanted = {key: one for key, one in {"matrix": matrix, "env": env, "arm": arm, "state": status}.items() if one}
    rows = list_rows(what, overrides or [])
    if what == "runs":
        rows = chosen(rows, wanted, sort)
    elif wanted or sort:
        raise UsageError(f"--matrix, --env, --arm, --status and --sort are for the list of runs, not of {what}")
    if as_csv and as_json:
        raise UsageError("--csv and --json: take one")
    if knobs and what != "envs":
        raise UsageError(f"--knobs is for the list of envs, not of {what}")
    if knobs:
        rows = knob_rows()
    if as_json:
        print(json.dumps(rows, indent=2))
    elif as_csv:
        table = csv.DictWriter(Printable(), rows[0] if rows else RUN_COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    elif knobs:
        table_console().print(knob_list(rows))
    elif what == "patterns":
        table_console().print(pattern_table(rows))
    elif what == "runs":
        table_console().print(run_table(rows))
    else:
        for row in rows:
            first, *others = row.values()
            say(f"{first}  {'  '.join(str(other) for other in others)}".rstrip())
