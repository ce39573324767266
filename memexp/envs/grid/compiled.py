"""`compiled`: numba.njit whose on-disk cache can never be stale.

Numba notices a change of the file that a function stands in, not of the functions it calls in other files. The cache
directory's name therefore contains a hash of all sources of this package: another source, another cache.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numba.core.config

Function = Callable[..., Any]
_njit: Any = numba.njit
_config: Any = numba.core.config


def cache_directory() -> str:
    """Where compiled code is kept: NUMBA_CACHE_DIR if set, else a per-user directory named by the engine's sources."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return os.environ["NUMBA_CACHE_DIR"]
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return str(home / "memexp" / "numba" / digest.hexdigest()[:16])


_CACHE_DIRECTORY = cache_directory()


def compiled(function: Function) -> Function:
    """A rule: compiled into the entry points that use it. It must not allocate: there is no reference counting."""
    return _njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function: Function) -> Function:
    """A rule on the hot path. A call hands over every array's address and shape, a hundred words; this avoids it."""
    return _njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(function)


def entry(parallel: bool = False) -> Callable[[Function], Function]:
    """A function that Python calls: compiled on its first call, kept on disk; `parallel` spreads prange over cores."""

    def decorate(function: Function) -> Function:
        before = _config.CACHE_DIR
        _config.CACHE_DIR = _CACHE_DIRECTORY
        try:
            return _njit(cache=True, parallel=parallel, nogil=True, no_cfunc_wrapper=True)(function)
        finally:
            _config.CACHE_DIR = before

    return decorate


def num_cores() -> int:
    """How many cores parallel entries use: NUMBA_NUM_THREADS, by default all."""
    return _config.NUMBA_NUM_THREADS


@cache
def choose_threads() -> None:
    """Make parallel entries use Numba's own threads, unless NUMBA_THREADING_LAYER says otherwise.

    OpenMP's spin while they wait for each other: on cores shared with others that was measured to cost 16 ms a call.
    Numba's own must not be entered from two Python threads at once.
    """
    if "NUMBA_THREADING_LAYER" not in os.environ:
        _config.THREADING_LAYER = "workqueue"
