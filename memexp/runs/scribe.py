"""File operations, and a process that carries them out for a trainer: a slow disk or bucket never stops training.

`memexp.runs.writer` starts this script, which uses only the standard library. It reads orders from stdin: a line of
JSON, then `size` bytes of data. It carries them out one by one, retries what fails, and reports on stdout:

    {"done": ID, "at": SECONDS}                              finished at this time (monotonic clock)
    {"retry": ID, "error": TEXT}                             failed, will be tried again
    {"failed": ID, "error": TEXT, "full": true or false, "gone": true or false}     given up
                                                         full: no space is left on the disk; gone: the directory is gone

It ends when the trainer ends, however that happens. So no order of a killed trainer is carried out later, while a
resumed run already writes the same files.
"""

import ctypes
import errno
import fcntl
import json
import os
import queue
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 8.0
"""Seconds between two attempts. The wait doubles from the first to the longest."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors that a retry does not solve."""
NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""Errors of file systems that cannot sync a directory."""
CHECKPOINT = re.compile(r"\d{15}")
"""Name of a checkpoint's directory."""
PARTS_POLL_S = 0.05
"""Seconds between two checks for the files that other processes write into a checkpoint."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
"""Errors of file systems that cannot lock a file."""
LOCK_TRIES, LOCK_WAIT_S = 4, 0.05
"""Attempts to lock a file, and seconds between two: a process that looks whether it is locked holds it for a moment."""
BEAT_S, LEASE_S, SETTLE_S = 10.0, 60.0, 1.0
"""A lease is renewed after BEAT_S seconds and ends LEASE_S seconds after the last time. SETTLE_S seconds after taking
it, a process looks whether another one has taken it at the same moment."""
TOKEN_CHARACTERS = 1000
"""Most characters of a lease that are read."""
_libc = ctypes.CDLL(None)


class GoneError(OSError):
    """The directory of the lock was deleted or moved, or another process has taken the lease."""


class Lock:
    """The right to be the only process that works on something. It ends with `release` or with the process.

    It is a flock on the file `path`, or a lease where the file system has no locks: the file `path`.lease, whose time
    is renewed again and again. Get one from `take`.
    """

    def __init__(self, path: Path, descriptor: int, token: str | None):
        self.path, self._descriptor, self._token = path, descriptor, token
        self._links = os.fstat(descriptor).st_nlink  # becomes 0 when the file is deleted
        self._released = threading.Event()
        if self.is_lease:
            threading.Thread(target=self._renew, daemon=True, name="lease").start()

    @property
    def is_lease(self) -> bool:
        return self._token is not None

    def check(self) -> None:
        """Raises GoneError if the file was deleted or moved, or the lease lost."""
        if not self.path.exists():
            time.sleep(SETTLE_S)  # a bucket may miss a file for a moment
        if not self.path.exists() or os.fstat(self._descriptor).st_nlink < self._links:
            raise GoneError(f"{self.path.parent} was deleted or moved")
        if self.is_lease and _token_in(_lease(self.path)) not in (self._token, None):
            raise GoneError(f"another process has taken {self.path.parent}")

    def release(self) -> None:
        self._released.set()
        if self.is_lease:
            with suppress(OSError):
                _lease(self.path).unlink()
        os.close(self._descriptor)

    def _renew(self) -> None:
        while not self._released.wait(BEAT_S):
            with suppress(OSError):
                if _token_in(_lease(self.path)) == self._token:
                    os.utime(_lease(self.path))


def take(path: Path) -> Lock | None:
    """Lock `path`, which is created; None if another process holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_WAIT_S)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if token := _take_lease(_lease(path)):
                return Lock(path, descriptor, token)
            break
        else:
            if _is_alive(_lease(path)):  # of a machine that cannot lock
                break
            return Lock(path, descriptor, None)
    os.close(descriptor)
    return None


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock of `path`. Changes nothing, and needs no right to write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # an exclusive lock needs the right to write on NFS
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return _is_alive(_lease(path))


def _lease(path: Path) -> Path:
    return path.with_name(f"{path.name}.lease")


def lease_holders(path: Path) -> list[int]:
    """Process ID on this machine that has the lease of the lock `path`; [] if there is no lease, or elsewhere."""
    host, pid = _holder(_lease(path)) or ("", 0)
    return [pid] if host == socket.gethostname() else []


