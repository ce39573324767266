"""How kernels run on the CPU: compiled by Numba, rows spread over torch's threads."""

import ctypes
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding
import torch
from torch import Tensor

from memexp.jit import entries, njit

_FAST = {"contract", "reassoc", "nsz", "arcp"}
"""What floating-point arithmetic may assume: sums may be reordered, but infinities stay infinities."""

kernel = entries(Path(__file__).parent)(_nrt=False, fastmath=_FAST, error_model="numpy")
"""A kernel: called with numpy arrays and then, as its last two arguments, the first row and the end of its rows.

It must not allocate, so that no slice of an array costs reference counting. What it needs to work on is passed as an
array with a place for each row, of which it uses that of its first row.
"""

inlined = functools.partial(njit, _nrt=False, fastmath=_FAST, error_model="numpy", forceinline=True)
"""A function that kernels use."""

# Loops over a dozen arrays become vector instructions only if the compiler may check at run time that none overlaps
# another; by default it gives up above 8 comparisons.
llvmlite.binding.set_option("memexp", "-runtime-memory-check-threshold=256")


_WORTH_SPREADING = 16_384
"""Numbers in the largest array from which on several threads take less time than waking them does."""


def over_rows(run: Callable[..., Any], rows: int, *arguments: Tensor) -> None:
    """Call the kernel for all rows, in as many parts as torch uses threads; little work is done at once."""
    if not rows:
        return
    arrays = [a.detach().numpy() for a in arguments]
    parts = min(torch.get_num_threads(), rows) if max(a.size for a in arrays) >= _WORTH_SPREADING else 1
    bounds = [rows * part // parts for part in range(parts + 1)]
    _in_parallel([functools.partial(run, *arrays, a, b) for a, b in itertools.pairwise(bounds)])


def _in_parallel(jobs: list[Callable[[], Any]]) -> None:
    """Run the jobs, by the threads of torch's own OpenMP runtime.

    After each operation of torch these spin for a while, waiting for the next: threads of our own would have to share
    the cores with them (sLSTM, T=64 on 2 cores: 2.5 ms with a pool of threads, 0.9 ms so).
    """
    parallel = _openmp()
    if len(jobs) == 1 or parallel is None:
        for job in jobs:
            job()
        return
    waiting, failures = list(jobs), []

    def work(_: int | None) -> None:
        try:
            while waiting:
                waiting.pop()()
        except IndexError:  # another thread took the last one
            pass
        except BaseException as error:  # must not leave a thread that is not Python's
            failures.append(error)

    parallel(_WORK(work), None, len(jobs), 0)
    if failures:
        raise failures[0]


_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp() -> Callable[..., None] | None:
    """GOMP_parallel(function, its argument, number of threads, flags) of the OpenMP runtime that torch has loaded."""
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None) if torch.backends.openmp.is_available() else None
    if parallel is not None:
        parallel.argtypes, parallel.restype = [_WORK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return parallel


def keep_mask(resets: Tensor | None, like: Tensor, T: int) -> Tensor:
    """`[B, T]` of like's type, 0 at a reset, else 1."""
    if resets is None:
        return like.new_ones(len(like), T)
    return (~resets).to(like.dtype)


@inlined
def quarters(x):
    """What the four gates have of x, one after the other."""
    n = len(x) // 4
    return x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n :]


@inlined
def add_product(x, matrix, y):
    """y `[n]` += x `[m]` matrix `[m, n]`, eight rows of the matrix at a time so that y is read and written less."""
    m, n = matrix.shape
    whole = m - m % 8
    for i in range(0, whole, 8):
        a, b, c, d = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
        e, f, g, h = matrix[i + 4], matrix[i + 5], matrix[i + 6], matrix[i + 7]
        xa, xb, xc, xd, xe, xf, xg, xh = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for j in range(n):
            left = (xa * a[j] + xb * b[j]) + (xc * c[j] + xd * d[j])
            y[j] += left + ((xe * e[j] + xf * f[j]) + (xg * g[j] + xh * h[j]))
    for i in range(whole, m):
        for j in range(n):
            y[j] += x[i] * matrix[i, j]


@inlined
def add_transposed_product(x, matrix, y):
    """y `[m]` += matrix `[m, n]` x `[n]`, four sums at a time so that x is read less."""
    m, n = matrix.shape
    zero = matrix.dtype.type(0.0)
    whole = m - m % 4
    for i in range(0, whole, 4):
        a, b, c, d = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
        sa, sb, sc, sd = zero, zero, zero, zero
        for j in range(n):
            sa += a[j] * x[j]
            sb += b[j] * x[j]
            sc += c[j] * x[j]
            sd += d[j] * x[j]
        y[i] += sa
        y[i + 1] += sb
        y[i + 2] += sc
        y[i + 3] += sd
    for i in range(whole, m):
        for j in range(n):
            y[i] += matrix[i, j] * x[j]
