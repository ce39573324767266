"""An episode in the terminal: the map around an agent as characters, and beside it what that agent holds and did."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from memexp.replay.record import NO_ACTION, Frame, Recording

STEPS_PER_S = 20
"""Of the animation."""
FRAMES = 20
"""About how many frames are printed where there is no terminal."""
ROWS, COLUMNS = 26, 80
"""Most of the map that is shown, cells; less where the terminal is narrower."""
PANEL = 44
"""Width of the panel beside it, characters."""
FOLLOWED = 0
"""The agent in the middle."""


@contextmanager
def recording_bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left while an episode is recorded: call it with (steps played, steps of the whole)."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} steps/s,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    start = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, rate="")

        def show(step: int, last: int) -> None:
            rate = f"{step / max(time.monotonic() - start, 1e-9):,.0f}"
            bar.update(task, completed=step, total=last, rate=rate)

        yield show


def show_episode(recording: Recording, console: Console, title: str) -> None:
    """The whole episode: an animation on a terminal (Ctrl-C ends it), else about FRAMES frames one below the other."""
    console.print(title, highlight=False, markup=False)
    console.print(legend(recording), highlight=False, markup=False)
    if not console.is_terminal:
        every = max(1, recording.last // FRAMES)
        for step in sorted({*range(0, recording.last, every), recording.last}):
            console.print(picture(recording, step, console.width), highlight=False)
            console.print()
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        for step in range(recording.last + 1):
            live.update(picture(recording, step, console.width), refresh=True)
            time.sleep(1 / STEPS_PER_S)


def legend(recording: Recording) -> str:
    """What the characters of the map stand for."""
    facts = recording.facts
    present = sorted({kind for kind, _, _ in facts["objects"]})
    names = [f"{symbol(facts, kind)} {facts['types'][kind]['name']}" for kind in present]
    return ", ".join(["@ agent 0", "& another agent", "# wall", *names])


def symbol(facts: dict, kind: int) -> str:
    """The character of a type of object, as in envs.grid.ascii: chests '$', stations letters."""
    return "$" if facts["types"][kind]["shape"] == "chest" else chr(ord("a") + kind % 26)


def picture(recording: Recording, step: int, width: int) -> Table:
    """One step in `width` characters: the map, beside it the agent's panel."""
    frame = recording.frame(step)
    table = Table.grid(padding=(0, 3))
    world = Text(map_text(recording, frame, max(11, min(COLUMNS, width - PANEL))))
    world.highlight_regex("@", "bold reverse")
    table.add_row(world, Text(panel_text(recording, frame, step)))
    return table


def map_text(recording: Recording, frame: Frame, columns: int = COLUMNS) -> str:
    """The map, or as much of it around the agent as there is room for."""
    facts = recording.facts
    cells = np.array([list(row) for row in facts["map"]])
    width = cells.shape[1]
    for kind, cell, _ in facts["objects"]:
        cells[divmod(cell, width)] = symbol(facts, kind)
    for cell in frame["cell"].tolist():
        cells[divmod(cell, width)] = "&"
    middle = divmod(int(frame["cell"][FOLLOWED]), width)
    cells[middle] = "@"
    part = tuple(_around(at, most, side) for at, most, side in zip(middle, (ROWS, columns), cells.shape, strict=True))
    return "\n".join("".join(row) for row in cells[part])


def _around(at: int, most: int, side: int) -> slice:
    """At most `most` cells of `side`, with `at` as near to the middle as the edges allow."""
    start = max(0, min(side - most, at - most // 2))
    return slice(start, start + most)


def panel_text(recording: Recording, frame: Frame, step: int) -> str:
    """What the agent holds, did and earned; the policy's likeliest actions."""
    facts, agent = recording.facts, FOLLOWED
    action, inventory = int(frame["action"][agent]), frame["inventory"][agent]
    went = "" if action == NO_ACTION else " succeeded" if frame["success"][agent] else " failed"
    name = "none yet" if action == NO_ACTION else action_name(facts, action)
    reached = [m for m, first in zip(facts["funnel"], facts["milestones"][agent], strict=True) if 0 <= first <= step]
    lines = [
        f"step {step} of {recording.last}",
        f"mean return {frame['return'].mean():.3f}",
        "",
        f"agent {agent}, vibe {facts['vibes'][frame['vibe'][agent]]}",
        f"last action  {name}{went}",
        f"return       {frame['return'][agent]:.3f} ({frame['reward'][agent]:+.3f})",
        *(f"{facts['resources'][r]:<12} {inventory[r]}" for r in facts["shown"]),
        f"milestone    {reached[-1] if reached else 'none yet'}",
    ]
    if "value" in frame:
        lines += ["", f"value        {frame['value'][agent]:.3f}"]
        likeliest = zip(frame["choices"][agent].tolist(), frame["chances"][agent].tolist(), strict=True)
        lines += [f"{chance / 10:5.1f} %  {action_name(facts, choice)}" for choice, chance in likeliest]
    return "\n".join(lines)


def action_name(facts: dict, action: int) -> str:
    """The name of an action; one that there is not is named by its number."""
    return facts["actions"][action] if 0 <= action < len(facts["actions"]) else f"{action}, no such action"
