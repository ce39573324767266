"""`rtu` in one pass over the steps of each row."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import inlined, keep_mask, kernel, over_rows


def forward(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    B, T, H = u.shape
    c, sums = u.new_empty(B, T, 2, H), u.new_empty(B, 4, H)
    inputs = [a.contiguous() for a in (u, decay, weight, c0)]
    over_rows(_forward, B, *inputs, keep_mask(resets, u, T), c, sums)
    return c, sums


def backward(
    dc: Tensor, u: Tensor, c: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, _ = u.shape
    du, dc0, d_decay, d_weight = torch.empty_like(u), *(torch.zeros_like(c0).contiguous() for _ in range(3))
    inputs = [a.contiguous() for a in (dc, u, c, decay, weight, c0)]
    over_rows(_backward, B, *inputs, keep_mask(resets, u, T), du, dc0, d_decay, d_weight)
    return du, dc0, d_decay, d_weight


def carry_traces(
    traces: Tensor, sums: Tensor, by_state: Tensor, by_input: Tensor, past: Tensor, alive: Tensor
) -> Tensor:
    after = torch.empty_like(traces)
    inputs = [a.contiguous() for a in (traces, sums, by_state, by_input, past, alive)]
    over_rows(_carry_traces, len(traces), *inputs, after)
    return after


@kernel
def _forward(u, decay, weight, c0, keep, c, sums, first, end):
    T, H = u.shape[1:]
    a, b = decay[0], decay[1]
    for row in range(first, end):
        before = c0[row]
        total = sums[row]
        for h in range(H):
            total[0, h] = total[1, h] = total[2, h] = total[3, h] = 0
        for t in range(T):
            k = keep[row, t]
            now, x = c[row, t], u[row, t]
            for h in range(H):
                re, im = k * before[0, h], k * before[1, h]
                s, r = k * total[0, h], k * total[1, h]
                total[0, h] = a[h] * s - b[h] * r + re
                total[1, h] = a[h] * r + b[h] * s + im
                s, r = k * total[2, h], k * total[3, h]
                total[2, h] = a[h] * s - b[h] * r + x[h]
                total[3, h] = a[h] * r + b[h] * s
                now[0, h] = a[h] * re - b[h] * im + weight[0, h] * x[h]
                now[1, h] = a[h] * im + b[h] * re + weight[1, h] * x[h]
            before = now


@kernel
def _backward(dc, u, c, decay, weight, c0, keep, du, dc0, d_decay, d_weight, first, end):
    T, H = u.shape[1:]
    a, b = decay[0], decay[1]
    for row in range(first, end):
        adjoint = dc0[row]  # the gradient of c_{t-1} through c_t
        for t in range(T - 1, -1, -1):
            k = keep[row, t]
            before = c[row, t - 1] if t else c0[row]
            for h in range(H):
                re, im = adjoint[0, h] + dc[row, t, 0, h], adjoint[1, h] + dc[row, t, 1, h]
                x = u[row, t, h]
                du[row, t, h] = weight[0, h] * re + weight[1, h] * im
                d_weight[row, 0, h] += x * re
                d_weight[row, 1, h] += x * im
                was_re, was_im = k * before[0, h], k * before[1, h]
                d_decay[row, 0, h] += re * was_re + im * was_im
                d_decay[row, 1, h] += im * was_re - re * was_im
                adjoint[0, h] = k * (a[h] * re + b[h] * im)
                adjoint[1, h] = k * (a[h] * im - b[h] * re)


@kernel
def _carry_traces(traces, sums, by_state, by_input, past, alive, after, first, end):
    for row in range(first, end):
        state, taken = sums[row, :2], sums[row, 2:]
        for p in range(traces.shape[1]):
            _carry(alive[row], past, by_state[p], by_input[p], state, taken, traces[row, p], after[row, p])


@inlined
def _carry(alive, past, by_state, by_input, state, taken, E, new):
    """alive past E + by_state state + by_input taken, all complex."""
    for h in range(E.shape[1]):
        a, b = alive * past[0, h], alive * past[1, h]
        c, d, e, f = by_state[0, h], by_state[1, h], by_input[0, h], by_input[1, h]
        re = a * E[0, h] - b * E[1, h] + c * state[0, h] - d * state[1, h]
        im = a * E[1, h] + b * E[0, h] + c * state[1, h] + d * state[0, h]
        new[0, h] = re + e * taken[0, h] - f * taken[1, h]
        new[1, h] = im + e * taken[1, h] + f * taken[0, h]
