"""`memexp funnel`: reference players side by side, milestone by milestone. It shows where exploration ends."""

from collections.abc import Sequence
from contextlib import closing

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from memexp import envs
from memexp.config import Config, UsageError, did_you_mean, override, parse_overrides
from memexp.envs.config import ENVIRONMENTS
from memexp.envs.scripted import make_scripted_policy
from memexp.ppo.reference import Reference, reference


def funnels(words: Sequence[str], players: Sequence[str], episodes: int, seed: int, notes: Console) -> list[Reference]:
    """One Reference a player, in the environment that `words` (its name, then KEY=VALUE knobs) describe.

    Raises UsageError for an unknown environment, knob or player.
    """
    name, *pairs = words
    if name not in ENVIRONMENTS:
        raise UsageError(f"unknown environment '{name}'{did_you_mean(name, ENVIRONMENTS)}")
    world: Config = override(ENVIRONMENTS[name](), parse_overrides(pairs))
    with closing(envs.build(world, 1)) as sample:
        for player in players:
            make_scripted_policy(sample, player, seed)  # a wrong name is told before any player is measured
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes")
    columns += TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        found = []
        for player in players:
            task = progress.add_task(player, total=episodes)
            found.append(
                reference(world, player, episodes, seed, lambda n, task=task: progress.update(task, completed=n))
            )
            progress.update(task, completed=episodes)
    return found


def funnel_table(references: Sequence[Reference]) -> RenderableType:
    """A row a milestone, a column a player: share of agents and episodes that reached it; returns below."""
    first = references[0]
    title = f"{first.env}: share of agents that reached each milestone, {first.episodes} episodes, seed {first.seed}"
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("milestone")
    for one in references:
        table.add_column(one.player, justify="right")
    for name in first.funnel:
        table.add_row(name, *(_share(one.funnel.get(name)) for one in references))
    table.add_section()
    table.add_row("mean return", *(f"{one.mean:.3g} ± {one.stderr:.2g}" for one in references))
    for i, name in enumerate(("lowest", "lower quartile", "median", "upper quartile", "highest")):
        table.add_row(f"{name} return", *(f"{one.quantiles[i]:.3g}" for one in references))
    return Group(Text(title, style="bold"), table)


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{share:.1%}" if share == 0 or share >= 0.001 else f"{share:.2%}"
