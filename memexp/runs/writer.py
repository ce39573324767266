"""Writes a trainer's files through another process (scribe.py), so that training never waits for the disk.

Each call orders a file operation and returns at once. `poll` returns what became of the orders; `finish` waits for
them, up to a deadline.
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
from typing import IO, Any

from memexp.runs import scribe

PATIENCE_S = 300.0
"""Seconds for which a failed operation is tried again."""


class LockedError(RuntimeError):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Answer:
    """What became of an order; `error` is None if it succeeded."""

    number: int
    group: str | None
    error: str | None = None
    full: bool = False
    """No space is left on the disk."""
    gone: bool = False
    """The run's directory was deleted or moved."""
    retried: bool = False
    """It failed and will be tried again."""
    at: float = 0.0
    """When it succeeded (monotonic seconds)."""


class Writer:
    """Orders file operations, and holds the lock file `lock` until `leave`.

    Raises LockedError if another process holds the lock, OSError if there can be no lock.
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
        self._open: dict[int, tuple[str | None, float]] = {}  # unanswered orders: number -> (group, when ordered)
        self._next = self._groups = 0
        self._rest = b""  # an incomplete line of answers
        self._lock = threading.Lock()
        assert self._process.stdin
        threading.Thread(target=feed, args=(self._process.stdin, self._orders), daemon=True, name="orders").start()
        terms = {"parent": os.getpid(), "lock": str(lock.absolute()) if lock else None, "patience": patience}
        self._orders.put(json.dumps(terms).encode() + b"\n")
        assert self._process.stdout
        first = self._process.stdout.readline()
        os.set_blocking(self._process.stdout.fileno(), False)
        answer = json.loads(first) if first else {"error": "the process that writes files ended"}
        if "error" in answer or not answer["locked"]:
            self.leave()
            raise OSError(answer["error"]) if "error" in answer else LockedError(f"{lock} is held by another process")
        self.has_lease = bool(answer["lease"])
        """The file system has no locks: the lock is a lease, which is renewed again and again."""

    def append(self, path: Path, data: bytes) -> None:
        """Add `data` to the end of a file."""
        self.order("append", path, data)

    def replace(self, path: Path, data: bytes) -> None:
        """Replace a file by `data` atomically."""
        self.order("replace", path, data)

    def sync(self, path: Path) -> None:
        """Force what was appended to `path` to the disk before any later order."""
        self.order("sync", path)

    def new_group(self) -> str:
        """A name for a group of orders: if one of them fails, the later ones are left out."""
        self._groups += 1
        return str(self._groups)

    def order(self, do: str, path: Path, data: bytes = b"", group: str | None = None, **options: Any) -> int:
        """Order `scribe.OPERATIONS[do]`, to be done after all earlier orders; returns the order's number."""
        with self._lock:
            number = self._next = self._next + 1
            self._open[number] = group, time.monotonic()
        header = {"id": number, "do": do, "path": str(path.absolute()), "group": group, "options": options}
        self._orders.put(json.dumps({**header, "size": len(data)}).encode() + b"\n")
        self._orders.put(data)
        return number

    def poll(self, timeout: float = 0.0) -> list[Answer]:
        """Answers since the last call; waits up to `timeout` seconds for the first one.

        Raises RuntimeError if the process has ended.
        """
        assert self._process.stdout
        answers: list[Answer] = []
        with self._lock:
            descriptor = self._process.stdout.fileno()
            if select.select([descriptor], [], [], timeout)[0]:
                data = os.read(descriptor, 1 << 16)
                if not data:
                    raise RuntimeError(f"the process that writes files ended ({self._process.wait()})")
                *lines, self._rest = (self._rest + data).split(b"\n")
                answers = [self._note(json.loads(line)) for line in lines]
        return answers

    @property
    def waiting_s(self) -> float:
        """Seconds that the oldest unanswered order has been waiting; 0 if there is none."""
        with self._lock:
            return time.monotonic() - next(iter(self._open.values()))[1] if self._open else 0.0

    def finish(self, seconds: float) -> Iterator[Answer]:
        """Wait until every order has succeeded or was given up, at most `seconds`; yields the answers."""
        end = time.monotonic() + seconds
        while self._open and (left := end - time.monotonic()) > 0:
            yield from self.poll(min(left, 0.5))
        yield from self.poll()

    @property
    def idle(self) -> bool:
        """Whether every order has succeeded or was given up."""
        return not self._open

    def leave(self) -> None:
        """End the process. If it is stuck in a system call, the operating system ends it later: nobody waits for it."""
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
        full, gone = message.get("full", False), message.get("gone", False)
        return Answer(number, group, message.get("error"), full, gone, retried, message.get("at", 0.0))


def feed(pipe: IO[bytes], orders: "queue.SimpleQueue[bytes | None]") -> None:
    """Pass orders to a process until there is None (in a thread of its own, because it blocks while the process does
    not read)."""
    with suppress(BrokenPipeError), pipe:
        while (data := orders.get()) is not None:
            pipe.write(data)
            pipe.flush()
