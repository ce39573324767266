"""How kernels run on the CPU: compiled by Numba, rows spread over torch's threads."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llvmlite.binding
import torch
from torch import Tensor

from memexp.jit import entries, njit

_FAST = {"contract", "reassoc", "nsz", "arcp"}
"""What floating-point arithmetic may assume: sums may be reordered, but infinities stay infinities."""

kernel = entries(Path(__file__).parent)(fastmath=_FAST, error_model="numpy")
"""A kernel: called with numpy arrays and then, as its last two arguments, the first row and the end of its rows."""

inlined = functools.partial(njit, fastmath=_FAST, error_model="numpy", forceinline=True)
"""A function of numbers that kernels use."""

# Loops over a dozen arrays become vector instructions only if the compiler may check at run time that none overlaps
# another; by default it gives up above 8 comparisons.
llvmlite.binding.set_option("memexp", "-runtime-memory-check-threshold=256")


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="memexp-kernel")


def over_rows(run: Callable[..., Any], rows: int, *arguments: Tensor) -> None:
    """Call the kernel for all rows, in as many parts as torch uses threads."""
    arrays = [a.detach().numpy() for a in arguments]
    parts = min(torch.get_num_threads(), rows)
    bounds = [rows * part // parts for part in range(parts + 1)]
    others = [_pool().submit(run, *arrays, a, b) for a, b in zip(bounds[1:-1], bounds[2:], strict=True)]
    run(*arrays, 0, bounds[1])
    for other in others:
        other.result()


def keep_mask(resets: Tensor | None, like: Tensor, T: int) -> Tensor:
    """`[B, T]` of like's type, 0 at a reset, else 1."""
    if resets is None:
        return like.new_ones(len(like), T)
    return (~resets).to(like.dtype)


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
