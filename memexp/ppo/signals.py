"""Signals that ask a run to stop: SIGTERM, which spot machines send some seconds before they end, and Ctrl-C."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """What was under way is given up: it would not have ended in time."""


class Stop:
    """Whether a signal has asked for the end. Enter it around the run; Ctrl-C twice kills.

    One stop may bring several signals: torchrun hands on to its processes what the whole process group was sent.
    """

    def __init__(self) -> None:
        self.asked_at: float | None = None
        """When the first signal came (monotonic seconds)."""
        self._last = 0.0
        self._at_once = False

    @property
    def asked(self) -> bool:
        return self.asked_at is not None

    def left_s(self, warning_s: float) -> float:
        """Seconds left of a warning time that began with the first signal."""
        return max(0.0, warning_s - (time.monotonic() - self.asked_at)) if self.asked_at is not None else warning_s

    @contextmanager
    def at_once(self, yes: bool) -> Iterator[None]:
        """Within, a signal raises Stopped at once if `yes`, as does one that came before; else it is only noted."""
        self._at_once = yes
        try:
            if yes and self.asked:
                raise Stopped
            yield
        finally:
            self._at_once = False

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.asked and number == signal.SIGINT and now - self._last > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._last = now
        if self.asked_at is None:
            self.asked_at = now
        if self._at_once:
            self._at_once = False
            raise Stopped
