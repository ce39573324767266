"""`compiled`: numba.njit whose on-disk cache can never be stale.

Numba notices a change of the file that a function stands in, not of the functions it calls in other files. The cache
directory's name therefore contains a hash of all sources of this package: another source, another cache.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config


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


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A rule: compiled into the entry points that use it. It must not allocate: there is no reference counting."""
    return numba.njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A rule on the hot path. A call hands over every array's address and shape, a hundred words; this avoids it."""
    return numba.njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(function)


def entry(parallel: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function that Python calls: compiled on its first call, kept on disk; `parallel` spreads prange over all cores."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        before = numba_config.CACHE_DIR
        numba_config.CACHE_DIR = _CACHE_DIRECTORY
        try:
            return numba.njit(cache=True, parallel=parallel, nogil=True, no_cfunc_wrapper=True)(function)
        finally:
            numba_config.CACHE_DIR = before

    return decorate
