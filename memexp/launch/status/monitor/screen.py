"""Shows the dashboard: once, as JSON, or on the whole terminal until Ctrl-C or q."""

import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress import track
from rich.segment import Segment, Segments
from rich.text import Text

from memexp.config import UsageError, did_you_mean
from memexp.launch.status.monitor.many import ManyRuns, changed_environments, counts, totals
from memexp.launch.status.monitor.one import OneRun
from memexp.launch.status.monitor.snapshot import RunSnapshot, Snapshots
from memexp.launch.status.targets import Target, Targets, told_apart

EVERY_S = 2.0
"""Seconds between two updates."""
AnyTarget: TypeAlias = Target | Targets
_SCROLL = {b"\x1b[A": "up", b"k": "up", b"\x1b[B": "down", b"j": "down", b"\x1b[5~": "page up", b"\x1b[6~": "page down"}
KEYS = {**_SCROLL, b" ": "page down", b"q": "quit", b"a": "arms", b"c": "curves", b"\x1b": "quit"}


def monitor(
    names: Sequence[str], once: bool, as_json: bool, console: Console, notes: Console, arms: Sequence[str] = ()
) -> None:
    """Show the run or matrix, or several side by side, their curves over one another; only once with `once`, and where
    there is no terminal. `arms`: only these, and as curves.

    Raises UsageError for a name or an arm that does not exist.
    """
    target = Target(names[0]) if len(names) == 1 else Targets(names)
    snapshots, count = Snapshots(target), len(target.runs())
    silent = count < 2 or not notes.is_terminal
    read = track(snapshots.read(), "reading runs", count, console=notes, transient=True, disable=silent)
    runs = _chosen(target, read, arms)  # the first snapshots read all metrics, which may take long
    curves = bool(arms) or isinstance(target, Targets)
    if as_json:
        print(json.dumps(as_dict(target, runs), indent=2))
    elif once or not console.is_terminal:
        console.print(dashboard(target, runs, by_arm=False, curves=curves))
    else:
        _live(snapshots, _Window(target, runs, curves), arms, console)


def _chosen(target: AnyTarget, read: Iterable[RunSnapshot], arms: Sequence[str]) -> list[RunSnapshot]:
    """The runs of these arms; all without any. Arms of several targets are told apart by their names."""
    runs = list(read)
    if isinstance(target, Targets):
        names = told_apart([(target.owners[run.path], run.env or "", run.arm or "") for run in runs])
        runs = [replace(run, arm=name or None) for run, name in zip(runs, names, strict=True)]
    known = {run.arm for run in runs if run.arm}
    if unknown := next((arm for arm in arms if arm not in known), None):
        raise UsageError(f"--arm: no run has the arm '{unknown}'{did_you_mean(unknown, known)}")
    return [run for run in runs if not arms or run.arm in arms]


def as_dict(target: AnyTarget, runs: list[RunSnapshot]) -> dict[str, Any]:
    """The dashboard for JSON."""
    return {
        "target": target.name,
        "states": counts(runs),
        **totals(runs),
        "alarms": changed_environments(runs),
        "runs": [run.as_dict() for run in runs],
    }


def dashboard(target: AnyTarget, runs: list[RunSnapshot], by_arm: bool, curves: bool = False) -> RenderableType:
    return OneRun(runs[0]) if target.is_run else ManyRuns(target.matrix or target.name, runs, by_arm, curves)


class _Window:
    """As many lines of the dashboard as the terminal has, from line `top` on, and a last line that explains the keys.

    A matrix whose runs do not fit is shown by arm until `a` is pressed.
    """

    def __init__(self, target: AnyTarget, runs: list[RunSnapshot], curves: bool):
        self.target, self.runs, self.curves = target, runs, curves
        self.top = self.hidden = self.height = 0
        self.by_arm: bool | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        options = options.update(height=None)
        self.height = console.size.height - 1
        lines = console.render_lines(dashboard(self.target, self.runs, self._by_arm, self.curves), options)
        self.hidden = max(0, len(lines) - self.height)
        self.top = min(max(self.top, 0), self.hidden)
        shown = lines[self.top : self.top + self.height]
        for line in shown + [[Segment("")]] * (self.height - len(shown)):
            yield Segments([*line, Segment.line()])
        yield Text(f" {self._hint()}", "dim", end="", no_wrap=True, overflow="ellipsis")

    @property
    def _by_arm(self) -> bool:
        if self.by_arm is None:
            return ManyRuns(self.target.name, self.runs).height > self.height
        return self.by_arm

    def _hint(self) -> str:
        parts = [time.strftime("%H:%M:%S")]
        parts += [f"lines {self.top + 1}-{self.top + self.height}, arrows scroll"] if self.hidden else []
        parts += [] if self.target.is_run else ["a: arms or runs", "c: curves"]
        return "   ".join([*parts, "q: quit"])

    def press(self, key: str) -> None:
        moves = {"up": -1, "down": 1, "page up": -self.height, "page down": self.height}
        if key == "arms":
            self.by_arm, self.top = not self._by_arm, 0
        if key == "curves":
            self.curves, self.top = not self.curves, 0
        self.top = max(0, self.top + moves.get(key, 0))


def _live(snapshots: Snapshots, window: _Window, arms: Sequence[str], console: Console) -> None:
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
                window.runs = _chosen(snapshots.target, snapshots.read(), arms)
        except KeyboardInterrupt:
            return


@contextmanager
def _keys() -> Generator[Callable[[float], str | None]]:
    """A function that waits up to the given seconds for a key and returns its name, or None."""
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
