"""exp, log(1 + x) and sigmoid that the compiler can vectorise, in single precision (after the Cephes library).

Numba's own functions call the C library once per value. Relative errors here are below 4e-7
(tests/cortex/test_kernels.py). In double precision, which only tests use, these are the C library's functions.
"""

# Numba's types convert numbers when they are called, which pyright cannot know.
# pyright: reportCallIssue=false, reportArgumentType=false

import math

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from memexp.cortex.kernels.cpu import inlined


@intrinsic
def _as_float(typing, bits):
    """The float32 with the bits of an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def exp(x):
    """e^x."""
    return math.exp(x)


def log1p(x):
    """log(1 + x), for x in [0, 1]."""
    return math.log1p(x)


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + math.exp(-x))


_FLOAT = types.float32
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.44269504, 0.693359375, -2.12194440e-4
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip


@inlined
def _exp_single(x):
    """2^n e^r with |r| <= log(2) / 2; below -87 the result is 0."""
    y = min(max(x, _FLOAT(-87.0)), _FLOAT(88.0))
    n = types.int32(y * _FLOAT(_LOG2E) + (_FLOAT(0.5) if y > _FLOAT(0.0) else _FLOAT(-0.5)))  # rounded
    whole = _FLOAT(n)
    r = y - whole * _FLOAT(_LN2_HIGH) - whole * _FLOAT(_LN2_LOW)
    p = _FLOAT(_EXP[0])
    p = p * r + _FLOAT(_EXP[1])
    p = p * r + _FLOAT(_EXP[2])
    p = p * r + _FLOAT(_EXP[3])
    p = p * r + _FLOAT(_EXP[4])
    p = p * r + _FLOAT(_EXP[5])
    value = (p * r * r + r + _FLOAT(1.0)) * _as_float((n + types.int32(127)) << types.int32(23))
    return value if x > _FLOAT(-87.0) else _FLOAT(0.0) if x <= _FLOAT(-87.0) else x  # NaN stays NaN


@inlined
def _log1p_single(x):
    """Where 1 + x is large, it is halved: log(1 + x) = log(2) + log(1 + (x - 1) / 2)."""
    large = x > _FLOAT(0.41421356)
    r = (x - _FLOAT(1.0)) * _FLOAT(0.5) if large else x
    p = _FLOAT(_LOG[0])
    p = p * r + _FLOAT(_LOG[1])
    p = p * r + _FLOAT(_LOG[2])
    p = p * r + _FLOAT(_LOG[3])
    p = p * r + _FLOAT(_LOG[4])
    p = p * r + _FLOAT(_LOG[5])
    p = p * r + _FLOAT(_LOG[6])
    p = p * r + _FLOAT(_LOG[7])
    p = p * r + _FLOAT(_LOG[8])
    square = r * r
    value = r - _FLOAT(0.5) * square + square * r * p
    return value + _FLOAT(0.69314718) if large else value


@inlined
def _sigmoid_single(x):
    return _FLOAT(1.0) / (_FLOAT(1.0) + _exp_single(-x))


@overload(exp)
def _(x):
    return (lambda x: _exp_single(x)) if x == types.float32 else (lambda x: math.exp(x))


@overload(log1p)
def _(x):
    return (lambda x: _log1p_single(x)) if x == types.float32 else (lambda x: math.log1p(x))


@overload(sigmoid)
def _(x):
    return (lambda x: _sigmoid_single(x)) if x == types.float32 else (lambda x: 1 / (1 + math.exp(-x)))


@inlined
def softmax_in_place(scores):
    real = scores.dtype.type
    highest, total = scores[0], real(0.0)
    for k in range(len(scores)):
        highest = max(highest, scores[k])
    for k in range(len(scores)):
        scores[k] = exp(scores[k] - highest)
        total += scores[k]
    share = real(1.0) / total
    for k in range(len(scores)):
        scores[k] *= share
