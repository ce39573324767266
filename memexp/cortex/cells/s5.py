"""S5: a diagonal state-space layer (Smith et al. 2023, arXiv:2208.04933), with resets as in Lu et al. 2023
(arXiv:2303.03982).

c' = exp(L d) c + ((exp(L d) - 1) / L) (B x)        y = 2 Re(C c') + D x        output = g sigmoid(W g + b), g = gelu(y)

with complex L of negative real part, a step size d for each state, and complex matrices B and C. L, B and C start as
the diagonal form of HiPPO-LegS: 2 H states, of which one of each conjugate pair is kept.
"""

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.lru import complex_recurrence
from memexp.cortex.cells.shared import State, accumulator_dtype, full_precision
from memexp.cortex.kernels.linear import Linear
from memexp.cortex.kernels.rtu.plain import product

STEPS = 1e-3, 0.1
"""Least and largest step size at first."""


class S5(nn.Module):
    """S5. State: `c` `[B, 2, H]`, real and imaginary part."""

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        H = self.d_hidden = d_hidden
        values, vectors = hippo(2 * H)
        self.log_damping = nn.Parameter(torch.full((H,), 0.5).log())  # the real part of L is -exp of this
        self.frequency = nn.Parameter(values.clone())
        self.log_step = nn.Parameter(torch.empty(H).uniform_(*map(math.log, STEPS)))
        self.into = Linear(H, 2 * H, bias=False)  # B: real parts, then imaginary parts
        self.out = Linear(2 * H, H, bias=False)  # 2 Re(C c) = 2 Re C Re c - 2 Im C Im c
        b = vectors.conj().T @ (torch.randn(2 * H, H) * H**-0.5).to(vectors.dtype)
        c = (torch.randn(H, 2 * H) * (2 * H) ** -0.5).to(vectors.dtype) @ vectors
        with torch.no_grad():
            self.into.weight.copy_(torch.cat([b.real, b.imag]))
            self.out.weight.copy_(2 * torch.cat([c.real, -c.imag], dim=1))
        self.skip = nn.Parameter(torch.randn(H))
        self.gate = Linear(H, H)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"c": torch.zeros(batch, 2, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        dtype = accumulator_dtype(x)
        u = self.into(x).to(dtype)
        with full_precision(x):
            step = self.log_step.to(dtype).exp()
            rate = torch.stack([-self.log_damping.to(dtype).exp(), self.frequency.to(dtype)])
            decay = (rate[0] * step).exp() * torch.stack([(rate[1] * step).cos(), (rate[1] * step).sin()])
            less_one = torch.stack([decay[0] - 1, decay[1]])
            factor = product(less_one, torch.stack([rate[0], -rate[1]])) / rate.square().sum(0)
            if state is None:
                c, new = product(u.unflatten(-1, (2, -1)), factor), {}
            else:
                c = complex_recurrence(u, decay, factor, state["c"].to(dtype), resets)
                new = {"c": c[:, -1].to(state["c"].dtype)}
        g = F.gelu(self.out(c.flatten(-2).to(x.dtype)) + self.skip * x)
        return g * torch.sigmoid(self.gate(g)), new


@cache
def hippo(size: int) -> tuple[Tensor, Tensor]:
    """Imaginary parts `[size / 2]` of the eigenvalues of HiPPO-LegS' normal part, the positive ones, and their
    eigenvectors `[size, size / 2]`; the real parts are all -1/2 (Smith et al. 2023, appendix B.1)."""
    p = torch.sqrt(torch.arange(size, dtype=torch.float64) + 0.5)
    skew = -(p[:, None] * p[None]).tril(-1)
    skew = skew - skew.T
    values, vectors = torch.linalg.eigh(-1j * skew)
    kept = values > 0
    return values[kept].float(), vectors[:, kept].to(torch.complex64)
