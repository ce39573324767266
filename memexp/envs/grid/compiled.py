"""Decorators that compile the rules with Numba."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from memexp.jit import config, entries, njit

Function = Callable[..., Any]

entry = entries(Path(__file__).parent)
"""For a function that Python calls. `@entry(parallel=True)` spreads prange over cores."""
scripted_entry = entries(Path(__file__).parents[1])
"""The same for scripted policies, which use functions from all of envs/."""


def compiled(function: Function) -> Function:
    """For a rule, which is compiled into the entry points that call it. It must not allocate: no reference counts."""
    return njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function: Function) -> Function:
    """For a rule on the hot path: avoids passing address and shape of every array, about a hundred words, in a call."""
    return njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(function)


def num_cores() -> int:
    """Number of cores that parallel entries use: NUMBA_NUM_THREADS, by default all."""
    return config.NUMBA_NUM_THREADS


@cache
def choose_threads() -> None:
    """Make parallel entries use Numba's own threads, unless NUMBA_THREADING_LAYER is set.

    OpenMP's threads spin while they wait. On shared cores this cost 16 ms per call. Two Python threads must not enter
    Numba's own threads at once.
    """
    if "NUMBA_THREADING_LAYER" not in os.environ:
        config.THREADING_LAYER = "workqueue"
