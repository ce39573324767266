"""From overrides to runs: recipe or matrix file -> plan -> SkyPilot jobs, or processes on this machine.

`plan` says what to run, what is left to do and what it costs, `cloud` sends it to SkyPilot, `local` runs it here,
`status` shows how the runs stand. Imports neither torch nor numba, and sky only where it is called.
"""

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from memexp.console import Console, table_console

os.environ.setdefault("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")  # set it to 0 to let SkyPilot report its usage


class LaunchError(Exception):
    """The request is right, but it cannot be carried out here and now. The message is one clear line (exit code 1)."""


@dataclass(frozen=True)
class Terminal:
    """Where a launch shows its output, and how it asks."""

    confirm: Callable[[str], bool]
    """Asks a yes-or-no question."""
    console: Console = field(default_factory=table_console)
    """Plan and progress."""
    notes: Console = field(default_factory=lambda: Console(stderr=True))
    """Messages that are not part of the output."""

    def say(self, line: str) -> None:
        """Print a line, however long."""
        self.console.print(line, soft_wrap=True)

    def note(self, line: str) -> None:
        self.notes.print(line, soft_wrap=True)


def killed_by(code: int) -> str | None:
    """'killed by signal 9 (out of memory?)' for such an exit code of a process or a shell; None for any other code."""
    number = -code if code < 0 else code - 128
    if not 0 < number < signal.NSIG:
        return None
    return f"killed by signal {number}" + (" (out of memory?)" if number == signal.SIGKILL else "")


@contextmanager
def handled_by(handler: Callable[[int, Any], None], *numbers: int) -> Generator[None]:
    """Have `handler` called for the signals `numbers`; afterwards they are handled as before."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
