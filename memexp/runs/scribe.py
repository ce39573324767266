"""File operations, and the process that does them for a trainer, so that a disk or bucket that stalls never stops it.

A script of the standard library alone, started by `memexp.runs.writer`. It reads orders from stdin, each a line of JSON
followed by `size` bytes, carries them out one by one, retries what fails, and tells on stdout, in lines of JSON:

    {"done": ID, "at": SECONDS}                              on the disk since then (monotonic clock)
    {"retry": ID, "error": TEXT, "attempt": N}               failed, and is tried again
    {"failed": ID, "error": TEXT, "full": true or false}     given up; full: no space is left

It dies with the trainer: what was not done when the trainer was killed is not done later, behind a resumed run's back.
"""

import ctypes
import errno
import fcntl
import itertools
import json
import os
import queue
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 8.0
"""Seconds between two attempts: doubled from the first to the longest."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors that waiting does not mend."""
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""What file systems say that cannot sync a directory."""
CHECKPOINT = re.compile(r"\d{15}")
"""Names of checkpoints' directories."""
PARTS_LOOK_S = 0.05
"""Seconds between two looks for the parts of a directory that other processes write."""


def append(path: Path | str, data: bytes) -> None:
    """Add whole `data` to the end of a file, or nothing of it; handed to the operating system at once."""
    with open(path, "ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            _write(file, data)
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


def replace(path: Path | str, data: bytes) -> None:
    """Replace `path` by `data`: a reader, or a crash at any moment, sees the old content or the new, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", buffering=0) as file:
            _write(file, data)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sync(path: Path | str) -> None:
    """Wait until a file's content, or a directory's list of names, is on the disk; fine where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def commit(path: Path | str, data: bytes, needs: Mapping[str, int], marker: str, keep: Iterable[str]) -> None:
    """Write the last file of a directory whose other files (`needs`) are there, take away the `marker` that called it
    unfinished, and remove all checkpoints beside it but `keep`."""
    folder = Path(path).parent
    sync(folder)
    replace(path, data)
    (folder / marker).unlink(missing_ok=True)
    sync(folder)
    sync(folder.parent)
    keep_only(folder.parent, [*keep, folder.name])


def missing_part(path: Path | str, needs: Mapping[str, int]) -> str | None:
    """The first file (name -> size, also of other processes) that is not whole yet in the directory of `path`."""
    folder = Path(path).parent
    return next((name for name, size in needs.items() if not _has_size(folder / name, size)), None)


def remove(path: Path | str) -> None:
    """Remove a checkpoint's directory, as far as that can be done. Whatever has another name is left alone: nothing but
    checkpoints is removed, whatever is ordered."""
    if CHECKPOINT.fullmatch(Path(path).name):
        shutil.rmtree(path, ignore_errors=True)


def keep_only(path: Path, names: Iterable[str]) -> None:
    """Remove all checkpoints from the directory `path` but these names; what else is there stays."""
    for entry in path.glob("*"):
        if entry.name not in names:
            remove(entry)


def _write(file: Any, data: bytes) -> None:
    """All of `data` to an unbuffered file, which may take it in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


OPERATIONS: dict[str, Callable[..., None]] = {
    "append": append,
    "replace": replace,
    "sync": lambda path, data: sync(path),
    "commit": commit,
    "remove": lambda path, data: remove(path),
}


class Scribe:
    """Carries out orders: each until it is done, the disk is full, or `patience` seconds have passed."""

    def __init__(self, patience: float, tell: Callable[[dict[str, Any]], None]):
        self._patience, self._tell = patience, tell
        self._given_up: set[str] = set()  # groups: when one order of a group fails, the rest of it is pointless
        self._kept: dict[str, bytes] = {}  # what could not be appended goes in front of what comes next
        self.commits: list[tuple[dict[str, Any], bytes, float]] = []
        """Commits that wait for the parts of other processes: order, data, when they are given up."""

    def hear(self, order: dict[str, Any], data: bytes) -> None:
        """Carry the order out, after those that came before; a commit as soon as its parts are there."""
        if order["do"] == "commit":
            self.commits.append((order, data, time.monotonic() + self._patience))
            self.look_for_parts()
        else:
            self._obey(order, data)

    def look_for_parts(self) -> None:
        """Carry out the commits whose parts have come."""
        waiting, self.commits = self.commits, []
        for order, data, end in waiting:
            missing = missing_part(order["path"], order["options"]["needs"])
            if missing is None or order["group"] in self._given_up:
                self._obey(order, data)
            elif time.monotonic() < end:
                self.commits.append((order, data, end))
            else:
                self._tell({"failed": order["id"], "error": f"{missing} was never written", "full": False})

    def _obey(self, order: dict[str, Any], data: bytes) -> None:
        number, group, path, do = order["id"], order["group"], order["path"], order["do"]
        if group in self._given_up:
            self._tell({"failed": number, "error": "an earlier part of it failed", "full": False})
            return
        if do == "append":
            data = self._kept.pop(path, b"") + data
        failure = self._persist(lambda: OPERATIONS[do](path, data, **order["options"]), number)
        if failure is None:
            self._tell({"done": number, "at": time.monotonic()})
            return
        if group:
            self._given_up.add(group)
        if do == "append":
            self._kept[path] = data
        self._tell({"failed": number, **_describe(failure, path, len(data))})

    def _persist(self, act: Callable[[], None], number: int) -> OSError | None:
        """The error that it was given up for; None when done."""
        end, wait = time.monotonic() + self._patience, FIRST_WAIT_S
        for attempt in itertools.count(1):
            try:
                act()
                return None
            except OSError as error:
                if error.errno in FULL or time.monotonic() + wait > end:
                    return error
                self._tell({"retry": number, "error": str(error), "attempt": attempt})
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)
        raise AssertionError


def _describe(error: OSError, path: str, size: int) -> dict[str, Any]:
    if error.errno not in FULL:
        return {"error": str(error), "full": False}
    free = "?"
    with suppress(OSError):
        disk = os.statvfs(Path(path).parent)
        free = f"{disk.f_bavail * disk.f_frsize:,}"
    return {"error": f"no space is left for {path}: it needs {size:,} bytes, {free} are free", "full": True}


def _die_with(parent: int) -> None:
    """Be killed when the trainer ends, however it ends (Linux; elsewhere stdin tells)."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # meant for the trainer, which tells us what to do
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _lock(path: str) -> int | None:
    """Hold the lock on `path` for as long as this process lives; None where another process has it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return descriptor


def main(orders: BinaryIO, answers: BinaryIO) -> None:
    """Serve one trainer until it closes `orders`. The first line is {"parent", "lock", "patience"}; the first answer
    says whether the lock is ours: {"locked": true or false}, with an "error" where there can be none."""

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    terms = json.loads(orders.readline())
    _die_with(terms["parent"])
    try:
        locked = not terms["lock"] or _lock(terms["lock"]) is not None
    except OSError as error:
        tell({"locked": False, "error": str(error)})
        return
    if not locked:
        tell({"locked": False})
        return
    tell({"locked": True})
    scribe = Scribe(terms["patience"], tell)
    received: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(orders, received), daemon=True).start()
    while True:
        try:
            heard = received.get(timeout=PARTS_LOOK_S if scribe.commits else None)
        except queue.Empty:
            scribe.look_for_parts()
            continue
        if heard is None:
            return
        scribe.hear(*heard)


def _receive(orders: BinaryIO, received: Any) -> None:
    """Hand orders on until there are no more; one that a dying trainer tore is dropped."""
    for line in orders:
        order = json.loads(line) if line.endswith(b"\n") else {"size": 1}
        data = orders.read(order["size"])
        if len(data) < order["size"]:
            break
        received.put((order, data))
    received.put(None)


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
