"""How the rules of the game are compiled by Numba."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from memexp.jit import config, entries, njit

Function = Callable[..., Any]

entry = entries(Path(__file__).parent)
"""A function that Python calls; `@entry(parallel=True)` spreads prange over cores."""


def compiled(function: Function) -> Function:
    """A rule: compiled into the entry points that use it. It must not allocate: there is no reference counting."""
    return njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function: Function) -> Function:
    """A rule on the hot path. A call hands over every array's address and shape, a hundred words; this avoids it."""
    return njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(function)


def num_cores() -> int:
    """How many cores parallel entries use: NUMBA_NUM_THREADS, by default all."""
    return config.NUMBA_NUM_THREADS


@cache
def choose_threads() -> None:
    """Make parallel entries use Numba's own threads, unless NUMBA_THREADING_LAYER says otherwise.

    OpenMP's spin while they wait for each other: on cores shared with others that was measured to cost 16 ms a call.
    Numba's own must not be entered from two Python threads at once.
    """
    if "NUMBA_THREADING_LAYER" not in os.environ:
        config.THREADING_LAYER = "workqueue"
