"""`entries`: numba.njit for functions that Python calls, with a cache on disk that is never stale.

Numba notices changes of the function's own file, but not of files with functions that it calls. The cache directory's
name therefore contains a hash of all sources in the caller's folder.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memexp.machine import cores

os.environ.setdefault("NUMBA_NUM_THREADS", str(cores()))  # Numba itself does not know quotas
import numba
import numba.core.config

from memexp.config import path_in

Function = Callable[..., Any]
njit: Any = numba.njit
config: Any = numba.core.config


def cache_directory(sources: Path) -> str:
    """The directory of compiled code: named after the sources, in NUMBA_CACHE_DIR or the user's cache."""
    cache = path_in("XDG_CACHE_HOME", Path.home() / ".cache")
    return str(path_in("NUMBA_CACHE_DIR", cache / "memexp" / "numba") / digest_of(sources))


def digest_of(sources: Path) -> str:
    """A hash (16 hexadecimal digits) of all Python sources under this folder."""
    digest = hashlib.sha256()
    for file in sorted(sources.rglob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def entries(sources: Path) -> Callable[..., Callable[[Function], Function]]:
    """The decorator `entry(**options)` for functions whose sources are under this folder.

    Functions are compiled on their first call, cached on disk, and run without the GIL.
    """
    directory = cache_directory(sources)

    def entry(**options: Any) -> Callable[[Function], Function]:
        def decorate(function: Function) -> Function:
            before = config.CACHE_DIR
            config.CACHE_DIR = directory
            try:
                return njit(cache=True, nogil=True, no_cfunc_wrapper=True, **options)(function)
            finally:
                config.CACHE_DIR = before

        return decorate

    return entry
