"""A real file system that stalls or fails on demand: `flaky_fs.py ROOT MOUNT CONTROL` shows ROOT at MOUNT (FUSE).

The file CONTROL says how it behaves: "ok"; "stall" (no operation returns until that changes); "fail" (EIO).
"""

import errno
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

try:
    import mfusepy
except (ImportError, OSError):  # OSError: there is no libfuse
    mfusepy = None


def available() -> bool:
    """Whether this machine has what is needed."""
    return mfusepy is not None


class Flaky(mfusepy.Operations if mfusepy else object):
    """Hands every operation on to ROOT, when it behaves."""

    use_ns = True

    def __init__(self, root: str, control: str):
        self._root, self._control = root, Path(control)

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return partial(self._when_it_behaves, found) if name in OPERATIONS else found

    def _when_it_behaves(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        while (mode := self._control.read_text()) == "stall":
            time.sleep(0.02)
        if mode == "fail":
            raise mfusepy.FuseOSError(errno.EIO)
        return operation(*arguments)

    def _at(self, path: str) -> str:
        return self._root + path

    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        found = os.lstat(self._at(path))
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size")
        times = {name: getattr(found, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
        return {name: getattr(found, name) for name in names} | times

    def readdir(self, path: str, fh: int) -> Any:
        return [".", "..", *os.listdir(self._at(path))]

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        return {name: getattr(found, name) for name in ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_frsize")}

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags & ~os.O_APPEND)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._at(path), length)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def utimens(self, path: str, times: Any = None) -> None:
        os.utime(self._at(path), ns=times)


OPERATIONS = {name for name, value in vars(Flaky).items() if callable(value) and not name.startswith("_")}


if __name__ == "__main__":
    root, mount, control = sys.argv[1:]
    mfusepy.FUSE(Flaky(root, control), mount, foreground=True, nothreads=True)
