"""`rtu`: the diagonal complex recurrence of Axon (Elelimy et al. 2024, arXiv:2409.01449), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba, `gpu.py` one in Triton. Sizes: B rows, T steps, H features.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.rtu import plain
from memexp.cortex.kernels.shared import call, has_kernel, operator


def rtu(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """c_t = lambda c_{t-1} + w u_t, and the sums that the traces of lambda and w need.

    Complex numbers are pairs (real, imaginary). Gradients flow into u, decay, weight and c0.

    Args:
        u: `[B, T, H]`, real.
        decay, weight: `[2, H]`, lambda and w.
        c0: `[B, 2, H]`, the state before the first step.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        c `[B, T, 2, H]`, and `[B, 4, H]` without gradient: sum_t lambda^(T-1-t) c_{t-1} and sum_t lambda^(T-1-t) u_t
        over the last step's episode, each a complex pair.
    """
    if not has_kernel(u):
        return plain.rtu_plain(u, decay, weight, c0, resets)
    return call(_rtu, u.contiguous(), decay, weight, c0, resets)


def _fake_forward(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    B, T, H = u.shape
    return u.new_empty(B, T, 2, H), u.new_empty(B, 4, H)


def _fake_backward(
    dc: Tensor, u: Tensor, c: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, c0, and, row by row `[B, 2, H]`, of decay and weight."""
    return torch.empty_like(u), torch.empty_like(c0), torch.empty_like(c0), torch.empty_like(c0)


def _save(ctx, inputs, output) -> None:
    u, decay, weight, c0, resets = inputs
    ctx.save_for_backward(u, output[0], decay, weight, c0, resets)


def _gradients(ctx, dc, d_sums):
    du, dc0, d_decay, d_weight = _rtu_backward(dc.contiguous(), *ctx.saved_tensors)
    return du, d_decay.sum(0), d_weight.sum(0), dc0, None


_rtu, _rtu_backward = operator(__name__, "forward", _fake_forward), operator(__name__, "backward", _fake_backward)
_rtu.register_autograd(_gradients, setup_context=_save)


TraceFactors = tuple[Tensor, Tensor, Tensor]
"""Factors of the traces' recurrence: `[4, 2, H]` for the sum of states, `[4, 2, H]` for the sum of inputs, and lambda
`[2, H]`. Complex numbers are pairs; the first axis is nu, theta, w1, w2."""


def trace_factors(decay: Tensor, w: Tensor, slopes: Tensor) -> TraceFactors:
    """The factors for lambda and w1 + i w2 `[2, H]`; slopes `[4, H]` are exp(nu), exp(theta), Gamma and Gamma'."""
    (nu, theta, gain, gain_slope), i_decay = slopes, torch.stack([-decay[1], decay[0]])
    zero, none = torch.zeros_like(decay), torch.zeros_like(gain)
    by_state = torch.stack([-nu * decay, theta * i_decay, zero, zero])
    by_input = torch.stack([gain_slope * w, zero, torch.stack([gain, none]), torch.stack([none, gain])])
    return by_state, by_input, decay


def carry_traces(traces: Tensor, sums: Tensor, factors: TraceFactors, T: int, resets: Tensor | None) -> Tensor:
    """The traces dc/dp `[B, 4, 2, H]` of p = nu, theta, w1, w2 after T more steps, without gradient.

    E_p' = lambda^T E_p (0 if an episode started) + sum_t lambda^(T-1-t) S_p, with the sources S_p of `cells/axon.py`.
    Each S_p is linear in c_{t-1} and u_t; `rtu` returns their weighted sums as `sums`.
    """
    by_state, by_input, decay = factors
    if resets is None:
        alive = traces.new_ones(len(traces))
    else:
        alive = (~(resets[:, 0] if T == 1 else resets.any(1))).to(traces.dtype)
    if not has_kernel(traces):
        return plain.carry_traces(traces, sums, by_state, by_input, _power(decay, T), alive)
    return call(_carry_traces, traces.contiguous(), sums, by_state, by_input, _power(decay, T), alive)


def _power(decay: Tensor, n: int) -> Tensor:
    """lambda^n by repeated squaring: torch's power goes through the angle, whose rounding errors grow with n."""
    if n == 1:
        return decay
    z, result = decay, torch.stack([torch.ones_like(decay[0]), torch.zeros_like(decay[0])])
    while n:
        result, z, n = plain.product(result, z) if n & 1 else result, plain.product(z, z), n >> 1
    return result


def _fake_traces(
    traces: Tensor, sums: Tensor, by_state: Tensor, by_input: Tensor, past: Tensor, alive: Tensor
) -> Tensor:
    return torch.empty_like(traces)


_carry_traces = operator(__name__, "carry_traces", _fake_traces, elsewhere="plain")
