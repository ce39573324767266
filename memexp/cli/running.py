"""Commands for one run or one environment: train, check, time, watch an episode."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from memexp.cli.common import DONE, FAILED, AsJson, RecipeWords, config_of, fail
from memexp.runs import RESTART


def train(words: RecipeWords) -> int:
    """Train one run in this process (what a node executes, under torchrun)."""
    config, arguments = config_of(words)
    return exit_of(config, ["memexp", "train", *arguments])


def exit_of(config: Any, argv: list[str]) -> int:
    """Train `config`; the exit code."""
    from memexp.envs.base import WorldError
    from memexp.ppo.checkpoint import CheckpointError
    from memexp.ppo.train import train as run

    try:
        outcome = run(config, argv=argv)
    except WorldError as error:
        return fail(str(error), FAILED)
    except (CheckpointError, OSError) as error:
        return fail(f"{config.run}: {error}", FAILED)
    if outcome.status == "completed":
        return DONE
    return fail(
        f"{config.run} {outcome.status}: {outcome.reason}", RESTART if outcome.status == "preempted" else FAILED
    )


def doctor(words: RecipeWords, as_json: AsJson = False) -> int:
    """Check that the policy that acts is the policy that learns, and the environment and the device besides."""
    config, _ = config_of(words)
    from memexp.envs.base import WorldError
    from memexp.ppo.doctor import doctor as examine

    try:
        report = examine(config)
    except WorldError as error:
        return fail(str(error), FAILED)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        report.print()
    return DONE if report.ok else FAILED


def bench(
    words: RecipeWords,
    updates: Annotated[int, typer.Option(min=1, help="Updates that are timed.")] = 5,
    table: Annotated[Path | None, typer.Option(help="Table to write into; else this machine's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a recipe trains here; launches then plan with it. Under torchrun: all ranks together."""
    config, _ = config_of(words)
    from memexp.launch.plan.throughput import add_figure, figure_of
    from memexp.ppo.train import measure

    notes = Console(stderr=True)
    found = measure(config, updates, lambda sps: notes.print(f"{sps:,.0f} agent steps/s", highlight=False))
    figure = figure_of(config, found.device, found.gpus, found.sps)
    where = add_figure(figure, table)
    if as_json:
        print(figure.model_dump_json(indent=2))
    else:
        spread = f"{found.lowest:,.0f} to {found.highest:,.0f}"
        print(f"{found.sps:,.0f} agent steps/s (median of {updates} updates, {spread}) on {figure.hardware}; {where}")


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
        return fail(str(error), FAILED)
    return DONE


def funnel(
    words: Annotated[list[str], typer.Argument(metavar="ENV [KEY=VALUE]...", show_default=False)],
    player: Annotated[list[str] | None, typer.Option(help="random, memoryless, memory, full; repeatable.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each player.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Other worlds, tasks and luck.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show how far players that do not learn come on the way to reward, and what they earn (measured once)."""
    from memexp.ppo.reference import funnel_table, funnels

    found = funnels(words, player or ["random"], episodes, seed, Console(stderr=True))
    if as_json:
        print(json.dumps([one.model_dump() for one in found], indent=2))
    else:
        Console().print(funnel_table(found))
