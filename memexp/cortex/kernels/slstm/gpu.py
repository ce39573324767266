"""`slstm` in one pass over the steps, block of rows by block of rows, head by head.

A program runs all steps of ROWS rows of one head. The state is a `[ROWS, D]` tile in registers, where D is d padded to
a power of two; the head's four recurrent matrices are `[D, D]` tiles that stay on the chip. The padding is zero, for
which the recurrence gives y = 0.
"""

# Triton types what kernels call, not how Python calls kernels.
# pyright: reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from memexp.cortex.kernels import slstm
from memexp.cortex.kernels.gpu import contiguous, keep

EPS, SAVED = tl.constexpr(slstm.EPS), tl.constexpr(slstm.SAVED)
ROWS = 16
"""Rows of a program; a matrix product needs at least 16."""


def forward(
    terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, N, _, d = terms.shape
    saved = terms.new_empty(B, T if saving else 0, N, slstm.SAVED, d)
    y, after = terms.new_empty(B, T, N, d), torch.empty_like(state)
    inputs = (terms, recurrent, state, *contiguous(resets))
    _forward[_grid(B, N)](*inputs, y, after, saved, B, T, SAVING=saving, **_sizes(N, d))
    return y, after, saved


def backward(
    dy: Tensor, d_after: Tensor, terms: Tensor, recurrent: Tensor, state: Tensor, y: Tensor, saved: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    B, T, N, _, d = terms.shape
    d_terms, d_state = torch.empty_like(terms), torch.empty_like(state)
    inputs = (dy, d_after, recurrent, state, *contiguous(resets), y, saved)
    _backward[_grid(B, N)](*inputs, d_terms, d_state, B, T, **_sizes(N, d))
    return d_terms, _d_recurrent(d_terms, y, state, resets), d_state


def _d_recurrent(d_terms: Tensor, y: Tensor, state: Tensor, resets: Tensor | None) -> Tensor:
    """The sum over rows and steps of d_terms x the output before."""
    B, T, N, _, d = d_terms.shape
    before = torch.cat([state[:, :1], y[:, :-1]], dim=1)
    if resets is not None:
        before = before.masked_fill(resets[:, :, None, None], 0)
    left, right = d_terms.view(B * T, N, 4 * d), before.view(B * T, N, d)
    return torch.einsum("xnk,xnd->nkd", left, right).view(N, 4, d, d)


def _grid(B: int, N: int) -> tuple[int, int]:
    return triton.cdiv(B, ROWS), N


def _sizes(N: int, d: int) -> dict[str, int]:
    D = max(16, triton.next_power_of_2(d))
    stages = 2 if D <= 32 else 1  # prefetch the next step's inputs where the chip has memory for them
    return {"N": N, "d": d, "D": D, "ROWS": ROWS, "STAGES": stages, "num_warps": D // 8}


@triton.jit(do_not_specialize=["B", "T"])
def _forward(
    terms, recurrent, state, resets, y, after, saved, B, T, SAVING: tl.constexpr,
    N: tl.constexpr, d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row, head, feature, inside = _place(B, d, D, ROWS)
    R_i, R_f, R_z, R_o = _matrices(recurrent, head, d, D, True)
    at_state = row * 4 * N * d + head * d + feature
    y_now, c, n, m = _four(state + at_state, N * d, inside)
    step = row * T * N + head
    for t in tl.range(T, num_stages=STAGES):
        at = step + t * N
        i, f, z, o = _four(terms + at * 4 * d + feature, d, inside)
        kept = keep(resets, row * T + t, row < B)
        y_now, c, n, m = kept * y_now, kept * c, kept * n, kept * m
        i, f = _plus_product(i, y_now, R_i), _plus_product(f, y_now, R_f)
        z, o = 2 * tl.sigmoid(2 * _plus_product(z, y_now, R_z)) - 1, tl.sigmoid(_plus_product(o, y_now, R_o))
        carried = tl.where(n == 0, -float("inf"), m + _log_sigmoid(f))
        m = tl.maximum(i, carried, propagate_nan=tl.PropagateNan.ALL)
        i, open_f, f = tl.exp(i - m), tl.sigmoid(-f), tl.exp(carried - m)
        c, n = f * c + i * z, f * n + i
        y_now = o * c / (n + EPS)
        tl.store(y + at * d + feature, y_now, inside)
        if SAVING:
            at_saved = saved + at * SAVED * d + feature
            _store_four(at_saved, i, f, z, o, d, inside)
            tl.store(at_saved + 4 * d, open_f, inside)
            tl.store(at_saved + 5 * d, c, inside)
            tl.store(at_saved + 6 * d, n, inside)
    _store_four(after + at_state, y_now, c, n, m, N * d, inside)


@triton.jit(do_not_specialize=["B", "T"])
def _backward(
    dy, d_after, recurrent, state, resets, y, saved, d_terms, d_state, B, T,
    N: tl.constexpr, d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row, head, feature, inside = _place(B, d, D, ROWS)
    R_i, R_f, R_z, R_o = _matrices(recurrent, head, d, D, False)
    at_state = row * 4 * N * d + head * d + feature
    _, c_first, n_first, _ = _four(state + at_state, N * d, inside)
    step = row * T * N + head
    at_last = saved + (step + (T - 1) * N) * SAVED * d + feature
    c, n = tl.load(at_last + 5 * d, inside, 0), tl.load(at_last + 6 * d, inside, 0)
    d_y, d_c, d_n, excess = _four(d_after + at_state, N * d, inside)
    excess -= d_c * c + d_n * n
    for back in tl.range(T, num_stages=STAGES):
        t = T - 1 - back
        at = step + t * N
        at_saved = saved + at * SAVED * d + feature
        i, f, z, o = _four(at_saved, d, inside)
        open_f = tl.load(at_saved + 4 * d, inside, 0)
        y_now = tl.load(y + at * d + feature, inside, 0)
        d_y += tl.load(dy + at * d + feature, inside, 0)
        at_before = at_saved - N * SAVED * d
        c_before = tl.load(at_before + 5 * d, inside & (t > 0), 0)
        n_before = tl.load(at_before + 6 * d, inside & (t > 0), 0)
        c_before, n_before = tl.where(t > 0, c_before, c_first), tl.where(t > 0, n_before, n_first)
        d_y_n = d_y / (n + EPS)
        d_c += d_y_n * o
        d_n -= d_y_n * y_now
        excess -= d_y_n * y_now * EPS
        late = (i != 1).to(i.dtype)
        d_i = i * (d_c * z + d_n) + excess * (1 - late)
        d_c, d_n, excess, d_z = f * d_c, f * d_n, late * excess, d_c * i * (1 - z * z)
        d_f = (d_c * c_before + d_n * n_before + excess) * open_f
        d_o = d_y * y_now * (1 - o)
        _store_four(d_terms + at * 4 * d + feature, d_i, d_f, d_z, d_o, d, inside)
        d_y = _plus_product(_plus_product(tl.zeros_like(d_i), d_i, R_i), d_f, R_f)
        d_y = _plus_product(_plus_product(d_y, d_z, R_z), d_o, R_o) * keep(resets, row * T + t, row < B)
        n = n_before
    _store_four(d_state + at_state, d_y, d_c, d_n, d_c * c_first + d_n * n_first + excess, N * d, inside)


@triton.jit
def _place(B, d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr):
    """The rows `[ROWS, 1]`, the head and the features `[1, D]` of this program, and the mask of valid ones."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    feature = tl.arange(0, D)[None, :]
    return row, tl.program_id(1), feature, (row < B) & (feature < d)


@triton.jit
def _matrices(recurrent, head, d: tl.constexpr, D: tl.constexpr, TRANSPOSED: tl.constexpr):
    """The head's matrices as the right factors of products, `[to, from]`, or `[from, to]` if transposed."""
    a, b = tl.arange(0, D)[:, None], tl.arange(0, D)[None, :]
    at = recurrent + head * 4 * d * d + (b * d + a if TRANSPOSED else a * d + b)
    return _four(at, d * d, (a < d) & (b < d))


@triton.jit
def _four(at, stride: tl.constexpr, mask):
    return (
        tl.load(at, mask, 0),
        tl.load(at + stride, mask, 0),
        tl.load(at + 2 * stride, mask, 0),
        tl.load(at + 3 * stride, mask, 0),
    )


@triton.jit
def _store_four(at, a, b, c, d, stride: tl.constexpr, mask):
    tl.store(at, a, mask)
    tl.store(at + stride, b, mask)
    tl.store(at + 2 * stride, c, mask)
    tl.store(at + 3 * stride, d, mask)


@triton.jit
def _plus_product(terms, left, right):
    return tl.dot(left, right, acc=terms, input_precision="ieee", out_dtype=terms.dtype)


@triton.jit
def _log_sigmoid(x):
    return tl.minimum(x, 0) - tl.log(1 + tl.exp(-tl.abs(x)))