def _take_lease(file: Path) -> str | None:
    """Take the lease, and return the token that is written into it; None if another process has it."""
    if _is_alive(file):
        return None
    token = f"{socket.gethostname()} {os.getpid()} {os.urandom(8).hex()}"
    replace(file, token.encode())
    time.sleep(SETTLE_S)
    return token if _token_in(file) == token else None


def _token_in(file: Path) -> str | None:
    """What a lease says; None if there is none, or something else (a pipe, a device, a folder) stands there."""
    try:
        with open(file, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as lease:
            return lease.read(TOKEN_CHARACTERS)
    except (OSError, ValueError):
        return None


def _is_alive(file: Path) -> bool:
    return _holder(file) is not None


def _holder(file: Path) -> tuple[str, int] | None:
    """Host and process ID in a lease that was renewed lately, by a process that, as far as is known here, lives."""
    try:
        age, (host, pid, _) = time.time() - file.stat().st_mtime, (_token_in(file) or "").split()
        if host == socket.gethostname():
            try:
                os.kill(int(pid), 0)
            except PermissionError:  # a process of another user: it lives
                age = 0.0
        return (host, int(pid)) if age < LEASE_S else None
    except (OSError, ValueError, OverflowError):
        return None


def append(path: Path | str, data: bytes) -> None:
    """Add `data` to the end of a file: all of it, or nothing if an error occurs. Nothing is buffered."""
    with open(path, "ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            _write(file, data)
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


def private(path: str, flags: int) -> int:
    """An opener for `open`: the owner alone may read and write the file that it makes."""
    return os.open(path, flags, 0o600)


def replace(path: Path | str, data: bytes, opener: Callable[[str, int], int] | None = None) -> None:
    """Replace a file by `data` atomically: readers, and a crash at any moment, find the old content or the new.

    A link stays, and its target is replaced.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", buffering=0, opener=opener) as file:
            _write(file, data)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sync(path: Path | str, data: bytes = b"") -> None:
    """Wait until a file, or a directory's list of names, is on the disk. A path that does not exist is ignored."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would block
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
    """Complete a checkpoint whose other files are written: write its last file, remove its `marker` file, which says
    that it is incomplete, and remove all other checkpoints beside it but `keep`."""
    folder = Path(path).parent
    sync(folder)
    replace(path, data)
    (folder / marker).unlink(missing_ok=True)
    sync(folder)
    sync(folder.parent)
    keep_only(folder.parent, [*keep, folder.name])


def missing_part(path: Path | str, needs: Mapping[str, int]) -> str | None:
    """The first of the files `needs` (name -> bytes) that is missing or incomplete beside `path`; None if none is."""
    for name, size in needs.items():
        try:
            if Path(path).with_name(name).stat().st_size != size:
                return name
        except FileNotFoundError:
            return name
    return None


def remove(path: Path | str, data: bytes = b"") -> None:
    """Remove a checkpoint's directory as far as possible. A directory with any other name is never removed."""
    if CHECKPOINT.fullmatch(Path(path).name):
        shutil.rmtree(path, ignore_errors=True)


def keep_only(path: Path, names: Iterable[str]) -> None:
    """Remove all checkpoints in the directory `path` but these names."""
    for entry in path.glob("*"):
        if entry.name not in names:
            remove(entry)


def _write(file: FileIO, data: bytes) -> None:
    """Write all of `data`: an unbuffered file may take it in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


OPERATIONS: dict[str, Callable[..., None]] = {one.__name__: one for one in (append, replace, sync, commit, remove)}


class Scribe:
    """Carries out orders. Each is tried until it succeeds, the disk is full, or `patience` seconds have passed.

    After the `lock` is gone, nothing is written.
    """

    def __init__(self, patience: float, report: Callable[[dict[str, Any]], None], lock: Lock | None = None):
        self._patience, self._report, self._lock = patience, report, lock
        self._given_up: set[str] = set()  # groups with a failed order: their other orders fail, too
        self._unwritten: dict[str, bytes] = {}  # path -> lines that could not be appended: they precede the next ones
        self.commits: list[tuple[dict[str, Any], bytes, float]] = []
        """Commits that wait for files of other processes: (order, data, when to give up)."""

    def carry_out(self, order: dict[str, Any], data: bytes) -> None:
        """Carry out one order; a commit as soon as the files that it needs are there."""
        if order["do"] == "commit":
            self.commits.append((order, data, time.monotonic() + self._patience))
            self.check_commits()
        else:
            self._execute(order, data)

    def check_commits(self) -> None:
        """Carry out the commits whose files are complete now."""
        waiting, self.commits = self.commits, []
        for order, data, end in waiting:
            missing = missing_part(order["path"], order["options"]["needs"])
            if missing is None or order["group"] in self._given_up:
                self._execute(order, data)
            elif time.monotonic() < end:
                self.commits.append((order, data, end))
            else:
                self._report({"failed": order["id"], "error": f"{missing} was never written", "full": False})

    def _execute(self, order: dict[str, Any], data: bytes) -> None:
        number, group, path, do = order["id"], order["group"], order["path"], order["do"]
        if group in self._given_up:
            self._report({"failed": number, "error": "an earlier part of it failed", "full": False})
            return
        if do == "append":
            data = self._unwritten.pop(path, b"") + data
        failure = self._persist(lambda: OPERATIONS[do](path, data, **order["options"]), number)
        if failure is None:
            self._report({"done": number, "at": time.monotonic()})
            return
        if group:
            self._given_up.add(group)
        if do == "append":
            self._unwritten[path] = data
        self._report({"failed": number, **_describe(failure, path, len(data))})

    def _persist(self, act: Callable[[], None], number: int) -> OSError | None:
        """Try until it succeeds (returns None) or is given up (returns the error)."""
        end, wait = time.monotonic() + self._patience, FIRST_WAIT_S
        while True:
            try:
                if self._lock:
                    self._lock.check()
                act()
                return None
            except OSError as error:
                if isinstance(error, GoneError) or error.errno in FULL or time.monotonic() + wait > end:
                    return error
                self._report({"retry": number, "error": str(error)})
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)


def _describe(error: OSError, path: str, size: int) -> dict[str, Any]:
    if error.errno not in FULL:
        return {"error": str(error), "full": False, "gone": isinstance(error, GoneError)}
    lack = f"it needs {size:,} bytes"
    with suppress(OSError):
        disk = os.statvfs(Path(path).parent)
        no_files = disk.f_files and not disk.f_favail
        free = f"{disk.f_bavail * disk.f_frsize:,}"
        lack = "the disk can hold no more files (no inode is free)" if no_files else f"{lack}, {free} are free"
    return {"error": f"no space is left for {path}: {lack}", "full": True}


def end_with(parent: int, number: int) -> None:
    """Have the system send the signal `number` to this process when its parent ends, however it ends (Linux only)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        _libc.prctl(pr_set_pdeathsig, number)
        if os.getppid() != parent:
            os._exit(1)


def main(orders: BinaryIO, answers: BinaryIO) -> None:
    """Serve one trainer until it closes `orders`.

    The first line of `orders` is {"parent", "lock", "patience"}. The first answer is {"locked", "lease"}: whether this
    process has the lock, and whether it is a lease; with an "error" if there can be no lock.
    """

    def report(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    terms = json.loads(orders.readline())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the trainer handles them and still writes
        signal.signal(number, signal.SIG_IGN)
    end_with(terms["parent"], signal.SIGKILL)
    lock = None
    try:
        lock = take(Path(terms["lock"])) if terms["lock"] else None
        answer = {"locked": bool(lock or not terms["lock"]), "lease": bool(lock and lock.is_lease)}
    except OSError as error:
        answer = {"locked": False, "error": str(error)}
    report(answer)
    if not answer["locked"]:
        return
    try:
        _serve(orders, Scribe(terms["patience"], report, lock))
    finally:
        if lock:
            lock.release()


def _serve(orders: BinaryIO, scribe: Scribe) -> None:
    """Carry out orders until there are no more."""
    received: queue.SimpleQueue[tuple[dict[str, Any], bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(orders, received), daemon=True).start()
    while True:
        try:
            order = received.get(timeout=PARTS_POLL_S if scribe.commits else None)
        except queue.Empty:
            scribe.check_commits()
            continue
        if order is None:
            return
        scribe.carry_out(*order)


def _receive(orders: BinaryIO, received: "queue.SimpleQueue[tuple[dict[str, Any], bytes] | None]") -> None:
    """Pass orders on until there are no more. An incomplete order, of a trainer that was killed, is dropped."""
    for line in orders:
        order = json.loads(line) if line.endswith(b"\n") else {"size": 1}
        data = orders.read(order["size"])
        if len(data) < order["size"]:
            break
        received.put((order, data))
    received.put(None)


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
