"""The pointwise passes of the gate in Numba, each once over its data. `torch_backend.py` documents them."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import inlined, kernel, over_rows
from memexp.cortex.kernels.vector_math import sigmoid


def gates(x: Tensor, of_y: Tensor, bias: Tensor, gates: Tensor) -> Tensor:
    reset = torch.empty_like(x)
    over_rows(_gates, len(x), x, of_y, bias.detach(), gates, reset)
    return reset


def mix(x: Tensor, of_y: Tensor, gates: Tensor, h: Tensor) -> Tensor:
    out = torch.empty_like(x)
    over_rows(_mix, len(x), x, of_y, gates, h, out)
    return out


def candidate_backward(d_out: Tensor, gates: Tensor, h: Tensor) -> Tensor:
    dh = torch.empty_like(h)
    over_rows(_candidate_back, len(h), d_out, gates, h, dh)
    return dh


def gates_backward(
    d_out: Tensor, x: Tensor, gates: Tensor, h: Tensor, dh: Tensor, d_reset: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, width = x.shape
    d_terms, d_gates, dx = x.new_empty(n, 3 * width), torch.empty_like(gates), torch.empty_like(x)
    over_rows(_gates_back, n, d_out, x, gates, h, dh, d_reset, d_terms, d_gates, dx)
    return d_terms, d_gates, dx, -d_gates[:, width:].sum(0)


@kernel
def _gates(x, of_y, bias, gates, reset, first, end):
    W = x.shape[1]
    for row in range(first, end):
        now, terms = gates[row], of_y[row]
        _open(now[:W], terms[:W], x[row], reset[row])
        _close(now[W:], terms[W : 2 * W], bias)


@inlined
def _open(r, terms, x, reset):
    for j in range(len(x)):
        r[j] = sigmoid(r[j] + terms[j])
        reset[j] = r[j] * x[j]


@inlined
def _close(z, terms, bias):
    for j in range(len(z)):
        z[j] = sigmoid(z[j] + terms[j] - bias[j])


@kernel
def _mix(x, of_y, gates, h, out, first, end):
    W = x.shape[1]
    for row in range(first, end):
        _mix_row(x[row], of_y[row, 2 * W :], gates[row, W:], h[row], out[row])


@inlined
def _mix_row(x, terms, z, h, out):
    one, two = x.dtype.type(1.0), x.dtype.type(2.0)
    for j in range(len(x)):
        h[j] = two * sigmoid(two * (h[j] + terms[j])) - one  # tanh
        out[j] = x[j] + z[j] * (h[j] - x[j])


@kernel
def _candidate_back(d_out, gates, h, dh, first, end):
    W = h.shape[1]
    for row in range(first, end):
        _candidate_row_back(d_out[row], gates[row, W:], h[row], dh[row])


@inlined
def _candidate_row_back(d_out, z, h, dh):
    one = h.dtype.type(1.0)
    for j in range(len(h)):
        dh[j] = d_out[j] * z[j] * (one - h[j] * h[j])


@kernel
def _gates_back(d_out, x, gates, h, dh, d_reset, d_terms, d_gates, dx, first, end):
    W = x.shape[1]
    for row in range(first, end):
        now, d_now, terms = gates[row], d_gates[row], d_terms[row]
        _gates_row_back(d_out[row], x[row], now[:W], now[W:], h[row], d_reset[row], d_now[:W], d_now[W:], dx[row])
        for j in range(2 * W):
            terms[j] = d_now[j]
        for j in range(W):
            terms[2 * W + j] = dh[row, j]


@inlined
def _gates_row_back(d_out, x, r, z, h, d_reset, dr, dz, dx):
    one = x.dtype.type(1.0)
    for j in range(len(x)):
        dr[j] = d_reset[j] * x[j] * r[j] * (one - r[j])
        dz[j] = d_out[j] * (h[j] - x[j]) * z[j] * (one - z[j])
        dx[j] = d_out[j] * (one - z[j]) + d_reset[j] * r[j]
