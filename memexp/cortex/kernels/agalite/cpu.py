"""`agalite` in one pass over the steps of each row and head, whose state stays in the cache."""

import numpy as np
import torch
from torch import Tensor

from memexp.cortex.kernels.agalite import number_of_states
from memexp.cortex.kernels.agalite.plain import CHUNK, COPIES, EPS
from memexp.cortex.kernels.cpu import inlined, keep_mask, kernel, over_rows
from memexp.cortex.kernels.elementary import sigmoid


def forward(
    projected: Tensor, factors: Tensor, K0: Tensor, V0: Tensor, s0: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, N, _, d = projected.shape
    y = projected.new_empty(B, T, N, d)
    K, V, s = (a.new_empty(B, number_of_states(T, saving), *a.shape[1:]) for a in (K0, V0, s0))
    keep = keep_mask(resets, y, T)
    over_rows(_forward, B, projected, factors, K0, V0, s0, keep, _constants(y), y, K, V, s)
    return y, K, V, s


def backward(
    dy: Tensor, projected: Tensor, factors: Tensor, K: Tensor, V: Tensor, s: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    d_projected, d_factors = torch.empty_like(projected), torch.empty_like(factors)
    keep = keep_mask(resets, dy, dy.shape[1])
    inputs = (dy, projected, factors, K, V, s, keep, _constants(dy))
    over_rows(_backward, len(dy), *inputs, d_projected, d_factors)
    return d_projected, d_factors


def _constants(like: Tensor) -> Tensor:
    return like.new_tensor([COPIES, 2 * COPIES, EPS])


@kernel
def _forward(projected, factors, K0, V0, s0, keep, constants, y, K, V, s, first, end):
    T, N, _, d = projected.shape[1:]
    last = K.shape[1] - 1
    x, p = np.empty((5, d), y.dtype), np.empty((3, factors.shape[4]), y.dtype)
    for row in range(first, end):
        for head in range(N):
            Kt, Vt, st = K[row, last, head], V[row, last, head], s[row, last, head]
            Kt[:], Vt[:], st[:] = K0[row, head], V0[row, head], s0[row, head]
            for t in range(T):
                if last and t % CHUNK == 0:
                    chunk = t // CHUNK
                    K[row, chunk, head], V[row, chunk, head], s[row, chunk, head] = Kt, Vt, st
                alive = keep[row, t]
                _squash(projected[row, t, head], factors[row, t, head], x, p)
                match, total = _read(alive, x[0], x[1], x[4], p, Kt, st, Kt, st)
                strength = constants[0] * match / (constants[1] * total + constants[2])
                _values(alive, x[2], x[3], Vt, Vt)
                out = y[row, t, head]
                for i in range(d):
                    out[i] = Vt[i] * strength


@inlined
def _squash(projected, factors, x, p):
    """The nonlinearities: relu of k, q, p1, p2, sigmoid of beta, gamma, p3."""
    zero = x.dtype.type(0.0)
    for i in range(x.shape[1]):
        x[0, i], x[1, i], x[2, i] = max(projected[0, i], zero), max(projected[1, i], zero), projected[2, i]
        x[3, i], x[4, i] = sigmoid(projected[3, i]), sigmoid(projected[4, i])
    for e in range(p.shape[1]):
        p[0, e], p[1, e], p[2, e] = max(factors[0, e], zero), max(factors[1, e], zero), sigmoid(factors[2, e])


@inlined
def _squash_back(x, p, dx, dp):
    """From gradients behind the nonlinearities to those before them."""
    zero, one = x.dtype.type(0.0), x.dtype.type(1.0)
    for i in range(x.shape[1]):
        dx[0, i] = dx[0, i] if x[0, i] > zero else zero
        dx[1, i] = dx[1, i] if x[1, i] > zero else zero
        dx[3, i] *= x[3, i] * (one - x[3, i])
        dx[4, i] *= x[4, i] * (one - x[4, i])
    for e in range(p.shape[1]):
        dp[0, e] = dp[0, e] if p[0, e] > zero else zero
        dp[1, e] = dp[1, e] if p[1, e] > zero else zero
        dp[2, e] *= p[2, e] * (one - p[2, e])


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
def _backward(dy, projected, factors, K, V, s, keep, constants, d_projected, d_factors, first, end):
    """Chunk by chunk from the last: the states of its steps again, then their gradients."""
    T, N, _, d = projected.shape[1:]
    E, real = factors.shape[4], dy.dtype
    x, p = np.empty((CHUNK, 5, d), real), np.empty((CHUNK, 3, E), real)
    Ks, ss, Vs = np.empty((CHUNK + 1, E, d), real), np.empty((CHUNK + 1, E, d), real), np.empty((CHUNK + 1, d), real)
    matches, totals = np.empty(CHUNK, real), np.empty(CHUNK, real)
    dK, ds, dV = np.empty((E, d), real), np.empty((E, d), real), np.empty(d, real)
    for row in range(first, end):
        for head in range(N):
            dK[:], ds[:], dV[:] = 0, 0, 0
            for start in range((T - 1) // CHUNK * CHUNK, -1, -CHUNK):
                steps, chunk = min(CHUNK, T - start), start // CHUNK
                Ks[0], Vs[0], ss[0] = K[row, chunk, head], V[row, chunk, head], s[row, chunk, head]
                for at in range(steps):
                    now, alive, after = x[at], keep[row, start + at], at + 1
                    _squash(projected[row, start + at, head], factors[row, start + at, head], now, p[at])
                    matches[at], totals[at] = _read(
                        alive, now[0], now[1], now[4], p[at], Ks[at], ss[at], Ks[after], ss[after]
                    )
                    _values(alive, now[2], now[3], Vs[at], Vs[after])
                for at in range(steps - 1, -1, -1):
                    now, alive, after = x[at], keep[row, start + at], at + 1
                    dx, dp = d_projected[row, start + at, head], d_factors[row, start + at, head]
                    scale = constants[1] * totals[at] + constants[2]
                    strength = constants[0] * matches[at] / scale
                    d_strength = _values_back(
                        alive, strength, dy[row, start + at, head], now[2], now[3], Vs[at], Vs[after], dV, dx[2], dx[3]
                    ) / scale  # fmt: skip
                    d_match, d_total = constants[0] * d_strength, -constants[1] * strength * d_strength
                    _read_back(
                        alive, d_match, d_total, now[0], now[1], now[4], p[at], Ks[at], ss[at], Ks[after], ss[after],
                        dK, ds, dx[0], dx[1], dx[4], dp,
                    )  # fmt: skip
                    _squash_back(now, p[at], dx, dp)


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
