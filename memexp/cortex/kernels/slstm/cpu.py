"""`slstm` in one pass over the steps of a few rows of one head; their state and matrices stay in the cache."""

import numpy as np
import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import (
    add_transposed_product,
    constants,
    copy,
    copy_if,
    inlined,
    keep_mask,
    kernel,
    over_rows,
    quarters,
)
from memexp.cortex.kernels.matmul import ROWS, multiply_add
from memexp.cortex.kernels.slstm.plain import EPS
from memexp.cortex.kernels.vector_math import exp, log1p, sigmoid


def forward(
    terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, N, _, d = terms.shape
    groups = -(-B // ROWS)
    y, after = terms.new_empty(B, T, N, d), torch.empty_like(state)
    saved = terms.new_empty(B, T, N, 7, d) if saving else terms.new_empty(groups, 1, 1, 7, d)
    work = terms.new_empty(groups, ROWS, d), terms.new_empty(groups, ROWS, 4 * d)
    keep, eps = keep_mask(resets, terms, T), constants(terms.dtype, EPS)
    over_rows(_forward, groups, terms.flatten(3), _by_source(recurrent), state, keep, eps, *work, y, after, saved)
    return y, after, saved if saving else terms.new_empty(B, 0, N, 7, d)


def backward(
    dy: Tensor, d_after: Tensor, terms: Tensor, recurrent: Tensor, state: Tensor, y: Tensor, saved: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    B, T, N, _, d = terms.shape
    keep, d_terms, d_state = keep_mask(resets, terms, T), torch.empty_like(terms), d_after.clone()
    eps, d_flat = constants(terms.dtype, EPS), d_terms.flatten(3)
    over_rows(_backward, B, dy, _by_source(recurrent), state, y, saved, keep, eps, d_flat, d_state)
    before = torch.cat([state[:, :1], y[:, :-1]], dim=1) * keep[..., None, None]  # [B, T, N, d]
    by_head = d_terms.view(B * T, N, 4 * d).permute(1, 2, 0)
    d_recurrent = torch.bmm(by_head, before.view(B * T, N, d).transpose(0, 1)).view_as(recurrent)
    return d_terms, d_recurrent, d_state


def _by_source(recurrent: Tensor) -> Tensor:
    """`[N, 4, to, from]` as `[N, from, 4 * to]`, so that inner loops are long."""
    return recurrent.flatten(1, 2).transpose(1, 2).contiguous()


@kernel
def _forward(terms, from_y, state, keep, eps, lasts, sums, y, after, saved, first, end):
    B, T, N, _ = y.shape
    last, total, saving = lasts[first], sums[first], saved.size == 7 * y.size
    for group in range(first, end):
        start, count = group * ROWS, min(ROWS, B - group * ROWS)
        for head in range(N):
            for i in range(count):
                for part in range(4):
                    copy(state[start + i, part, head], after[start + i, part, head])
            for t in range(T):
                for i in range(count):
                    copy(terms[start + i, t, head], total[i])
                    copy_if(keep[start + i, t], after[start + i, 0, head], last[i])
                multiply_add(last, from_y[head], total)
                for i in range(count):
                    row = start + i
                    k, c, n, m = keep[row, t], after[row, 1, head], after[row, 2, head], after[row, 3, head]
                    i_, f, z, o, open_f, c_now, n_now = _rows(saved[row, t, head] if saving else saved[first, 0, 0])
                    to_i, to_f, to_z, to_o = quarters(total[i])
                    _gates(k, to_i, to_f, to_z, to_o, n, m, i_, f, z, o, open_f)
                    _advance(k, eps[0], i_, f, z, o, c, n, after[row, 0, head], c_now, n_now, y[row, t, head])


@inlined
def _rows(saved):
    return saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6]


@inlined
def _gates(k, to_i, to_f, to_z, to_o, n, m, i, f, z, o, open_f):
    """From the gates' inputs: i', f', tanh z, sigmoid o, sigmoid -f, and the new stabiliser m in place."""
    real = to_i.dtype.type
    zero, one, two = real(0.0), real(1.0), real(2.0)
    for j in range(len(m)):
        e = exp(-abs(to_f[j]))
        share = one / (one + e)
        carried = k * m[j] + min(to_f[j], zero) - log1p(e)
        carried = carried if k * n[j] != zero else real(-np.inf)
        gap = to_i[j] - carried
        less = exp(-abs(gap))
        i[j] = one if gap >= zero else less
        f[j] = less if gap >= zero else one
        z[j] = two * sigmoid(two * to_z[j]) - one
        o[j] = sigmoid(to_o[j])
        open_f[j] = e * share if to_f[j] >= zero else share
        m[j] = max(to_i[j], carried)


@inlined
def _advance(k, eps, i, f, z, o, c, n, last, c_now, n_now, y):
    """Update c and n in place, and compute the output."""
    for j in range(len(c)):
        c[j] = f[j] * (k * c[j]) + i[j] * z[j]
        n[j] = f[j] * (k * n[j]) + i[j]
        c_now[j], n_now[j] = c[j], n[j]
        last[j] = o[j] * c[j] / (n[j] + eps)
        y[j] = last[j]


@kernel
def _backward(dy, from_y, state, y, saved, keep, eps, d_terms, d_state, first, end):
    """d_state holds the gradients of y, c, n and the excess of m's gradient."""
    T, N, d = y.shape[1:]
    for row in range(first, end):
        for head in range(N):
            d_last, dc, dn = d_state[row, 0, head], d_state[row, 1, head], d_state[row, 2, head]
            excess = d_state[row, 3, head]
            for j in range(d):
                excess[j] -= dc[j] * saved[row, T - 1, head, 5, j] + dn[j] * saved[row, T - 1, head, 6, j]
            for t in range(T - 1, -1, -1):
                k, now = keep[row, t], d_terms[row, t, head]
                c = saved[row, t - 1, head, 5] if t else state[row, 1, head]
                n = saved[row, t - 1, head, 6] if t else state[row, 2, head]
                i, f, z, o, open_f, _, n_now = _rows(saved[row, t, head])
                d_i, d_f, d_z, d_o = quarters(now)
                _output_back(eps[0], dy[row, t, head], y[row, t, head], o, n_now, d_last, dc, dn, excess, d_o)
                _gates_back(k, i, f, z, open_f, c, n, dc, dn, excess, d_i, d_f, d_z)
                if k != 0:
                    add_transposed_product(now, from_y[head], d_last)
            for j in range(d):
                excess[j] += dc[j] * state[row, 1, head, j] + dn[j] * state[row, 2, head, j]


@inlined
def _output_back(eps, dy, y, o, n_now, d_last, dc, dn, excess, d_o):
    """From y to c', n', the excess and the output gate; afterwards d_last is zero."""
    real = y.dtype.type
    one = real(1.0)
    for j in range(len(y)):
        g = d_last[j] + dy[j]
        inverse = one / (n_now[j] + eps)
        by_n = g * y[j] * inverse
        dc[j] += g * o[j] * inverse
        dn[j] -= by_n
        excess[j] -= by_n * eps
        d_o[j] = g * y[j] * (one - o[j])
        d_last[j] = real(0.0)


@inlined
def _gates_back(k, i, f, z, open_f, c, n, dc, dn, excess, d_i, d_f, d_z):
    """From c', n' and the excess to the other gates, and to c, n and the excess of the step before."""
    real = f.dtype.type
    zero, one = real(0.0), real(1.0)
    for j in range(len(f)):
        kept = k * f[j]
        early = excess[j] if i[j] == one else zero
        late = excess[j] - early
        d_i[j] = dc[j] * i[j] * z[j] + dn[j] * i[j] + early
        d_f[j] = ((dc[j] * c[j] + dn[j] * n[j]) * kept + late) * open_f[j]
        d_z[j] = dc[j] * i[j] * (one - z[j] * z[j])
        dc[j] *= kept
        dn[j] *= kept
        excess[j] = late
