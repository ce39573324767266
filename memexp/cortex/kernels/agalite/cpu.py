"""`agalite` in one pass over the steps of each row and head, whose state stays in the cache.

States are flat here, with F = E d entries, so that the expensive loops are long.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.agalite import number_of_states
from memexp.cortex.kernels.agalite.plain import CHUNK, COPIES, EPS
from memexp.cortex.kernels.cpu import clear, constants, copy, inlined, keep_mask, kernel, over_rows
from memexp.cortex.kernels.vector_math import sigmoid


def forward(
    projected: Tensor, factors: Tensor, K0: Tensor, V0: Tensor, s0: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, N, _, d = projected.shape
    E, y = factors.shape[4], projected.new_empty(B, T, N, d)
    K, V, s = (a.new_empty(B, number_of_states(T, saving), *a.shape[1:]) for a in (K0, V0, s0))
    work = [y.new_empty(B, *size) for size in ((5, d), (3, E), (3, E * d), (2, E * d))]
    inputs = (projected, factors, K0.flatten(2), V0, s0.flatten(2), keep_mask(resets, y, T), _constants(y))
    over_rows(_forward, B, *inputs, *work, y, K.flatten(3), V, s.flatten(3))
    return y, K, V, s


def backward(
    dy: Tensor, projected: Tensor, factors: Tensor, K: Tensor, V: Tensor, s: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    (B, T, _, d), E = dy.shape, factors.shape[4]
    F = E * d
    d_projected, d_factors = torch.empty_like(projected), torch.empty_like(factors)
    sizes = [(CHUNK, 5, d), (CHUNK, 3, E), (CHUNK, 3, F), (CHUNK + 1, 2, F), (CHUNK + 1, d), (CHUNK, 2), (5, F), (d,)]
    work = [dy.new_empty(B, *size) for size in sizes]
    inputs = (dy, projected, factors, K.flatten(3), V, s.flatten(3), keep_mask(resets, dy, T), _constants(dy))
    over_rows(_backward, B, *inputs, *work, d_projected, d_factors)
    return d_projected, d_factors


def _constants(like: Tensor) -> Tensor:
    return constants(like.dtype, COPIES, 2 * COPIES, EPS)


@kernel
def _forward(projected, factors, K0, V0, s0, keep, constants, xs, ps, spreads, states, y, K, V, s, first, end):
    """K and s alternate between two places, because the compiler does not vectorise updates in place."""
    T, N, _, d = projected.shape[1:]
    last, x, p, spread, state = K.shape[1] - 1, xs[first], ps[first], spreads[first], states[first]
    for row in range(first, end):
        for head in range(N):
            K_old, Vt, s_old = K0[row, head], V[row, last, head], s0[row, head]
            copy(V0[row, head], Vt)
            for t in range(T):
                if last and t % CHUNK == 0:
                    chunk = t // CHUNK
                    copy(K_old, K[row, chunk, head])
                    copy(Vt, V[row, chunk, head])
                    copy(s_old, s[row, chunk, head])
                alive, at_end = keep[row, t], (T - t) % 2
                K_new, s_new = (K[row, last, head], s[row, last, head]) if at_end else (state[0], state[1])
                _squash(projected[row, t, head], factors[row, t, head], x, p)
                _spread(x[0], x[1], x[4], p, spread[0], spread[1], spread[2])
                match, total = _read(alive, spread[0], spread[1], spread[2], K_old, s_old, K_new, s_new)
                K_old, s_old = K_new, s_new
                _values(alive, x[2], x[3], Vt, Vt)
                strength, out = constants[0] * match / (constants[1] * total + constants[2]), y[row, t, head]
                for i in range(d):
                    out[i] = Vt[i] * strength


@kernel
def _backward(
    dy, projected, factors, K, V, s, keep, constants, xs, ps, spreads, states, values, reads, grads, dVs,
    d_projected, d_factors, first, end,
):  # fmt: skip
    """For each chunk, from the last to the first: recompute the states of its steps, then the gradients."""
    T, N = projected.shape[1:3]
    x, p, spread, state, Vs = xs[first], ps[first], spreads[first], states[first], values[first]
    read, grad, dV = reads[first], grads[first], dVs[first]
    for row in range(first, end):
        for head in range(N):
            clear(grad[3])
            clear(dV)
            clear(grad[4])
            for start in range((T - 1) // CHUNK * CHUNK, -1, -CHUNK):
                steps, chunk = min(CHUNK, T - start), start // CHUNK
                copy(K[row, chunk, head], state[0, 0])
                copy(V[row, chunk, head], Vs[0])
                copy(s[row, chunk, head], state[0, 1])
                for at in range(steps):
                    now, outer, alive, old, new = x[at], spread[at], keep[row, start + at], state[at], state[at + 1]
                    _squash(projected[row, start + at, head], factors[row, start + at, head], now, p[at])
                    _spread(now[0], now[1], now[4], p[at], outer[0], outer[1], outer[2])
                    match, total = _read(alive, outer[0], outer[1], outer[2], old[0], old[1], new[0], new[1])
                    read[at, 0], read[at, 1] = match, constants[1] * total + constants[2]
                    _values(alive, now[2], now[3], Vs[at], Vs[at + 1])
                for at in range(steps - 1, -1, -1):
                    now, outer, alive, old, new = x[at], spread[at], keep[row, start + at], state[at], state[at + 1]
                    dx, dp = d_projected[row, start + at, head], d_factors[row, start + at, head]
                    strength = constants[0] * read[at, 0] / read[at, 1]
                    d_strength = _values_back(
                        alive, strength, dy[row, start + at, head], now[2], now[3], Vs[at], Vs[at + 1], dV, dx[2], dx[3]
                    ) / read[at, 1]  # fmt: skip
                    d_match, d_total = constants[0] * d_strength, -constants[1] * strength * d_strength
                    _read_back(
                        alive, d_match, d_total, outer[0], outer[1], outer[2], old[0], old[1], new[0], new[1],
                        grad[3], grad[4], grad[0], grad[1], grad[2],
                    )  # fmt: skip
                    _spread_back(grad[0], now[4], p[at, 2], dx[4], dp[2])
                    _spread_back(grad[1], now[0], p[at, 0], dx[0], dp[0])
                    _spread_back(grad[2], now[1], p[at, 1], dx[1], dp[1])
                    _squash_back(now, p[at], dx, dp)


@inlined
def _squash(projected, factors, x, p):
    """The nonlinearities: relu of k, q, p1, p2, sigmoid of beta, gamma, p3."""
    _relu(projected[0], x[0])
    _relu(projected[1], x[1])
    for i in range(x.shape[1]):
        x[2, i] = projected[2, i]
    _sigmoid(projected[3], x[3])
    _sigmoid(projected[4], x[4])
    _relu(factors[0], p[0])
    _relu(factors[1], p[1])
    _sigmoid(factors[2], p[2])


@inlined
def _squash_back(x, p, dx, dp):
    """From gradients behind the nonlinearities to those before them."""
    _relu_back(x[0], dx[0])
    _relu_back(x[1], dx[1])
    _sigmoid_back(x[3], dx[3])
    _sigmoid_back(x[4], dx[4])
    _relu_back(p[0], dp[0])
    _relu_back(p[1], dp[1])
    _sigmoid_back(p[2], dp[2])


@inlined
def _relu(x, y):
    zero = x.dtype.type(0.0)
    for i in range(len(x)):
        y[i] = zero if x[i] <= zero else x[i]  # NaN stays NaN


@inlined
def _sigmoid(x, y):
    for i in range(len(x)):
        y[i] = sigmoid(x[i])


@inlined
def _relu_back(y, d):
    zero = y.dtype.type(0.0)
    for i in range(len(y)):
        d[i] = zero if y[i] <= zero else d[i]


@inlined
def _sigmoid_back(y, d):
    one = y.dtype.type(1.0)
    for i in range(len(y)):
        d[i] *= y[i] * (one - y[i])


@inlined
def _spread(k, q, gamma, p, gate, phi_k, phi_q):
    """The outer products: gate = p3 x gamma, phi_k = p1 x k, phi_q = p2 x q, flat."""
    d = len(k)
    for e in range(p.shape[1]):
        at, a, b, c = e * d, p[0, e], p[1, e], p[2, e]
        for i in range(d):
            gate[at + i] = gamma[i] * c
            phi_k[at + i] = k[i] * a
            phi_q[at + i] = q[i] * b


@inlined
def _spread_back(d_outer, a, b, da, db):
    """Gradients of a `[d]` and b `[E]`, given that of b x a."""
    zero, d = a.dtype.type(0.0), len(a)
    for i in range(d):
        da[i] = zero
    for e in range(len(b)):
        at, factor, total = e * d, b[e], zero
        for i in range(d):
            da[i] += d_outer[at + i] * factor
            total += d_outer[at + i] * a[i]
        db[e] = total


@inlined
def _read(alive, gate, phi_k, phi_q, K, s, K_now, s_now):
    """K and s after the step, K . phi_q and s . phi_q."""
    real = gate.dtype.type
    one, match, total = real(1.0), real(0.0), real(0.0)
    for j in range(len(gate)):
        source, left = gate[j] * phi_k[j], alive * (one - gate[j])
        K_now[j], s_now[j] = source - left * K[j], source + left * s[j]
    for j in range(len(gate)):  # apart from the writes above, else the order of additions depends on array addresses
        match += K_now[j] * phi_q[j]
        total += s_now[j] * phi_q[j]
    return match, total


@inlined
def _read_back(
    alive, d_match, d_total, gate, phi_k, phi_q, K, s, K_now, s_now, dK, ds, d_gate, d_phi_k, d_phi_q
):  # fmt: skip
    """Gradients of gate, phi_k and phi_q and, in their places, of K and s before the step."""
    one = gate.dtype.type(1.0)
    for j in range(len(gate)):
        left = alive * (one - gate[j])
        of_K, of_s = dK[j] + d_match * phi_q[j], ds[j] + d_total * phi_q[j]
        both = of_K + of_s
        d_gate[j] = both * phi_k[j] + alive * (of_K * K[j] - of_s * s[j])
        d_phi_k[j] = both * gate[j]
        d_phi_q[j] = d_match * K_now[j] + d_total * s_now[j]
        dK[j], ds[j] = -left * of_K, left * of_s


@inlined
def _values(alive, v, beta, V, V_now):
    one = v.dtype.type(1.0)
    for i in range(len(v)):
        V_now[i] = beta[i] * v[i] - alive * (one - beta[i]) * V[i]


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
