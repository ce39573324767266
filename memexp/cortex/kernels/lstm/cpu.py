"""`lstm` in one pass over the steps of each row."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import (
    add_product,
    add_transposed_product,
    inlined,
    keep_mask,
    kernel,
    over_rows,
    quarters,
)
from memexp.cortex.kernels.linear import product
from memexp.cortex.kernels.vector_math import sigmoid


def forward(
    terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, H = terms.shape[0], terms.shape[1], recurrent.shape[1]
    h, after, saved = terms.new_empty(B, T, H), state.clone(), terms.new_empty(B, T if saving else 1, 5, H)
    keep, sums = keep_mask(resets, terms, T), terms.new_empty(B, 4 * H)
    if T == 1:  # one matrix product for all rows; the kernel then adds nothing
        terms, from_h = product(state[:, 0] * keep, recurrent).unsqueeze(1).add_(terms), terms.new_empty(0, 4 * H)
    else:
        from_h = recurrent.t().contiguous()
    over_rows(_forward, B, terms, from_h, keep, sums, h, after, saved)
    return h, after, saved if saving else saved[:, :0].clone()


def backward(
    dh: Tensor, d_after: Tensor, terms: Tensor, recurrent: Tensor, state: Tensor, h: Tensor, saved: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    B, T, H = h.shape
    keep, d_terms, d_state = keep_mask(resets, terms, T), torch.empty_like(terms), d_after.clone()
    over_rows(_backward, B, dh, recurrent.t().contiguous(), state, saved, keep, d_terms, d_state)
    before = torch.cat([state[:, :1], h[:, :-1]], dim=1) * keep[..., None]
    return d_terms, d_terms.view(B * T, 4 * H).t() @ before.view(B * T, H), d_state


@kernel
def _forward(terms, from_h, keep, work, h, after, saved, first, end):
    T, H = h.shape[1:]
    sums = work[first]
    for row in range(first, end):
        last, c = after[row, 0], after[row, 1]
        for t in range(T):
            k, now, given = keep[row, t], saved[row, min(t, saved.shape[1] - 1)], terms[row, t]
            for j in range(4 * H):
                sums[j] = given[j]
            if k != 0:
                add_product(last, from_h, sums)
            to_i, to_f, to_g, to_o = quarters(sums)
            _step(k, to_i, to_f, to_g, to_o, c, last, now[0], now[1], now[2], now[3], now[4], h[row, t])


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
def _backward(dh, from_h, state, saved, keep, d_terms, d_state, first, end):
    T = dh.shape[1]
    for row in range(first, end):
        d_last, dc = d_state[row, 0], d_state[row, 1]
        for t in range(T - 1, -1, -1):
            k, now, d_now = keep[row, t], saved[row, t], d_terms[row, t]
            c = saved[row, t - 1, 4] if t else state[row, 1]
            d_i, d_f, d_g, d_o = quarters(d_now)
            i, f, g, o, c_now = now[0], now[1], now[2], now[3], now[4]
            _step_back(k, dh[row, t], i, f, g, o, c_now, c, d_last, dc, d_i, d_f, d_g, d_o)
            if k != 0:
                add_transposed_product(d_now, from_h, d_last)


@inlined
def _step_back(k, dh, i, f, g, o, c_now, c, d_last, dc, d_i, d_f, d_g, d_o):
    """Gradients of the gates' inputs and of the previous c; sets d_last to zero."""
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
        d_last[j] = real(0.0)
