"""A trainer's hand in its run directory: file operations that are ordered here and done by another process (scribe.py).

Ordering never waits for the disk. `poll` says what became of the orders; `finish` waits for them, up to a deadline.
"""

import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memexp.runs import scribe

PATIENCE_S = 300.0
"""Seconds for which a failing operation is retried."""


class LockedError(RuntimeError):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Answer:
    """What became of an order. `error` is None when it is done."""

    number: int
    group: str | None
    error: str | None = None
    full: bool = False
    """No space is left on the disk."""
    retried: bool = False
    """It failed and is tried again."""
    at: float = 0.0
    """When it was done (monotonic seconds)."""


class Writer:
    """Orders file operations; `lock`: held while the writer lives.

    Raises LockedError where another process has it, OSError where there can be no lock.
    """

    def __init__(self, lock: Path | None = None, patience: float = PATIENCE_S):
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", scribe.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a stuck process must not keep the trainer's output open
            start_new_session=True,
        )
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._open: dict[int, tuple[str | None, float]] = {}  # orders without an answer: group, when they were given
        self._next = self._groups = 0
        self._rest = b""  # a line of answers that has not arrived whole
        self._lock = threading.Lock()
        threading.Thread(target=self._send, daemon=True, name="orders").start()
        terms = {"parent": os.getpid(), "lock": str(lock.absolute()) if lock else None, "patience": patience}
        self._orders.put(json.dumps(terms).encode() + b"\n")
        assert self._process.stdout
        first = self._process.stdout.readline()
        os.set_blocking(self._process.stdout.fileno(), False)
        told = json.loads(first) if first else {"error": "the process that writes files ended"}
        if "error" in told or not told["locked"]:
            self.leave()
            raise OSError(told["error"]) if "error" in told else LockedError(f"{lock} is held by another process")

    def append(self, path: Path, data: bytes) -> None:
        """Whole `data` at the end of a file."""
        self.order("append", path, data)

    def replace(self, path: Path, data: bytes) -> None:
        """`path` becomes `data` at once."""
        self.order("replace", path, data)

    def sync(self, path: Path) -> None:
        """What was appended to `path` is on the disk before any later order."""
        self.order("sync", path)

    def new_group(self) -> str:
        """A name for orders of which the later ones are pointless when one fails."""
        self._groups += 1
        return str(self._groups)

    def order(self, do: str, path: Path, data: bytes = b"", group: str | None = None, **options: Any) -> int:
        """Have `scribe.OPERATIONS[do]` done after everything ordered before; returns the order's number.

        When one order of a `group` fails, the later ones of the group are left out.
        """
        with self._lock:
            number = self._next = self._next + 1
            self._open[number] = group, time.monotonic()
        header = {"id": number, "do": do, "path": str(path.absolute()), "group": group, "options": options}
        self._orders.put(json.dumps({**header, "size": len(data)}).encode() + b"\n")
        self._orders.put(data)
        return number

    def poll(self, timeout: float = 0.0) -> list[Answer]:
        """What has become of orders since the last call; waits up to `timeout` seconds for something.

        Raises RuntimeError when the process has ended.
        """
        assert self._process.stdout
        answers: list[Answer] = []
        with self._lock:
            descriptor = self._process.stdout.fileno()
            if select.select([descriptor], [], [], timeout)[0]:
                told = os.read(descriptor, 1 << 16)
                if not told:
                    raise RuntimeError(f"the process that writes files ended ({self._process.wait()})")
                self._rest += told
                *lines, self._rest = self._rest.split(b"\n")
                answers = [self._note(json.loads(line)) for line in lines]
        return answers

    @property
    def waiting_s(self) -> float:
        """Seconds that the oldest order without an answer has been waiting; 0 where there is none."""
        with self._lock:
            return time.monotonic() - next(iter(self._open.values()))[1] if self._open else 0.0

    def finish(self, seconds: float) -> Iterator[Answer]:
        """Wait until everything ordered is done or given up, at most `seconds`; yields what became of it."""
        end = time.monotonic() + seconds
        while self._open and (left := end - time.monotonic()) > 0:
            yield from self.poll(min(left, 0.5))
        yield from self.poll()

    @property
    def idle(self) -> bool:
        """Whether every order is done or given up."""
        return not self._open

    def leave(self) -> None:
        """End the process. One that is stuck in a system call is left to the operating system: nobody waits for it."""
        if self.idle:
            self._orders.put(None)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)

    def _note(self, message: dict[str, Any]) -> Answer:
        number = next(message[key] for key in ("done", "retry", "failed") if key in message)
        retried = "retry" in message
        group, _ = self._open[number] if retried else self._open.pop(number)
        return Answer(number, group, message.get("error"), message.get("full", False), retried, message.get("at", 0.0))

    def _send(self) -> None:
        """Hand orders over; blocks where the other process does not read, and nobody else does then."""
        assert self._process.stdin
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            while (data := self._orders.get()) is not None:
                pipe.write(data)
                pipe.flush()
