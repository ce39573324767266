"""D: Gated DeltaNet (Yang et al. 2024, arXiv:2412.06464, eq. 10): a matrix memory that replaces what a key had stored.

    (q, k, v) = silu(causal_conv(W x))    q, k of length 1 in each head    b = sigmoid(W_b x)
    a = exp(-exp(A) softplus(W_a x + c))  S' = a S (1 - b k k^T) + b v k^T   y = S' q / sqrt(d)
    output = W_out (rms_norm(y) silu(W_z x))

A sequence runs in chunks. With the memory before a chunk, its T updates are one triangular system (section 3.3): what
step t writes depends on what the steps before it in its episode have written.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.cells.shared import (
    State,
    accumulator_dtype,
    add_product,
    check_heads,
    decays_in_chunk,
    full_precision,
    in_chunks,
    with_zero_gradient,
)
from memexp.cortex.kernels.linear import Linear


class GatedDeltaNet(nn.Module):
    """Gated DeltaNet. State: `s` `[B, N, d, d]` (key, value), and `conv` of the convolution."""

    def __init__(self, d_hidden: int, n_heads: int = 4, conv_kernel: int = 4, chunk: int = 64) -> None:
        super().__init__()
        check_heads("Gated DeltaNet", d_hidden, n_heads)
        self.n_heads, self.d, self.chunk = n_heads, d_hidden // n_heads, chunk
        self.in_proj = Linear(d_hidden, 4 * d_hidden, bias=False)  # q, k, v, z
        self.gates = Linear(d_hidden, 2 * n_heads, bias=False)  # a, b
        self.conv1d = CausalConv(3 * d_hidden, conv_kernel)
        self.A_log = nn.Parameter(torch.empty(n_heads).uniform_(1e-3, 16).log())
        self.dt_bias = nn.Parameter(torch.ones(n_heads))
        self.norm = nn.Parameter(torch.ones(self.d))
        self.out_proj = Linear(d_hidden, d_hidden, bias=False)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        size = batch, self.n_heads, self.d, self.d
        return {"s": torch.zeros(size, device=device, dtype=dtype)} | self.conv1d.init_state(batch, device, dtype)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        dtype, H = accumulator_dtype(x), x.shape[-1]
        u, z = self.in_proj(x).split((3 * H, H), dim=-1)
        convolved, conv_state = self.conv1d(u, state, resets)
        qkv = F.silu(convolved).to(dtype).unflatten(-1, (3 * self.n_heads, self.d)).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=1)  # each [B, N, T, d]
        a, b = self.gates(x).to(dtype).transpose(1, 2).chunk(2, dim=1)  # each [B, N, T]
        with full_precision(x):
            q, k = unit(q) / self.d**0.5, unit(k)
            b = torch.sigmoid(b)
            v = b[..., None] * v
            if state is None:
                y, new = (q * k).sum(-1, keepdim=True) * v, {}
            else:
                step = F.softplus(a + self.dt_bias.to(dtype)[:, None])
                log_a = -self.A_log.to(dtype).exp()[:, None] * step
                arrays = q, k, v, b, log_a
                y, s = in_chunks(run_chunk, self.chunk, arrays, state["s"].to(dtype), resets)
                new = {"s": s.to(state["s"].dtype)} | conv_state
            y = F.rms_norm(y, (self.d,), self.norm.to(dtype), 1e-5).transpose(1, 2).flatten(2)
        out = self.out_proj((y * F.silu(z.to(dtype))).to(x.dtype))
        if state is None:
            out = with_zero_gradient(out, [self.A_log, self.dt_bias])
        return out, new


def unit(a: Tensor) -> Tensor:
    """Vectors of length 1, with the 1e-6 under the root that the published code has."""
    return a * (a.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def run_chunk(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, log_a: Tensor, memory: Tensor, resets: Tensor
) -> tuple[Tensor, Tensor]:
    """One chunk of steps: y `[B, N, T, d]`, and S (transposed: key, value) after the last step.

    q, k, v `[B, N, T, d]`, v times b; b, log_a `[B, N, T]`; resets `[B, T]`.
    """
    within, carried = decays_in_chunk(log_a, resets)
    keys = b[..., None] * k
    wanted = v - carried[..., None] * (keys @ memory)  # what each step would write if it were the chunk's only one
    if q.shape[2] > 1:
        among = ((keys @ k.transpose(2, 3)) * within).tril(-1)
        eye = torch.eye(q.shape[2], dtype=q.dtype, device=q.device)
        wanted = torch.linalg.solve_triangular(among + eye, wanted, upper=False, unitriangular=True)
    y = carried[..., None] * (q @ memory) + ((q @ k.transpose(2, 3)) * within) @ wanted
    last = within[:, :, -1, :, None] * k
    return y, add_product(carried[:, :, -1:, None] * memory, last.transpose(2, 3), wanted)
