"""A: Axon, a diagonal complex recurrence that learns across call boundaries by exact traces.

Recurrent trace units (Elelimy et al. 2024, arXiv:2409.01449), parametrised like the LRU (Orvieto et al. 2023,
arXiv:2303.06349). With lambda = exp(-exp(nu) + i exp(theta)), Gamma = sqrt(1 - |lambda|^2), w = w1 + i w2:

    u = W_in x        c' = lambda c + Gamma w u        y = W_out [act(Re c') | act(Im c')] + b

Within a call gradients are exact. Across calls none enters the past, but nu, theta, w1 and w2 receive what the past
owes them through the traces E_p = dc/dp, which are carried along with c:

    E_p' = lambda E_p + S_p        S_nu = -exp(nu) lambda c + Gamma' w u,   Gamma' = exp(nu) |lambda|^2 / Gamma
    S_theta = i exp(theta) lambda c        S_w1 = Gamma u        S_w2 = i Gamma u
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import State, accumulator_dtype, without_influence
from memexp.cortex.kernels.scan import linear_scan

TRACES = ("nu", "th", "w1", "w2")


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


class Axon(nn.Module):
    """Axon. State `[B, H]` each: `hc1`, `hc2` (real and imaginary part of c) and the traces `E_<p>_c1`, `E_<p>_c2`.

    `mixer` makes u of x: "dense" (W_in), "srht" (a randomised Hadamard transform; the width must be a power of two) or
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
        self.out_proj = nn.Linear(2 * d_hidden, out_dim or d_hidden)
        self.mixer = mixer
        if mixer == "dense":
            self.input_proj = nn.Linear(d_hidden, d_hidden, bias=False)
            nn.init.orthogonal_(self.input_proj.weight)
        elif mixer == "srht":
            generator = torch.Generator().manual_seed(0)  # the same for all layers of a width
            self.register_buffer("srht_signs", 2.0 * torch.randint(2, (d_hidden,), generator=generator) - 1)
            self.register_buffer("srht_perm", torch.randperm(d_hidden, generator=generator))
            self.register_buffer("hadamard", hadamard(d_hidden), persistent=False)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        keys = ["hc1", "hc2", *(f"E_{p}_{part}" for p in TRACES for part in ("c1", "c2"))]
        return {key: torch.zeros(batch, self.d_hidden, device=device, dtype=dtype) for key in keys}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        real = accumulator_dtype(x)
        u = self._mix(x).to(real)
        nu, theta = self.nu_log.to(real).exp(), self.theta_log.to(real).exp()
        decay = torch.polar((-nu).exp(), theta)
        gain = (1 - (-2 * nu).exp()).sqrt()
        w = torch.complex(self.w1.to(real), self.w2.to(real))
        source = gain * w * u  # [B, T, H]
        if state is None:
            return without_influence(self._output(source, x.dtype), [self.theta_log]), {}
        c0, traces = self._unpack(state, real)
        keep = torch.ones(x.shape[:2], device=x.device, dtype=real) if resets is None else (~resets).to(real)
        factor = (decay * keep[..., None]).transpose(0, 1)
        c = linear_scan(factor, source.transpose(0, 1), self._with_past_credit(c0, traces)).transpose(0, 1)
        with torch.no_grad():
            before = torch.cat([c0[:, None], c[:, :-1]], dim=1) * keep[..., None]
            after = self._traces_after(before, u, keep, traces, decay, nu, theta, gain, w)
        return self._output(c, x.dtype), self._pack(c[:, -1].detach(), after, state["hc1"].dtype)

    def _mix(self, x: Tensor) -> Tensor:
        if self.mixer == "dense":
            return self.input_proj(x)
        if self.mixer == "srht":  # Tropp 2011, arXiv:1011.1595
            return (x[..., self.srht_perm] * self.srht_signs) @ self.hadamard / math.sqrt(self.d_hidden)
        return x

    def _output(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out_proj(torch.cat([self.activation(c.real), self.activation(c.imag)], dim=-1).to(dtype))

    def _with_past_credit(self, c0: Tensor, traces: list[Tensor]) -> Tensor:
        """c0, with derivatives E_p in the four parameters: c0 + sum_p E_p (p - stop(p))."""
        if not torch.is_grad_enabled():
            return c0
        parameters = (self.nu_log, self.theta_log, self.w1, self.w2)
        return c0 + sum(trace * (p - p.detach()) for trace, p in zip(traces, parameters, strict=True))

    def _traces_after(
        self,
        before: Tensor,
        u: Tensor,
        keep: Tensor,
        traces: list[Tensor],
        decay: Tensor,
        nu: Tensor,
        theta: Tensor,
        gain: Tensor,
        w: Tensor,
    ) -> list[Tensor]:
        """The traces after the last step: sources S_t weighted with lambda^(T-1-t), as far back as the episode goes."""
        T = u.shape[1]
        ages = torch.arange(T - 1, -1, -1, device=u.device, dtype=u.dtype)
        weight = torch.polar((-nu * ages[:, None]).exp(), theta * ages[:, None])  # [T, H]
        counts = torch.cat([keep[:, 1:].flip(1).cumprod(1).flip(1), torch.ones_like(keep[:, :1])], dim=1)[..., None]
        by_state = (weight * (counts * before)).sum(1) * decay
        by_input = (weight * (counts * u)).sum(1)
        gain_slope = nu * (-2 * nu).exp() / gain
        sources = (
            -nu * by_state + gain_slope * w * by_input,
            1j * theta * by_state,
            gain * by_input,
            1j * gain * by_input,
        )
        past = weight[0] * decay * (counts[:, 0] * keep[:, :1])
        return [past * trace + source for trace, source in zip(traces, sources, strict=True)]

    @staticmethod
    def _unpack(state: State, real: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        parts = {key: leaf.detach().to(real) for key, leaf in state.items()}
        c0 = torch.complex(parts["hc1"], parts["hc2"])
        return c0, [torch.complex(parts[f"E_{p}_c1"], parts[f"E_{p}_c2"]) for p in TRACES]

    @staticmethod
    def _pack(c: Tensor, traces: list[Tensor], dtype: torch.dtype) -> State:
        state = {"hc1": c.real.to(dtype), "hc2": c.imag.to(dtype)}
        for p, trace in zip(TRACES, traces, strict=True):
            state |= {f"E_{p}_c1": trace.real.to(dtype), f"E_{p}_c2": trace.imag.to(dtype)}
        return state


class AxonLayer(nn.Module):
    """y = W x + b + Axon(x), in place of a linear map where a token carries a caret; state as of its Axon."""

    def __init__(self, width: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out_dim)
        self.cell = Axon(width, out_dim, mixer="srht" if width & (width - 1) == 0 else "dense")

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return self.cell.init_state(batch, device, dtype)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        y, new = self.cell(x, state, resets)
        return self.linear(x) + y, new
