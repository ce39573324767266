"""`lstm` in one pass over the steps of a few rows."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import clear, copy, copy_if, inlined, keep_mask, kernel, over_rows, quarters
from memexp.cortex.kernels.linear import gradient_of_weight, product
from memexp.cortex.kernels.matmul import ROWS, multiply_add_packed, packed
from memexp.cortex.kernels.vector_math import sigmoid


def forward(
    terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, H = terms.shape[0], terms.shape[1], recurrent.shape[1]
    groups = -(-B // ROWS)
    h, after, saved = terms.new_empty(B, T, H), state.clone(), terms.new_empty(B, T if saving else 1, 5, H)
    keep = keep_mask(resets, terms, T)
    if T == 1:  # one matrix product for all rows; the kernel then adds nothing
        terms, from_h = (
            product(state[:, 0] * keep, recurrent).unsqueeze(1).add_(terms),
            packed(terms.new_empty(0, 4 * H)),
        )
    else:
        from_h = packed(recurrent.t())
    strips, size, width = from_h.shape
    work = terms.new_zeros(groups, ROWS, size), terms.new_empty(groups, ROWS, strips * width)
    over_rows(_forward, groups, terms, from_h, keep, *work, h, after, saved)
    return h, after, saved if saving else saved[:, :0].clone()


def backward(
    dh: Tensor, d_after: Tensor, terms: Tensor, recurrent: Tensor, state: Tensor, h: Tensor, saved: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    B, T, H = h.shape
    groups = -(-B // ROWS)
    keep, d_terms, d_state = keep_mask(resets, terms, T), torch.empty_like(terms), d_after.clone()
    strips = packed(recurrent)
    work = terms.new_zeros(groups, ROWS, 4 * H), terms.new_empty(groups, ROWS, len(strips) * strips.shape[2])
    over_rows(_backward, groups, dh, strips, state, saved, keep, *work, d_terms, d_state)
    before = torch.cat([state[:, :1], h[:, :-1]], dim=1) * keep[..., None]
    return d_terms, gradient_of_weight(d_terms.view(B * T, 4 * H), before.view(B * T, H)), d_state


@kernel
def _forward(terms, from_h, keep, lasts, sums, h, after, saved, first, end):
    B, T, H = h.shape
    last, total = lasts[first], sums[first]
    for group in range(first, end):
        start, count = group * ROWS, min(ROWS, B - group * ROWS)
        for t in range(T):
            for i in range(count):
                copy(terms[start + i, t], total[i])
                copy_if(keep[start + i, t], after[start + i, 0, : last.shape[1]], last[i])
            if from_h.shape[1]:
                multiply_add_packed(last, from_h, total)
            for i in range(count):
                row = start + i
                now, (to_i, to_f, to_g, to_o) = saved[row, min(t, saved.shape[1] - 1)], quarters(total[i, : 4 * H])
                h_now, c = after[row, 0], after[row, 1]
                _step(keep[row, t], to_i, to_f, to_g, to_o, c, h_now, now[0], now[1], now[2], now[3], now[4], h[row, t])


@inlined
def _step(k, to_i, to_f, to_g, to_o, c, last, i, f, g, o, c_now, h):
    """The gates from their inputs; updates c and the output in place."""
    real = c.dtype.type
    one, two = real(1.0), real(2.0)
    for j in range(len(c)):
        i[j], f[j], o[j] = sigmoid(to_i[j]), sigmoid(to_f[j]), sigmoid(to_o[j])
        g[j] = two * sigmoid(two * to_g[j]) - one  # tanh
        c[j] = f[j] * (k * c[j]) + i[j] * g[j]
        c_now[j] = c[j]
        last[j] = o[j] * (two * sigmoid(two * c[j]) - one)
        h[j] = last[j]


@kernel
def _backward(dh, recurrent, state, saved, keep, sums, lasts, d_terms, d_state, first, end):
    B, T, H = dh.shape
    total, last = sums[first], lasts[first]
    for group in range(first, end):
        start, count = group * ROWS, min(ROWS, B - group * ROWS)
        for t in range(T - 1, -1, -1):
            for i in range(count):
                row = start + i
                k, now, d_now = keep[row, t], saved[row, t], d_terms[row, t]
                c = saved[row, t - 1, 4] if t else state[row, 1]
                d_h, dc = d_state[row, 0], d_state[row, 1]
                d_i, d_f, d_g, d_o = quarters(d_now)
                i_, f, g, o, c_now = now[0], now[1], now[2], now[3], now[4]
                _step_back(k, dh[row, t], i_, f, g, o, c_now, c, d_h, dc, d_i, d_f, d_g, d_o)
                copy_if(k, d_now, total[i])
                clear(last[i])
            multiply_add_packed(total, recurrent, last)
            for i in range(count):
                copy(last[i, :H], d_state[start + i, 0])


@inlined
def _step_back(k, dh, i, f, g, o, c_now, c, d_last, dc, d_i, d_f, d_g, d_o):
    """Gradients of the gates' inputs and of the previous c."""
    real = c.dtype.type
    one, two = real(1.0), real(2.0)
    for j in range(len(c)):
        squashed = two * sigmoid(two * c_now[j]) - one
        d_h = d_last[j] + dh[j]
        d_c = dc[j] + d_h * o[j] * (one - squashed * squashed)
        d_o[j] = d_h * squashed * o[j] * (one - o[j])
        d_i[j] = d_c * g[j] * i[j] * (one - i[j])
        d_f[j] = d_c * (k * c[j]) * f[j] * (one - f[j])
        d_g[j] = d_c * i[j] * (one - g[j] * g[j])
        dc[j] = d_c * k * f[j]
