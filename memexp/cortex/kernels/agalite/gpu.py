"""`agalite` in one pass over the steps, row by row and head by head.

A program runs all steps of one head of one row, with K and s as `[D, E]` tiles in registers and V as `[D, 1]`. D and E
are d and eta padded to powers of two; the padding stays zero. The backward pass starts at most as many programs as a
GPU holds at once. Each takes several heads in turn, so that its scratch memory (the states of one chunk) stays in the
cache.
"""

# Triton types what kernels call, not how Python calls kernels.
# pyright: reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from memexp.cortex.kernels.agalite import number_of_states, plain
from memexp.cortex.kernels.gpu import contiguous, keep

COPIES, EPS = tl.constexpr(plain.COPIES), tl.constexpr(plain.EPS)
PROGRAMS = 4096
"""Most programs of the backward pass, somewhat more than a large GPU holds at once."""
REGISTERS = 96
"""Most registers per thread of the backward pass, so that many programs run at once and hide latencies."""
STAGES = 3
"""Steps whose inputs are prefetched."""


def forward(
    projected: Tensor, factors: Tensor, K0: Tensor, V0: Tensor, s0: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, N, _, d = projected.shape
    states = number_of_states(T, saving)
    y = projected.new_empty(B, T, N, d)
    K, V, s = (a.new_empty(B, states, *a.shape[1:]) for a in (K0, V0, s0))
    inputs = (projected, factors, K0, V0, s0, *contiguous(resets))
    _forward[B * N,](*inputs, y, K, V, s, T, SAVING=saving, **_sizes(K0))
    return y, K, V, s


def backward(
    dy: Tensor, projected: Tensor, factors: Tensor, K: Tensor, V: Tensor, s: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    B, T, N, _ = dy.shape
    d_projected, d_factors = torch.empty_like(projected), torch.empty_like(factors)
    programs = min(PROGRAMS, B * N)
    scratch = [a.new_empty(programs, plain.CHUNK, *a.shape[3:]) for a in (K, V, s)]
    inputs = (dy, projected, factors, K, V, s, *contiguous(resets))
    grads = (d_projected, d_factors)
    _backward[programs,](*inputs, *scratch, *grads, B * N, T, **_sizes(K), maxnreg=REGISTERS)
    return grads


def _sizes(K: Tensor) -> dict[str, int]:
    N, eta, d = K.shape[-3:]
    D, E = triton.next_power_of_2(d), triton.next_power_of_2(eta)
    return {
        "N": N, "d": d, "eta": eta, "D": D, "E": E, "CHUNK": plain.CHUNK, "STAGES": STAGES,
        "num_warps": min(max(D * E // 256, 1), 8),
    }  # fmt: skip


@triton.jit(do_not_specialize=["T"])
def _forward(
    projected, factors, K0, V0, s0, resets, y, K, V, s, T, SAVING: tl.constexpr,
    N: tl.constexpr, d: tl.constexpr, eta: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    CHUNK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    i, e = tl.arange(0, D)[:, None], tl.arange(0, E)[None, :]
    row, head = (tl.program_id(0) // N).to(tl.int64), tl.program_id(0) % N
    chunks = tl.cdiv(T, CHUNK) if SAVING else 0
    states = row * (chunks + 1) * N + head
    K_t, V_t, s_t = _load_state(K0, V0, s0, row * N + head, i, e, d, eta)
    for t in tl.range(T, num_stages=STAGES):
        if SAVING:
            _store_state(K, V, s, states + t // CHUNK * N, K_t, V_t, s_t, i, e, d, eta, t % CHUNK == 0)
        at = (row * T + t) * N + head
        k_t, q_t, v_t, beta_t, gamma_t, p1, p2, p3 = _load_step(projected, factors, at, i, e, d, eta)
        kept = keep(resets, row * T + t)
        K_t, V_t, s_t = _advance(k_t, v_t, beta_t, gamma_t, p1, p3, kept * K_t, kept * V_t, kept * s_t)
        match, scale = _read(K_t, s_t, q_t * p2)
        tl.store(y + at * d + i, V_t * match * scale, i < d)
    _store_state(K, V, s, states + chunks * N, K_t, V_t, s_t, i, e, d, eta, True)


@triton.jit(do_not_specialize=["heads", "T"])
def _backward(
    dy, projected, factors, K, V, s, resets, scratch_K, scratch_V, scratch_s, d_projected, d_factors, heads, T,
    N: tl.constexpr, d: tl.constexpr, eta: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    CHUNK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    i, e = tl.arange(0, D)[:, None], tl.arange(0, E)[None, :]
    program = tl.program_id(0).to(tl.int64)
    scratch, chunks = program * CHUNK, tl.cdiv(T, CHUNK)
    for nth in range(program, heads, tl.num_programs(0)):
        row, head = nth // N, nth % N
        dK, ds = tl.zeros([D, E], K.dtype.element_ty), tl.zeros([D, E], K.dtype.element_ty)
        dV = tl.zeros([D, 1], K.dtype.element_ty)
        for chunk in range(chunks - 1, -1, -1):
            start, steps = row * T + chunk * CHUNK, tl.minimum(CHUNK, T - chunk * CHUNK)
            K_t, V_t, s_t = _load_state(K, V, s, (row * (chunks + 1) + chunk) * N + head, i, e, d, eta)
            for step in tl.range(steps, num_stages=STAGES):
                at = (start + step) * N + head
                k_t, _, v_t, beta_t, gamma_t, p1, _, p3 = _load_step(projected, factors, at, i, e, d, eta)
                kept = keep(resets, start + step)
                K_t, V_t, s_t = kept * K_t, kept * V_t, kept * s_t
                _store_state(scratch_K, scratch_V, scratch_s, scratch + step, K_t, V_t, s_t, i, e, d, eta, True)
                K_t, V_t, s_t = _advance(k_t, v_t, beta_t, gamma_t, p1, p3, K_t, V_t, s_t)
            tl.debug_barrier()  # one thread loads what another stored
            for back in tl.range(steps, num_stages=STAGES):
                step = steps - 1 - back
                at = (start + step) * N + head
                k_t, q_t, v_t, beta_t, gamma_t, p1, p2, p3 = _load_step(projected, factors, at, i, e, d, eta)
                dy_t = tl.load(dy + at * d + i, i < d, 0)
                K_was, V_was, s_was = _load_state(scratch_K, scratch_V, scratch_s, scratch + step, i, e, d, eta)
                K_t, V_t, s_t = _advance(k_t, v_t, beta_t, gamma_t, p1, p3, K_was, V_was, s_was)

                match, scale = _read(K_t, s_t, q_t * p2)
                d_match = tl.sum(dy_t * V_t) * scale
                d_total = -2 * d_match * match * scale
                d_read = d_match * K_t + d_total * s_t
                dK, dV, ds = dK + d_match * q_t * p2, dV + dy_t * match * scale, ds + d_total * q_t * p2
                d_source = dK + ds
                d_gate = d_source * k_t * p1 + dK * K_was - ds * s_was
                dx, dp = d_projected + at * 5 * d, d_factors + at * 3 * eta
                _store_outer(dx, dp, d_source * gamma_t * p3, k_t, p1, _relu_slope(k_t), _relu_slope(p1), i, e, d, eta)
                _store_outer(dx + d, dp + eta, d_read, q_t, p2, _relu_slope(q_t), _relu_slope(p2), i, e, d, eta)
                tl.store(dx + 2 * d + i, dV * beta_t, i < d)
                tl.store(dx + 3 * d + i, dV * (v_t + V_was) * beta_t * (1 - beta_t), i < d)
                _store_outer(
                    dx + 4 * d, dp + 2 * eta, d_gate, gamma_t, p3, gamma_t * (1 - gamma_t), p3 * (1 - p3), i, e, d, eta
                )

                kept = keep(resets, start + step)
                decay = kept * (1 - gamma_t * p3)
                dK, dV, ds = -decay * dK, kept * (beta_t - 1) * dV, decay * ds
            tl.debug_barrier()


@triton.jit
def _advance(k, v, beta, gamma, p1, p3, K, V, s):
    """The state after a step."""
    gate = gamma * p3
    source = gate * k * p1
    return source - (1 - gate) * K, beta * v - (1 - beta) * V, source + (1 - gate) * s


@triton.jit
def _read(K, s, phi):
    """K . phi (the match) and its scale in y = V match scale."""
    return tl.sum(K * phi), COPIES / (2 * COPIES * tl.sum(s * phi) + EPS)


@triton.jit
def _load_step(projected, factors, at, i, e, d: tl.constexpr, eta: tl.constexpr):
    """k, q, v, beta, gamma `[D, 1]` and p1, p2, p3 `[1, E]`, behind their nonlinearities; the padding is zero."""
    x, p = projected + at * 5 * d + i, factors + at * 3 * eta + e
    return (
        _relu(tl.load(x, i < d, 0)),
        _relu(tl.load(x + d, i < d, 0)),
        tl.load(x + 2 * d, i < d, 0),
        tl.sigmoid(tl.load(x + 3 * d, i < d, -float("inf"))),
        tl.sigmoid(tl.load(x + 4 * d, i < d, -float("inf"))),
        _relu(tl.load(p, e < eta, 0)),
        _relu(tl.load(p + eta, e < eta, 0)),
        tl.sigmoid(tl.load(p + 2 * eta, e < eta, -float("inf"))),
    )


@triton.jit
def _relu(x):
    return tl.where(x <= 0, 0.0, x).to(x.dtype)  # NaN stays NaN


@triton.jit
def _relu_slope(x):
    return (x > 0).to(x.dtype)


@triton.jit
def _load_state(K, V, s, at, i, e, d: tl.constexpr, eta: tl.constexpr):
    tile, mask = e * d + i, (i < d) & (e < eta)
    return (
        tl.load(K + at * d * eta + tile, mask, 0),
        tl.load(V + at * d + i, i < d, 0),
        tl.load(s + at * d * eta + tile, mask, 0),
    )


@triton.jit
def _store_state(K, V, s, at, K_t, V_t, s_t, i, e, d: tl.constexpr, eta: tl.constexpr, if_):
    tile, mask = e * d + i, (i < d) & (e < eta) & if_
    tl.store(K + at * d * eta + tile, K_t, mask)
    tl.store(V + at * d + i, V_t, (i < d) & if_)
    tl.store(s + at * d * eta + tile, s_t, mask)


@triton.jit
def _store_outer(d_a, d_b, d_outer, a, b, slope_a, slope_b, i, e, d: tl.constexpr, eta: tl.constexpr):
    """Gradients of the inputs of a `[D, 1]` and b `[1, E]`, from the gradient of a b and the slopes of a and b."""
    tl.store(d_a + i, tl.sum(d_outer * b, axis=1, keep_dims=True) * slope_a, i < d)
    tl.store(d_b + e, tl.sum(d_outer * a, axis=0, keep_dims=True) * slope_b, e < eta)
