"""R: LRU, the linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349, section 3.5): diagonal and complex.

c' = lambda c + gamma (B x)        y = Re(C c') + D x

with lambda = exp(-exp(nu) + i exp(theta)) and gamma = exp(gamma_log), at first sqrt(1 - |lambda|^2). B and C are
complex matrices, D is a weight for each feature. The recurrence is that of A; gradients reach back over one call, in
full.
"""

import math

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import State, accumulator_dtype, full_precision, with_zero_gradient
from memexp.cortex.kernels.linear import Linear
from memexp.cortex.kernels.rtu import rtu

RADII = 0.5, 0.999
"""Least and largest |lambda| at first: memories of a few steps to a thousand."""


class LRU(nn.Module):
    """LRU. State: `c` `[B, 2, H]`, real and imaginary part."""

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        low, high = RADII
        squared = low**2 + (high**2 - low**2) * torch.rand(d_hidden)  # uniform in the ring
        self.nu_log = nn.Parameter(torch.log(-0.5 * torch.log(squared)))
        self.theta_log = nn.Parameter(torch.log(2 * math.pi * torch.rand(d_hidden).clamp(min=1e-6)))
        self.gamma_log = nn.Parameter(0.5 * torch.log1p(-squared))
        self.into = Linear(d_hidden, 2 * d_hidden, bias=False)  # B: real parts, then imaginary parts
        self.out = Linear(2 * d_hidden, d_hidden, bias=False)  # C: Re(C c) = Re C Re c - Im C Im c
        nn.init.normal_(self.into.weight, std=(2 * d_hidden) ** -0.5)
        nn.init.normal_(self.out.weight, std=d_hidden**-0.5)
        self.skip = nn.Parameter(torch.randn(d_hidden))

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"c": torch.zeros(batch, 2, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        dtype = accumulator_dtype(x)
        u = self.into(x).to(dtype)
        gamma = self.gamma_log.to(dtype).exp()
        if state is None:
            y = self.out((gamma.repeat(2) * u).to(x.dtype)) + self.skip * x
            return with_zero_gradient(y, [self.nu_log, self.theta_log]), {}
        with full_precision(x):
            nu, theta = self.nu_log.to(dtype).exp(), self.theta_log.to(dtype).exp()
            decay = (-nu).exp() * torch.stack([theta.cos(), theta.sin()])
            factor = torch.stack([gamma, torch.zeros_like(gamma)])
            c = complex_recurrence(u, decay, factor, state["c"].to(dtype), resets)
        return self.out(c.flatten(-2).to(x.dtype)) + self.skip * x, {"c": c[:, -1].to(state["c"].dtype)}


def complex_recurrence(u: Tensor, decay: Tensor, factor: Tensor, before: Tensor, resets: Tensor | None) -> Tensor:
    """c' = decay c + factor u, `[B, T, 2, H]`; u `[B, T, 2 H]` has real, then imaginary parts, decay and factor
    `[2, H]` are complex pairs, before `[B, 2, H]` is c before the first step.

    `rtu` has real inputs. The recurrence is linear: one half gets Re(u), the other i Im(u).
    """
    H = decay.shape[1]
    weight = torch.cat([factor, torch.stack([-factor[1], factor[0]])], dim=1)
    halves, _ = rtu(u, decay.repeat(1, 2), weight, torch.cat([before, torch.zeros_like(before)], dim=-1), resets)
    return halves[..., :H] + halves[..., H:]
