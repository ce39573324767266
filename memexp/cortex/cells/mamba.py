"""B: Mamba-2 (Dao & Gu 2024, arXiv:2405.21060, section 7): a state-space layer with one decay for each head and step.

    (z, u, dt) = W_in x     (v, B, C) = silu(causal_conv(u))     d = softplus(dt + b)     a = exp(-exp(A) d)
    h' = a h + d v B^T      y = h' C + D v                       output = W_out rms_norm(y silu(z))

with `d`, `a` and D of each head, and B and C shared by all heads. A sequence runs in chunks: attention within a chunk,
recurrence between chunks. Step s contributes to step t with weight a_{s+1} ... a_t, and nothing across a reset.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.cells.shared import (
    State,
    accumulator_dtype,
    add_product,
    decays_in_chunk,
    full_precision,
    in_chunks,
    with_zero_gradient,
)
from memexp.cortex.config import MAMBA_STATE, mamba_heads
from memexp.cortex.kernels.linear import Linear


class Mamba2(nn.Module):
    """Mamba-2. State: `h` `[B, N, P, S]` (heads, features of a head, state size), and `conv` of the convolution."""

    def __init__(self, d_hidden: int, conv_kernel: int = 4, chunk: int = 64) -> None:
        super().__init__()
        self.inner, self.n_heads, self.chunk = 2 * d_hidden, mamba_heads(d_hidden), chunk
        self.in_proj = Linear(d_hidden, 2 * self.inner + 2 * MAMBA_STATE + self.n_heads, bias=False)
        self.conv1d = CausalConv(self.inner + 2 * MAMBA_STATE, conv_kernel)
        self.A_log = nn.Parameter(torch.empty(self.n_heads).uniform_(1, 16).log())
        step = torch.empty(self.n_heads).uniform_(math.log(1e-3), math.log(0.1)).exp()
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus gives `step`
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = nn.Parameter(torch.ones(self.inner))
        self.out_proj = Linear(self.inner, d_hidden, bias=False)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        size = batch, self.n_heads, self.inner // self.n_heads, MAMBA_STATE
        return {"h": torch.zeros(size, device=device, dtype=dtype)} | self.conv1d.init_state(batch, device, dtype)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        dtype, sizes = accumulator_dtype(x), (self.inner, self.inner + 2 * MAMBA_STATE, self.n_heads)
        z, u, dt = self.in_proj(x).split(sizes, dim=-1)
        convolved, conv_state = self.conv1d(u, state, resets)
        v, b, c = F.silu(convolved).to(dtype).split((self.inner, MAMBA_STATE, MAMBA_STATE), dim=-1)
        v = v.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [B, N, T, P]
        dt = F.softplus(dt.to(dtype) + self.dt_bias.to(dtype)).transpose(1, 2)  # [B, N, T]
        fed = dt[..., None] * v
        with full_precision(x):
            if state is None:
                y, new = (b * c).sum(-1)[:, None, :, None] * fed, {}
            else:
                log_a = -self.A_log.to(dtype).exp()[:, None] * dt
                arrays, before = (fed, log_a, b[:, None], c[:, None]), state["h"].to(dtype)
                y, h = in_chunks(run_chunk, self.chunk, arrays, before, resets)
                new = {"h": h.to(state["h"].dtype)} | conv_state
        y = (y + self.D.to(dtype)[:, None, None] * v).transpose(1, 2).flatten(2)
        y = F.rms_norm(y * F.silu(z.to(dtype)), (self.inner,), self.norm.to(dtype), 1e-5)
        out = self.out_proj(y.to(x.dtype))
        return (with_zero_gradient(out, [self.A_log]) if state is None else out), new


def run_chunk(v: Tensor, log_a: Tensor, b: Tensor, c: Tensor, memory: Tensor, resets: Tensor) -> tuple[Tensor, Tensor]:
    """One chunk of steps: h' C `[B, N, T, P]`, and h after the last step.

    v `[B, N, T, P]`, times d; log_a `[B, N, T]`; b, c `[B, 1, T, S]`; resets `[B, T]`.
    """
    within, carried = decays_in_chunk(log_a, resets)
    if v.shape[2] == 1:
        h = carried[..., None] * memory + v.transpose(2, 3) * b
        return (h @ c.transpose(2, 3)).transpose(2, 3), h
    y = (within * (c @ b.transpose(2, 3))) @ v + carried[..., None] * (c @ memory.transpose(2, 3))
    last = within[:, :, -1, :, None] * v
    return y, add_product(carried[:, :, -1:, None] * memory, last.transpose(2, 3), b.expand(*v.shape[:3], -1))
