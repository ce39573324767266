"""`rtu`: the diagonal complex recurrence of Axon (Elelimy et al. 2024, arXiv:2409.01449), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba, `gpu.py` one in Triton. Sizes: B rows, T steps, H features.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.rtu.plain import rtu_plain
from memexp.cortex.kernels.shared import by_device, call, has_kernel


def rtu(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """c_t = lambda c_{t-1} + w u_t, and what the traces of lambda and w need.

    Complex numbers are pairs (real, imaginary). Gradients flow into u, decay, weight and c0.

    Args:
        u: `[B, T, H]`, real.
        decay, weight: `[2, H]`, lambda and w.
        c0: `[B, 2, H]`, the state before the first step.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        c `[B, T, 2, H]`, and `[B, 4, H]` without gradient: sum_t lambda^(T-1-t) c_{t-1} and sum_t lambda^(T-1-t) u_t
        over the last step's episode, each a pair.
    """
    if not has_kernel(u):
        return rtu_plain(u, decay, weight, c0, resets)
    return call(_rtu, u.contiguous(), decay, weight, c0, resets)


@torch.library.custom_op("memexp::rtu", mutates_args=())
def _rtu(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """What `rtu` returns."""
    raise NotImplementedError


@torch.library.custom_op("memexp::rtu_backward", mutates_args=())
def _rtu_backward(
    dc: Tensor, u: Tensor, c: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, c0, and, row by row `[B, 2, H]`, of decay and weight."""
    raise NotImplementedError


by_device(_rtu, __name__, "forward")
by_device(_rtu_backward, __name__, "backward")


@_rtu.register_fake
def _(u, decay, weight, c0, resets):
    B, T, H = u.shape
    return u.new_empty(B, T, 2, H), u.new_empty(B, 4, H)


@_rtu_backward.register_fake
def _(dc, u, c, decay, weight, c0, resets):
    return torch.empty_like(u), torch.empty_like(c0), torch.empty_like(c0), torch.empty_like(c0)


def _save(ctx, inputs, output) -> None:
    u, decay, weight, c0, resets = inputs
    ctx.save_for_backward(u, output[0], decay, weight, c0, resets)


def _backward(ctx, dc, d_sums):
    du, dc0, d_decay, d_weight = _rtu_backward(dc.contiguous(), *ctx.saved_tensors)
    return du, d_decay.sum(0), d_weight.sum(0), dc0, None


_rtu.register_autograd(_backward, setup_context=_save)


TraceFactors = tuple[Tensor, Tensor, Tensor]
"""What the traces' recurrence multiplies: `[4, 2, H]` for the sums of states, `[4, 2, H]` for those of inputs, and
lambda `[2, H]`; complex numbers as pairs, the first axis nu, theta, w1, w2."""


def trace_factors(decay: Tensor, w: Tensor, slopes: Tensor) -> TraceFactors:
    """Of lambda and w1 + i w2 `[2, H]`, and `[4, H]`: exp(nu), exp(theta), Gamma and Gamma'."""
    lam, w, (nu, theta, gain, gain_slope) = torch.complex(*decay), torch.complex(*w), slopes
    zero = torch.zeros_like(lam)
    by_state = torch.stack([-nu * lam, 1j * theta * lam, zero, zero])
    by_input = torch.stack([gain_slope * w, zero, gain + zero, 1j * gain])
    return *(torch.stack([a.real, a.imag], dim=1) for a in (by_state, by_input)), decay  # type: ignore[return-value]


def carry_traces(traces: Tensor, sums: Tensor, factors: TraceFactors, T: int, resets: Tensor | None) -> Tensor:
    """The traces dc/dp `[B, 4, 2, H]` of p = nu, theta, w1, w2 after T steps, from those before; without gradient.

    E_p' = lambda^T E_p (0 if an episode started) + sum_t lambda^(T-1-t) S_p, with the sources S_p of `cells/axon.py`:
    each is linear in c_{t-1} and u_t, whose weighted sums `rtu` returns.
    """
    by_state, by_input, decay = factors
    if resets is None:
        alive = traces.new_ones(len(traces))
    else:
        alive = (~(resets[:, 0] if T == 1 else resets.any(1))).to(traces.dtype)
    inputs = (traces.contiguous(), sums, by_state, by_input, _power(decay, T), alive)
    return call(_carry_traces, *inputs)


def _power(decay: Tensor, n: int) -> Tensor:
    """lambda^n by repeated squaring: torch's power goes through the angle, whose rounding errors grow with n."""
    if n == 1:
        return decay
    z = torch.complex(*decay)
    result = torch.ones_like(z)
    while n:
        result, z, n = result * z if n & 1 else result, z * z, n >> 1
    return torch.stack([result.real, result.imag])


@torch.library.custom_op("memexp::carry_traces", mutates_args=())
def _carry_traces(
    traces: Tensor, sums: Tensor, by_state: Tensor, by_input: Tensor, past: Tensor, alive: Tensor
) -> Tensor:
    def pair(a: Tensor) -> Tensor:
        return torch.complex(*a.unbind(-2))

    states, inputs = (pair(a).unsqueeze(1) for a in sums.split(2, dim=1))
    kept = (pair(past) * alive[:, None]).unsqueeze(1) * pair(traces)
    after = kept + pair(by_state) * states + pair(by_input) * inputs
    return torch.stack([after.real, after.imag], dim=2)


by_device(_carry_traces, __name__, "carry_traces", ["cpu"])


@_carry_traces.register_fake
def _(traces, sums, by_state, by_input, past, alive):
    return torch.empty_like(traces)
