"""How kernels run on the CPU: compiled by Numba, rows spread over torch's threads."""

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
"""What floating-point arithmetic may assume: sums may be reordered, but infinities stay infinities."""

_compiled = functools.partial(njit, _nrt=False, fastmath=_FAST, error_model="numpy")
_entry = entries(Path(__file__).parent)(_nrt=False, error_model="numpy")

inlined = functools.partial(_compiled, forceinline=True)
"""A function that kernels use."""

# Loops over a dozen arrays become vector instructions only if the compiler may check at run time that none overlaps
# another; by default it gives up above 8 comparisons.
llvmlite.binding.set_option("memexp", "-runtime-memory-check-threshold=256")


def kernel(function: Callable[..., None]) -> Callable[..., None]:
    """A kernel: written as function(*arrays, first, end), where first and end bound its rows; called by `over_rows`.

    It must not allocate, so that no slice of an array costs reference counting. What it needs to work on is passed as
    an array with a place for each row, of which it uses that of its first row. It may not use its maker's variables.
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
    """Call the kernel for all rows, in as many parts as torch uses threads; little work is done at once."""
    arrays = [a.detach().numpy() if a.requires_grad else a.numpy() for a in arguments]
    parts = torch.get_num_threads() if max(a.size for a in arrays) >= MIN_PARALLEL_SIZE else 1
    run(rows, min(parts, rows), openmp(), *arrays)


MIN_PARALLEL_SIZE = 16_384
"""Numbers in the largest array from which on several threads take less time than waking them does."""


def _launch(rows, parts, parallel, *arrays):
    """What `kernel` makes an entry of, for each kernel `_run`."""
    if parts > 1 and parallel:
        _spread(_run, arrays, rows, parts, parallel)  # type: ignore[name-defined]  # noqa: F821
    else:
        _run(*arrays, 0, rows)  # type: ignore[name-defined]  # noqa: F821


def keep_mask(resets: Tensor | None, like: Tensor, T: int) -> Tensor:
    """`[B, T]` of like's type, 0 at a reset, else 1."""
    if resets is None:
        return like.new_ones(len(like), T)
    return (~resets).to(like.dtype)


@functools.cache
def constants(dtype: torch.dtype, *values: float) -> Tensor:
    """Numbers of this type for a kernel, which takes arrays alone."""
    return torch.tensor(values, dtype=dtype)


@inlined
def quarters(x):
    """What the four gates have of x, one after the other."""
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
    """b = a, or 0 where keep is 0 because an episode starts, whatever a is."""
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
