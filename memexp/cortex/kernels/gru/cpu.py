"""`gru` in one pass over the steps of a few rows."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import clear, copy, copy_if, inlined, keep_mask, kernel, over_rows
from memexp.cortex.kernels.linear import gradient_of_weight, product
from memexp.cortex.kernels.matmul import ROWS, multiply_add_packed, packed
from memexp.cortex.kernels.vector_math import sigmoid


def forward(
    terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, H = terms.shape[0], terms.shape[1], recurrent.shape[1]
    groups = -(-B // ROWS)
    h, after, saved = terms.new_empty(B, T, H), state.clone(), terms.new_empty(B, T if saving else 1, 4, H)
    keep = keep_mask(resets, terms, T)
    from_h = packed(recurrent.t() if T > 1 else terms.new_empty(0, 3 * H))
    strips, size, width = from_h.shape
    lasts, sums = terms.new_zeros(groups, ROWS, size), terms.new_empty(groups, ROWS, strips * width)
    if T == 1:  # one matrix product for all rows; the kernel then computes none
        sums.view(groups * ROWS, -1)[:B, : 3 * H] = product(state[:, 0] * keep, recurrent)
    over_rows(_forward, groups, terms, from_h, keep, lasts, sums, h, after, saved)
    return h, after, saved if saving else saved[:, :0].clone()


def backward(
    dh: Tensor, d_after: Tensor, terms: Tensor, recurrent: Tensor, state: Tensor, h: Tensor, saved: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    B, T, H = h.shape
    groups = -(-B // ROWS)
    keep, d_terms, d_state = keep_mask(resets, terms, T), torch.empty_like(terms), d_after.clone()
    d_sums, strips = terms.new_empty(B, T, 3 * H), packed(recurrent)
    work = terms.new_zeros(groups, ROWS, 3 * H), terms.new_empty(groups, ROWS, len(strips) * strips.shape[2])
    over_rows(_backward, groups, dh, strips, state, h, saved, keep, *work, d_terms, d_sums, d_state)
    before = torch.cat([state, h[:, :-1]], dim=1) * keep[..., None]
    return d_terms, gradient_of_weight(d_sums.view(B * T, 3 * H), before.view(B * T, H)), d_state


@kernel
def _forward(terms, from_h, keep, lasts, sums, h, after, saved, first, end):
    B, T, H = h.shape
    last = lasts[first]
    for group in range(first, end):
        start, count = group * ROWS, min(ROWS, B - group * ROWS)
        total = sums[group]
        for t in range(T):
            if from_h.shape[1]:
                for i in range(count):
                    clear(total[i])
                    copy_if(keep[start + i, t], after[start + i, 0], last[i])
                multiply_add_packed(last, from_h, total)
            for i in range(count):
                row = start + i
                now = saved[row, min(t, saved.shape[1] - 1)]
                _step(
                    keep[row, t],
                    terms[row, t],
                    total[i, : 3 * H],
                    after[row, 0],
                    now[0],
                    now[1],
                    now[2],
                    now[3],
                    h[row, t],
                )


@inlined
def _step(k, terms, sums, last, r, z, n, from_h, h):
    """The gates from their inputs; updates the state in place."""
    H = len(last)
    one, two = last.dtype.type(1.0), last.dtype.type(2.0)
    to_r, to_z, to_n, bias = terms[:H], terms[H : 2 * H], terms[2 * H : 3 * H], terms[3 * H :]
    of_r, of_z, of_n = sums[:H], sums[H : 2 * H], sums[2 * H :]
    for j in range(H):
        r[j], z[j] = sigmoid(to_r[j] + of_r[j]), sigmoid(to_z[j] + of_z[j])
        from_h[j] = of_n[j] + bias[j]
        n[j] = two * sigmoid(two * (to_n[j] + r[j] * from_h[j])) - one  # tanh
        last[j] = (one - z[j]) * n[j] + z[j] * (k * last[j])
        h[j] = last[j]


@kernel
def _backward(dh, recurrent, state, h, saved, keep, sums, lasts, d_terms, d_sums, d_state, first, end):
    B, T, H = dh.shape
    total, last = sums[first], lasts[first]
    for group in range(first, end):
        start, count = group * ROWS, min(ROWS, B - group * ROWS)
        for t in range(T - 1, -1, -1):
            for i in range(count):
                row = start + i
                k, now, d_last = keep[row, t], saved[row, t], d_state[row, 0]
                before = h[row, t - 1] if t else state[row, 0]
                d_now = d_sums[row, t]
                _step_back(k, dh[row, t], now[0], now[1], now[2], now[3], before, d_last, d_terms[row, t], d_now)
                copy_if(k, d_now, total[i])
                copy(d_last, last[i, :H])
            multiply_add_packed(total, recurrent, last)
            for i in range(count):
                copy(last[i, :H], d_state[start + i, 0])


@inlined
def _step_back(k, dh, r, z, n, from_h, before, d_last, d_terms, d_sums):
    """Gradients of the gates' inputs; d_last becomes the part of the previous h that z lets through."""
    H = len(d_last)
    one = dh.dtype.type(1.0)
    d_r, d_z, d_n, d_bias = d_terms[:H], d_terms[H : 2 * H], d_terms[2 * H : 3 * H], d_terms[3 * H :]
    s_r, s_z, s_n = d_sums[:H], d_sums[H : 2 * H], d_sums[2 * H :]
    for j in range(H):
        d_h = d_last[j] + dh[j]
        d_n[j] = d_h * (one - z[j]) * (one - n[j] * n[j])
        d_z[j] = d_h * (k * before[j] - n[j]) * z[j] * (one - z[j])
        d_r[j] = d_n[j] * from_h[j] * r[j] * (one - r[j])
        d_bias[j] = d_n[j] * r[j]
        s_r[j], s_z[j], s_n[j] = d_r[j], d_z[j], d_bias[j]
        d_last[j] = d_h * z[j] * k
