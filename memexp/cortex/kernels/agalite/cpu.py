"""`agalite` in one pass over the steps of each row and head, whose state stays in the cache."""

import numpy as np
import torch
from torch import Tensor

from memexp.cortex.kernels.agalite import number_of_states
from memexp.cortex.kernels.agalite.plain import CHUNK, COPIES, EPS
from memexp.cortex.kernels.cpu import inlined, keep_mask, kernel, over_rows


def forward(
    k: Tensor, q: Tensor, v: Tensor, beta: Tensor, gamma: Tensor, p: Tensor,
    K0: Tensor, V0: Tensor, s0: Tensor, resets: Tensor | None, saving: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    B, T = k.shape[:2]
    y, keep = torch.empty_like(v), keep_mask(resets, v, T)
    K, V, s = (a.new_empty(B, number_of_states(T, saving), *a.shape[1:]) for a in (K0, V0, s0))
    over_rows(_forward, B, k, q, v, beta, gamma, p, K0, V0, s0, keep, _constants(v), y, K, V, s)
    return y, K, V, s


def backward(
    dy: Tensor, k: Tensor, q: Tensor, v: Tensor, beta: Tensor, gamma: Tensor, p: Tensor,
    K: Tensor, V: Tensor, s: Tensor, resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    dk, dq, dv, d_beta, d_gamma, dp = (torch.empty_like(a) for a in (k, q, v, beta, gamma, p))
    keep = keep_mask(resets, v, v.shape[1])
    inputs, outputs = (dy, k, q, v, beta, gamma, p, K, V, s, keep, _constants(v)), (dk, dq, dv, d_beta, d_gamma, dp)
    over_rows(_backward, len(v), *inputs, *outputs)
    return dk, dq, dv, d_beta, d_gamma, dp


def _constants(like: Tensor) -> Tensor:
    return like.new_tensor([COPIES, 2 * COPIES, EPS])


@kernel
def _forward(k, q, v, beta, gamma, p, K0, V0, s0, keep, constants, y, K, V, s, first, end):
    T, N, d = k.shape[1:]
    last = K.shape[1] - 1
    for row in range(first, end):
        for head in range(N):
            Kt, Vt, st = K[row, last, head], V[row, last, head], s[row, last, head]
            Kt[:], Vt[:], st[:] = K0[row, head], V0[row, head], s0[row, head]
            for t in range(T):
                if last and t % CHUNK == 0:
                    chunk = t // CHUNK
                    K[row, chunk, head], V[row, chunk, head], s[row, chunk, head] = Kt, Vt, st
                alive, now = keep[row, t], p[row, t, head]
                match, total = _read(alive, k[row, t, head], q[row, t, head], gamma[row, t, head], now, Kt, st, Kt, st)
                strength = constants[0] * match / (constants[1] * total + constants[2])
                _values(alive, v[row, t, head], beta[row, t, head], Vt, Vt)
                out = y[row, t, head]
                for i in range(d):
                    out[i] = Vt[i] * strength


@inlined
def _read(alive, k, q, gamma, p, K, s, K_now, s_now):
    """K and s after the step (which may take the places of those before), K . phi_q and s . phi_q."""
    real = k.dtype.type
    one, match, total = real(1.0), real(0.0), real(0.0)
    for e in range(p.shape[1]):
        a, b, c = p[0, e], p[1, e], p[2, e]
        for i in range(len(k)):
            gate = gamma[i] * c
            source, left = gate * k[i] * a, alive * (one - gate)
            K_new, s_new = source - left * K[e, i], source + left * s[e, i]
            K_now[e, i], s_now[e, i] = K_new, s_new
            phi_q = q[i] * b
            match += K_new * phi_q
            total += s_new * phi_q
    return match, total


@inlined
def _values(alive, v, beta, V, V_now):
    one = v.dtype.type(1.0)
    for i in range(len(v)):
        V_now[i] = beta[i] * v[i] - alive * (one - beta[i]) * V[i]


@kernel
def _backward(
    dy, k, q, v, beta, gamma, p, K, V, s, keep, constants, dk, dq, dv, d_beta, d_gamma, dp, first, end
):  # fmt: skip
    """Chunk by chunk from the last: the states of its steps again, then their gradients."""
    T, N, d = k.shape[1:]
    E = p.shape[4]
    Ks, ss = np.empty((CHUNK + 1, E, d), k.dtype), np.empty((CHUNK + 1, E, d), k.dtype)
    Vs, matches, totals = np.empty((CHUNK + 1, d), k.dtype), np.empty(CHUNK, k.dtype), np.empty(CHUNK, k.dtype)
    dK, ds, dV = np.empty((E, d), k.dtype), np.empty((E, d), k.dtype), np.empty(d, k.dtype)
    for row in range(first, end):
        for head in range(N):
            dK[:], ds[:], dV[:] = 0, 0, 0
            for start in range((T - 1) // CHUNK * CHUNK, -1, -CHUNK):
                stop, chunk = min(start + CHUNK, T), start // CHUNK
                Ks[0], Vs[0], ss[0] = K[row, chunk, head], V[row, chunk, head], s[row, chunk, head]
                for t in range(start, stop):
                    at, alive = t - start, keep[row, t]
                    matches[at], totals[at] = _read(
                        alive, k[row, t, head], q[row, t, head], gamma[row, t, head], p[row, t, head],
                        Ks[at], ss[at], Ks[at + 1], ss[at + 1],
                    )  # fmt: skip
                    _values(alive, v[row, t, head], beta[row, t, head], Vs[at], Vs[at + 1])
                for t in range(stop - 1, start - 1, -1):
                    at, alive = t - start, keep[row, t]
                    scale = constants[1] * totals[at] + constants[2]
                    strength = constants[0] * matches[at] / scale
                    d_strength = _values_back(
                        alive, strength, dy[row, t, head], v[row, t, head], beta[row, t, head],
                        Vs[at], Vs[at + 1], dV, dv[row, t, head], d_beta[row, t, head],
                    ) / scale  # fmt: skip
                    _read_back(
                        alive, constants[0] * d_strength, -constants[1] * strength * d_strength,
                        k[row, t, head], q[row, t, head], gamma[row, t, head], p[row, t, head],
                        Ks[at], ss[at], Ks[at + 1], ss[at + 1], dK, ds,
                        dk[row, t, head], dq[row, t, head], d_gamma[row, t, head], dp[row, t, head],
                    )  # fmt: skip


@inlined
def _values_back(alive, strength, dy, v, beta, V, V_now, dV, dv, d_beta):
    """Gradients of v, beta and, in its place, V before the step; returns that of the strength."""
    real = v.dtype.type
    one, d_strength = real(1.0), real(0.0)
    for i in range(len(v)):
        d_strength += dy[i] * V_now[i]
        adjoint = dV[i] + dy[i] * strength
        dv[i] = adjoint * beta[i]
        d_beta[i] = adjoint * (v[i] + alive * V[i])
        dV[i] = -alive * (one - beta[i]) * adjoint
    return d_strength


@inlined
def _read_back(alive, d_match, d_total, k, q, gamma, p, K, s, K_now, s_now, dK, ds, dk, dq, d_gamma, dp):
    """Gradients of k, q, gamma, p and, in their places, of K and s before the step."""
    real = k.dtype.type
    zero, one = real(0.0), real(1.0)
    for i in range(len(k)):
        dk[i], dq[i], d_gamma[i] = zero, zero, zero
    for e in range(p.shape[1]):
        a, b, c = p[0, e], p[1, e], p[2, e]
        d_a, d_b, d_c = zero, zero, zero
        for i in range(len(k)):
            gate, phi_k, phi_q = gamma[i] * c, k[i] * a, q[i] * b
            left = alive * (one - gate)
            of_K, of_s = dK[e, i] + d_match * phi_q, ds[e, i] + d_total * phi_q
            d_phi_q = d_match * K_now[e, i] + d_total * s_now[e, i]
            both = of_K + of_s
            d_phi_k, d_gate = both * gate, both * phi_k + alive * (of_K * K[e, i] - of_s * s[e, i])
            dK[e, i], ds[e, i] = -left * of_K, left * of_s
            dk[i] += d_phi_k * a
            dq[i] += d_phi_q * b
            d_gamma[i] += d_gate * c
            d_a += d_phi_k * k[i]
            d_b += d_phi_q * q[i]
            d_c += d_gate * gamma[i]
        dp[0, e], dp[1, e], dp[2, e] = d_a, d_b, d_c
