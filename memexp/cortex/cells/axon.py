"""A: Axon, a diagonal complex recurrence with exact traces, which let it learn across call boundaries.

Recurrent trace units (Elelimy et al. 2024, arXiv:2409.01449), parametrised like the LRU (Orvieto et al. 2023,
arXiv:2303.06349). With lambda = exp(-exp(nu) + i exp(theta)), Gamma = sqrt(1 - |lambda|^2), w = w1 + i w2:

    u = W_in x        c' = lambda c + Gamma w u        y = W_out [act(Re c') | act(Im c')] + b

Within a call gradients are exact. Across calls no gradient enters the past, but nu, theta, w1 and w2 receive their
gradient of past steps through the traces E_p = dc/dp, which are part of the state:

    E_p' = lambda E_p + S_p        S_nu = -exp(nu) lambda c + Gamma' w u,   Gamma' = exp(nu) |lambda|^2 / Gamma
    S_theta = i exp(theta) lambda c        S_w1 = Gamma u        S_w2 = i Gamma u
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import ParameterCache, State, accumulator_dtype, with_zero_gradient
from memexp.cortex.kernels.linear import Linear
from memexp.cortex.kernels.rtu import TraceFactors, carry_traces, rtu, trace_factors


def identity(x: Tensor) -> Tensor:
    return x


def hadamard(size: int) -> Tensor:
    """Sylvester's `[size, size]` matrix, [[1, 1], [1, -1]] multiplied with itself; size must be a power of two."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    if len(matrix) != size:
        raise ValueError(f"a Hadamard transform needs a power of two, not {size}")
    return matrix


def constants(nu_log: Tensor, theta_log: Tensor, w1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor, TraceFactors]:
    """lambda and Gamma w `[2, H]`, and the traces' factors, without gradient."""
    nu, theta = nu_log.exp(), theta_log.exp()
    gain, w = (1 - (-2 * nu).exp()).sqrt(), torch.stack([w1, w2])
    decay = (-nu).exp() * torch.stack([theta.cos(), theta.sin()])
    with torch.no_grad():
        factors = trace_factors(decay, w, torch.stack([nu, theta, gain, nu * (-2 * nu).exp() / gain]))
    return decay, gain * w, factors


class Axon(nn.Module):
    """Axon. State: `c` `[B, 2, H]` (real and imaginary part) and `traces` `[B, 4, 2, H]` (of nu, theta, w1, w2).

    `mixer` maps x to u: "dense" (W_in), "srht" (a randomised Hadamard transform, for widths that are powers of two) or
    "none" (u = x).
    """

    srht_signs: Tensor
    srht_perm: Tensor
    hadamard: Tensor

    def __init__(
        self,
        d_hidden: int,
        out_dim: int | None = None,
        mixer: str = "dense",
        activation: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        self.d_hidden, self.activation = d_hidden, activation
        self.nu_log = nn.Parameter(torch.log(-0.5 * torch.log(torch.rand(d_hidden).clamp(min=1e-12))))  # radii 0..1
        self.theta_log = nn.Parameter(torch.log((6.28 * torch.rand(d_hidden)).clamp(min=1e-12)))
        bound = 1 / math.sqrt(d_hidden)
        self.w1 = nn.Parameter(torch.empty(d_hidden).uniform_(-bound, bound))
        self.w2 = nn.Parameter(torch.empty(d_hidden).uniform_(-bound, bound))
        self.out_proj = Linear(2 * d_hidden, out_dim or d_hidden)
        self.constants = ParameterCache()
        self.mixer = mixer
        if mixer == "dense":
            self.input_proj = Linear(d_hidden, d_hidden, bias=False)
            nn.init.orthogonal_(self.input_proj.weight)
        elif mixer == "srht":
            generator = torch.Generator().manual_seed(0)  # the same for all layers of a width
            self.register_buffer("srht_signs", 2.0 * torch.randint(2, (d_hidden,), generator=generator) - 1)
            self.register_buffer("srht_perm", torch.randperm(d_hidden, generator=generator))
            self.register_buffer("hadamard", hadamard(d_hidden), persistent=False)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        sizes = {"c": (2, self.d_hidden), "traces": (4, 2, self.d_hidden)}
        return {key: torch.zeros(batch, *size, device=device, dtype=dtype) for key, size in sizes.items()}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        real = accumulator_dtype(x)
        u = self._mix(x).to(real)
        parameters = (a.to(real) for a in (self.nu_log, self.theta_log, self.w1, self.w2))
        decay, weight, factors = self.constants(constants, *parameters)
        if state is None:
            c = weight * u.unsqueeze(-2)
            return with_zero_gradient(self._output(c, x.dtype), [self.theta_log]), {}
        before, traces = state["c"].detach().to(real), state["traces"].detach().to(real)
        c, sums = rtu(u, decay, weight, self._with_past_credit(before, traces), resets)
        with torch.no_grad():
            traces = carry_traces(traces, sums, factors, x.shape[1], resets)
        dtype = state["c"].dtype
        return self._output(c, x.dtype), {"c": c[:, -1].detach().to(dtype), "traces": traces.to(dtype)}

    def _mix(self, x: Tensor) -> Tensor:
        if self.mixer == "dense":
            return self.input_proj(x)
        if self.mixer == "srht":  # Tropp 2011, arXiv:1011.1595
            return (x[..., self.srht_perm] * self.srht_signs) @ self.hadamard / math.sqrt(self.d_hidden)
        return x

    def _output(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out_proj(self.activation(c).flatten(-2).to(dtype))

    def _with_past_credit(self, c0: Tensor, traces: Tensor) -> Tensor:
        """c0 with derivatives E_p for the four parameters: c0 + sum_p E_p (p - stop_gradient(p))."""
        if not torch.is_grad_enabled():
            return c0
        parameters = torch.stack([self.nu_log, self.theta_log, self.w1, self.w2]).to(c0.dtype)
        return c0 + (traces * (parameters - parameters.detach()).unsqueeze(1)).sum(1)


class AxonLayer(nn.Module):
    """y = W x + b + Axon(x), instead of a linear map in tokens with a caret. The state is that of the Axon."""

    def __init__(self, width: int, out_dim: int) -> None:
        super().__init__()
        self.linear = Linear(width, out_dim)
        self.cell = Axon(width, out_dim, mixer="srht" if width & (width - 1) == 0 else "dense")

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return self.cell.init_state(batch, device, dtype)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        y, new = self.cell(x, state, resets)
        return self.linear(x) + y, new
