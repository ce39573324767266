"""Kernels on the CPU: compiled by Numba, with rows distributed over torch's threads."""

import functools
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import llvmlite.binding
import torch
from torch import Tensor

from memexp.cortex.kernels.threads import openmp, spread
from memexp.jit import entries, njit

_FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Numba may reorder sums, but infinities and NaNs keep their meaning."""

_compiled = functools.partial(njit, _nrt=False, fastmath=_FAST, error_model="numpy")
_entry = entries(Path(__file__).parent)(_nrt=False, error_model="numpy")

inlined = functools.partial(_compiled, forceinline=True)
"""The decorator of functions that kernels call."""

# LLVM vectorises a loop over many arrays only if it can check at run time that they do not overlap. By default it
# gives up above 8 comparisons.
llvmlite.binding.set_option("memexp", "-runtime-memory-check-threshold=256")


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """The decorator of kernels: function(*arrays, first, end) computes the rows first .. end - 1. Call by `over_rows`.

    A kernel must not allocate memory, so that array slices need no reference counting. Scratch memory is an array with
    a place per row, of which the kernel uses the place of its first row. Raises TypeError for a closure.
    """
    if function.__closure__:
        raise TypeError(f"kernel '{function.__qualname__}' uses variables of the function that it is defined in")
    code = _launch.__code__.replace(  # Numba's cache tells functions apart by these
        co_filename=function.__code__.co_filename,
        co_firstlineno=function.__code__.co_firstlineno,
        co_name=function.__name__,
        co_qualname=function.__qualname__,
    )
    launch = FunctionType(code, {"_run": _compiled(function), "_spread": spread, "__name__": function.__module__})
    return _entry(launch)


def over_rows(run: Callable[..., None], rows: int, *arguments: Tensor) -> None:
    """Call the kernel for all rows, in as many parts as torch has threads, or in one part if there is little work."""
    arrays = [a.detach().numpy() if a.requires_grad else a.numpy() for a in arguments]
    parts = torch.get_num_threads() if max(a.size for a in arrays) >= MIN_PARALLEL_SIZE else 1
    run(rows, min(parts, rows), openmp(), *arrays)


MIN_PARALLEL_SIZE = 16_384
"""Size of the largest array from which on several threads are faster than one."""


def _launch(rows, parts, parallel, *arrays):
    """The template of every kernel's entry point; `kernel` replaces `_run`."""
    if parts > 1 and parallel:
        _spread(_run, arrays, rows, parts, parallel)  # type: ignore[name-defined]  # noqa: F821
    else:
        _run(*arrays, 0, rows)  # type: ignore[name-defined]  # noqa: F821


def keep_mask(resets: Tensor | None, like: Tensor, T: int) -> Tensor:
    """`[B, T]` with the dtype of `like`: 0 at a reset, else 1."""
    if resets is None:
        return like.new_ones(len(like), T)
    return (~resets).to(like.dtype)


@functools.cache
def constants(dtype: torch.dtype, *values: float) -> Tensor:
    """Numbers as a tensor, because kernels take only arrays."""
    return torch.tensor(values, dtype=dtype)


@inlined
def quarters(x):
    """x in four equal parts, one per gate."""
    n = len(x) // 4
    return x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n :]


@inlined
def copy(a, b):
    for j in range(len(a)):
        b[j] = a[j]


@inlined
def clear(a):
    zero = a.dtype.type(0.0)
    for j in range(len(a)):
        a[j] = zero


@inlined
def copy_if(keep, a, b):
    """b = a, or 0 if keep is 0 (an episode starts), even where a is NaN."""
    zero = a.dtype.type(0.0)
    for j in range(len(a)):
        b[j] = a[j] if keep != zero else zero


@inlined
def dot(a, b):
    total = a.dtype.type(0.0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@inlined
def add_product(x, matrix, y):
    """y `[n]` += x `[m]` matrix `[m, n]`, eight rows at a time to read and write y less often."""
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
    """y `[m]` += matrix `[m, n]` x `[n]`, four sums at a time to read x less often."""
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
