"""An episode in the terminal: the map around an agent, and beside it what the agent holds and did."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from memexp.console import Console
from memexp.replay.record import NO_ACTION, Frame, Recording

STEPS_PER_S = 20
"""Speed of the animation."""
FRAMES = 20
"""Approximate number of frames printed without a terminal."""
ROWS, COLUMNS = 26, 80
"""Largest part of the map that is shown, cells; less in a narrow terminal."""
PANEL = 44
"""Width of the panel beside the map, characters."""
FOLLOWED = 0
"""The followed agent, in the middle of the map."""


@contextmanager
def recording_bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with rate and time left. Call it with (steps played, all steps)."""
    rate_column = TextColumn("{task.fields[rate]} steps/s,")
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        rate_column,
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
    """Show the episode: as an animation in a terminal (Ctrl-C ends it), else as about FRAMES printed frames."""
    console.print(title)
    console.print(legend(recording))
    if not console.is_terminal:
        every = max(1, recording.last // FRAMES)
        for step in sorted({*range(0, recording.last, every), recording.last}):
            console.print(picture(recording, step, console.width))
            console.print()
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        for step in range(recording.last + 1):
            live.update(picture(recording, step, console.width), refresh=True)
            time.sleep(1 / STEPS_PER_S)


def legend(recording: Recording) -> str:
    """The meaning of the characters on the map."""
    facts = recording.facts
    present = sorted({kind for kind, _, _ in facts["objects"]})
    names = [f"{symbol(facts, kind)} {facts['types'][kind]['name']}" for kind in present]
    return ", ".join(["@ agent 0", "& another agent", "# wall", *names])


def symbol(facts: dict, kind: int) -> str:
    """The character of a type of object: '$' for chests, letters for stations."""
    return "$" if facts["types"][kind]["shape"] == "chest" else chr(ord("a") + kind % 26)


def picture(recording: Recording, step: int, width: int) -> Table:
    """One step in `width` characters: the map and the agent's panel."""
    frame = recording.frame(step)
    table = Table.grid(padding=(0, 3))
    shown = Text(map_text(recording, frame, max(11, min(COLUMNS, width - PANEL))))
    shown.highlight_regex("@", "bold reverse")
    table.add_row(shown, Text(panel_text(recording, frame, step)))
    return table


def map_text(recording: Recording, frame: Frame, columns: int = COLUMNS) -> str:
    """The map, or the part around the agent that fits."""
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
    """At most `most` of `side` cells, with `at` as near to the middle as the edges allow."""
    start = max(0, min(side - most, at - most // 2))
    return slice(start, start + most)


def panel_text(recording: Recording, frame: Frame, step: int) -> str:
    """What the agent holds, its last action, reward and return, and the policy's most probable actions."""
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
    """The name of an action. A number without an action is named as such."""
    return facts["actions"][action] if 0 <= action < len(facts["actions"]) else f"{action}, no such action"
