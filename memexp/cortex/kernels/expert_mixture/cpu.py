"""`mix_experts` and its gradients, row by row. Sizes: n rows, E experts, H features."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import clear, constants, copy, dot, inlined, kernel, over_rows
from memexp.cortex.kernels.vector_math import softmax_in_place

ROWS_AT_ONCE = 64
"""Rows that one thread takes in turn; it adds up their gradients of parameters."""


def mix(
    x: Tensor, u: Tensor, ys: Tensor, query: Tensor, q_bias: Tensor, gate_w: Tensor, gate_b: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two results `[n, H]`, and for the backward pass alpha `[n, E]` and the attention `[n, e, f]`."""
    (n, H), E = u.shape, len(ys)
    total, mixed, D = torch.empty_like(u), torch.empty_like(u), u.new_empty(n, E, H)
    alpha, attention = u.new_empty(n, E), u.new_empty(n, E, E)
    inputs = [a.contiguous() for a in (x, u, ys, query, q_bias, gate_w, gate_b)]
    over_rows(_mix, n, *inputs, constants(u.dtype, scale), D, total, mixed, alpha, attention)
    return total, mixed, alpha, attention


def mix_backward(
    d_total: Tensor, d_mixed: Tensor, u: Tensor, ys: Tensor, query: Tensor, q_bias: Tensor, gate_w: Tensor,
    alpha: Tensor, attention: Tensor, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients of u, ys, query, q_bias, gate_w and gate_b."""
    (n, H), E = u.shape, len(ys)
    parts = -(-n // ROWS_AT_ONCE)
    du, d_ys, d_query = torch.empty_like(u), u.new_empty(ys.shape), torch.empty_like(u)
    d_q_bias, d_gate_w, d_gate_b = (u.new_zeros(parts, *size) for size in ((E, H), (E, H), (E,)))
    work = u.new_empty(parts, E, H), u.new_empty(parts, 4, E), u.new_empty(parts, E, E)
    inputs = [a.contiguous() for a in (d_total, d_mixed, u, ys, query, q_bias, gate_w, alpha, attention)]
    over_rows(
        _mix_back, parts, *inputs, constants(u.dtype, scale), *work, du, d_ys, d_query, d_q_bias, d_gate_w, d_gate_b
    )
    return du, d_ys, d_query, d_q_bias.sum(0), d_gate_w.sum(0), d_gate_b.sum(0)


@kernel
def _mix(x, u, ys, query, q_bias, gate_w, gate_b, scale, work, total, mixed, alpha, attention, first, end):
    E, D = len(ys), work[first]
    for row in range(first, end):
        for e in range(E):
            _subtract(ys[e, row], u[row], D[e])
            alpha[row, e] = gate_b[e] + dot(u[row], gate_w[e])
        softmax_in_place(alpha[row])
        for f in range(E):
            shared = dot(query[row], D[f])
            for e in range(E):
                attention[row, e, f] = scale[0] * (shared + dot(q_bias[e], D[f]))
        for e in range(E):
            softmax_in_place(attention[row, e])
        _subtract(u[row], x[row], total[row])
        clear(mixed[row])
        for f in range(E):
            weight = _weight(alpha[row], attention[row], f)
            _add_both(alpha[row, f], weight, D[f], total[row], mixed[row])


@kernel
def _mix_back(
    d_total, d_mixed, u, ys, query, q_bias, gate_w, alpha, attention, scale, Ds, small, d_scores,
    du, d_ys, d_query, d_q_bias, d_gate_w, d_gate_b, first, end,
):  # fmt: skip
    E, n = len(ys), len(u)
    D, d_score = Ds[first], d_scores[first]
    d_alpha, d_weight, d_logit, d_shared = small[first, 0], small[first, 1], small[first, 2], small[first, 3]
    for part in range(first, end):
        for row in range(part * ROWS_AT_ONCE, min((part + 1) * ROWS_AT_ONCE, n)):
            for e in range(E):
                _subtract(ys[e, row], u[row], D[e])
                d_alpha[e], d_weight[e] = dot(d_total[row], D[e]), dot(d_mixed[row], D[e])
            _scores_back(scale[0], alpha[row], attention[row], d_weight, d_alpha, d_shared, d_score)
            _softmax_back(alpha[row], d_alpha, d_logit)
            copy(d_total[row], du[row])
            clear(d_query[row])
            for f in range(E):
                weight, grad = _weight(alpha[row], attention[row], f), d_ys[f, row]
                _combine(alpha[row, f], d_total[row], weight, d_mixed[row], d_shared[f], query[row], grad)
                for e in range(E):
                    _add_both_ways(d_score[e, f], q_bias[e], grad, D[f], d_q_bias[part, e])
                _pass_on(d_shared[f], D[f], grad, d_query[row], du[row])
            for e in range(E):
                _add_both_ways(d_logit[e], gate_w[e], du[row], u[row], d_gate_w[part, e])
                d_gate_b[part, e] += d_logit[e]


@inlined
def _weight(alpha, attention, f):
    """The weight of D_f in the second result."""
    total = alpha.dtype.type(0.0)
    for e in range(len(alpha)):
        total += alpha[e] * attention[e, f]
    return total


@inlined
def _scores_back(scale, alpha, attention, d_weight, d_alpha, d_shared, d_score):
    """Gradients of the scores and of their shared part; adds to the gradient of alpha."""
    zero = alpha.dtype.type(0.0)
    for f in range(len(alpha)):
        d_shared[f] = zero
    for e in range(len(alpha)):
        flow = zero
        for f in range(len(alpha)):
            flow += attention[e, f] * d_weight[f]
        d_alpha[e] += flow
        for f in range(len(alpha)):
            d_score[e, f] = scale * alpha[e] * attention[e, f] * (d_weight[f] - flow)
            d_shared[f] += d_score[e, f]


@inlined
def _softmax_back(weights, d_weights, d_logits):
    flow = weights.dtype.type(0.0)
    for e in range(len(weights)):
        flow += weights[e] * d_weights[e]
    for e in range(len(weights)):
        d_logits[e] = weights[e] * (d_weights[e] - flow)


@inlined
def _subtract(a, b, c):
    for j in range(len(a)):
        c[j] = a[j] - b[j]


@inlined
def _combine(a, x, b, y, c, z, out):
    for j in range(len(x)):
        out[j] = a * x[j] + b * y[j] + c * z[j]


@inlined
def _add_both(a, b, x, y, z):
    """y += a x, z += b x"""
    for j in range(len(x)):
        y[j] += a * x[j]
        z[j] += b * x[j]


@inlined
def _add_both_ways(a, x, dx, y, dy):
    """dx += a x and dy += a y, the gradients of a product's factors."""
    for j in range(len(x)):
        dx[j] += a * x[j]
        dy[j] += a * y[j]


@inlined
def _pass_on(d_shared, D, grad, d_query, du):
    for j in range(len(D)):
        d_query[j] += d_shared * D[j]
        du[j] -= grad[j]
