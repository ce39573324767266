"""Showing the dashboard: once, as JSON, or on the whole terminal until Ctrl-C or q."""

import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress import track
from rich.segment import Segment, Segments
from rich.text import Text

from memexp.launch.status.monitor.lines import totals
from memexp.launch.status.monitor.look import Look
from memexp.launch.status.monitor.many import ManyRuns, counts
from memexp.launch.status.monitor.one import OneRun
from memexp.launch.status.monitor.target import Target

EVERY_S = 2.0
"""Seconds between two looks."""
KEYS = {b"\x1b[A": "up", b"k": "up", b"\x1b[B": "down", b"j": "down", b"\x1b[5~": "page up", b"\x1b[6~": "page down"}
KEYS |= {b" ": "page down", b"q": "quit", b"a": "arms", b"\x1b": "quit"}


def monitor(word: str, once: bool, as_json: bool, console: Console, notes: Console) -> None:
    """Show the run or the matrix `word`. Raises UsageError for one that does not exist.

    Without a terminal it is shown once, as with `once`.
    """
    target = Target(word)
    looks = list(_first_looks(target, notes))
    if as_json:
        print(json.dumps(as_dict(target, looks), indent=2))
    elif once or not console.is_terminal:
        console.print(dashboard(target, looks, by_arm=False))
    else:
        _live(target, looks, console)


def as_dict(target: Target, looks: Iterable[Look]) -> dict[str, Any]:
    """The dashboard for scripts."""
    looks = list(looks)
    return {"target": target.word, "states": counts(looks), **totals(looks), "runs": [look.as_dict() for look in looks]}


def dashboard(target: Target, looks: list[Look], by_arm: bool) -> RenderableType:
    return OneRun(looks[0]) if target.single else ManyRuns(target.matrix, looks, by_arm)


def _first_looks(target: Target, notes: Console) -> Iterable[Look]:
    """The first look reads all there is; where that is long, a bar says how far it is."""
    count = len(target.places())
    return track(target.looks(), "reading runs", count, console=notes, transient=True, disable=count < 2)


class _Window:
    """As much of the dashboard as the terminal holds, from line `top` on, and below it what the keys do.

    A matrix whose runs do not fit is shown by arm, until `a` is pressed.
    """

    def __init__(self, target: Target, looks: list[Look]):
        self.target, self.looks = target, looks
        self.top = self.hidden = self.height = 0
        self.by_arm: bool | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = options.update(height=None)
        self.height = console.size.height - 1
        lines = console.render_lines(dashboard(self.target, self.looks, self._by_arm), options)
        self.hidden = max(0, len(lines) - self.height)
        self.top = min(max(self.top, 0), self.hidden)
        shown = lines[self.top : self.top + self.height]
        for line in shown + [[Segment("")]] * (self.height - len(shown)):
            yield Segments([*line, Segment.line()])
        yield Text(f" {self._hint()}", "dim", end="", no_wrap=True, overflow="ellipsis")

    @property
    def _by_arm(self) -> bool:
        if self.by_arm is None:
            return ManyRuns(self.target.matrix, self.looks).height > self.height
        return self.by_arm

    def _hint(self) -> str:
        parts = [time.strftime("%H:%M:%S")]
        parts += [f"lines {self.top + 1}-{self.top + self.height}, arrows scroll"] if self.hidden else []
        parts += [] if self.target.single else ["a: arms or runs"]
        return "   ".join([*parts, "q: quit"])

    def press(self, key: str) -> None:
        moves = {"up": -1, "down": 1, "page up": -self.height, "page down": self.height}
        if key == "arms":
            self.by_arm, self.top = not self._by_arm, 0
        self.top = max(0, self.top + moves.get(key, 0))


def _live(target: Target, looks: list[Look], console: Console) -> None:
    window = _Window(target, looks)
    with _keys() as pressed, Live(window, console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.refresh()
                due = time.monotonic() + EVERY_S
                while (left := due - time.monotonic()) > 0:
                    if (key := pressed(left)) == "quit":
                        return
                    if key:
                        window.press(key)
                        live.refresh()
                window.looks = list(target.looks())
        except KeyboardInterrupt:
            return


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits up to so many seconds for a key and names it; None where none came, or none we know."""
    source = sys.stdin
    if not source.isatty():
        yield lambda seconds: time.sleep(seconds)
        return
    number = source.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)

    def pressed(seconds: float) -> str | None:
        ready, _, _ = select.select([number], [], [], seconds)
        return KEYS.get(os.read(number, 16)) if ready else None

    try:
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
