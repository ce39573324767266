"""How a run ends: the signals that ask for it, and exit.json.

SIGTERM comes from spot machines some seconds before they are taken away, and from `memexp cancel`; SIGINT is Ctrl-C.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from memexp.console import say
from memexp.ppo.distributed import Ranks, report_failure
from memexp.runs import Exit, Run, RunInfo
from memexp.runs.scribe import take
from memexp.runs.status import last_metrics
from memexp.runs.writer import LockedError, Writer

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WRITE_EXIT_S = 5.0
"""Seconds that exit.json may take."""


class Stopped(BaseException):
    """A signal stopped what was under way, because it would not have ended in time."""


class StopSignal:
    """Notes the signals that ask the run to stop. Enter it around the run; a second Ctrl-C kills the process.

    One stop may come as several signals: torchrun sends its processes once more what their process group already got.
    """

    def __init__(self) -> None:
        self.requested_at: float | None = None
        """Monotonic seconds of the first signal."""
        self._last = 0.0
        self._interrupts = False

    @property
    def requested(self) -> bool:
        return self.requested_at is not None

    def left_s(self, warning_s: float) -> float:
        """Seconds left of a warning time that began with the first signal; all of it before."""
        if self.requested_at is None:
            return warning_s
        return max(0.0, warning_s - (time.monotonic() - self.requested_at))

    @contextmanager
    def interrupts(self, enabled: bool) -> Iterator[None]:
        """Inside, a signal raises Stopped at once if `enabled`, also one that came before; else it is only noted."""
        self._interrupts = enabled
        try:
            if enabled and self.requested:
                raise Stopped
            yield
        finally:
            self._interrupts = False

    def __enter__(self) -> "StopSignal":
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.requested and number == signal.SIGINT and now - self._last > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._last = now
        if self.requested_at is None:
            self.requested_at = now
        if self._interrupts:
            self._interrupts = False
            raise Stopped


def write_exit(run: Run, writer: Writer, outcome: Exit) -> None:
    """Write exit.json, and wait for it at most WRITE_EXIT_S. Raises RuntimeError if the writing process has ended."""
    run.finish(outcome)
    for answer in writer.finish(WRITE_EXIT_S):
        is_part = answer.group is not None  # of a checkpoint that was given up
        if answer.error and not (answer.retried or answer.gone or is_part):
            say(f"memexp: exit.json was not written: {answer.error}", error=True)


def record_failure(run: Run, ranks: Ranks, error: BaseException, updates: int, info: RunInfo) -> None:
    """Write exit.json for a run that failed with `error` outside its updates, after `updates` of them.

    `info` becomes run.json if there is none, so that the run is found. Tells the other ranks. Writes nothing if another
    process works on the run.
    """
    reason = f"{f'after update {updates}' if updates else 'before the first update'}: {type(error).__name__}: {error}"
    report_failure(ranks, reason)
    if not ranks.is_first:
        return
    with suppress(OSError, RuntimeError):  # `error` is raised, whether or not this can be written
        last = (last_metrics(run) or [{}])[-1]
        outcome = Exit(status="failed", reason=reason)
        outcome.agent_steps, outcome.wall_s = last.get("agent_steps", 0), last.get("wall_s", 0.0)
        writer = lock = None
        try:
            writer = Writer(run.lock)
        except LockedError:
            return
        except (OSError, RuntimeError):  # out of memory: no process and no thread can start
            lock = take(run.lock)
        if not run.exists() and (writer or lock):
            run.write_info(info)
        if writer:
            write_exit(Run(run.path, writer), writer, outcome)
            writer.leave()
        elif lock:
            run.finish(outcome)
            lock.release()
