"""Ag: AGaLiTe, gated linear attention with a rank-reduced oscillating state (Pramanik et al. 2023, arXiv:2310.15719).

Per head, d features, eta = 6 (F = eta d), (a x p) the flattened outer product:

    phi_k = relu(k) x relu(p1)    phi_q = relu(q) x relu(p2)    g = sigmoid(gamma) x sigmoid(p3)    b = sigmoid(beta)
    K_t = (1 - g) K_{t-1} + cos(w t) g phi_k      V_t = (1 - b) V_{t-1} + cos(w t) b v
    s_t = (1 - g) s_{t-1} + g phi_k
    y_t = W_out concat_heads( sum_w V_t (K_t . phi_q) / (2 R s_t . phi_q + eps) ) + bias,      eps = 1e-5

The published R = 2 frequencies are -pi and pi, so both cosines are (-1)^t and one copy of the state is enough. In the
rotated frame (-1)^t K_t and (-1)^t V_t have the same product and need no clock:
K_t = -(1 - g) K_{t-1} + g phi_k,  V_t = -(1 - b) V_{t-1} + b v.
"""

import math

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import State, accumulator_dtype, check_heads
from memexp.cortex.kernels.agalite import agalite
from memexp.cortex.kernels.agalite.plain import agalite_first_steps
from memexp.cortex.kernels.linear import Linear


class AGaLiTe(nn.Module):
    """AGaLiTe. State in the rotated frame, without gradient: `tilde_k`, `s` `[B, N, eta, d]`, `tilde_v` `[B, N, d]`."""

    def __init__(self, d_hidden: int, n_heads: int = 8, eta: int = 6) -> None:
        super().__init__()
        check_heads("AGaLiTe", d_hidden, n_heads)
        self.n_heads, self.d, self.eta = n_heads, d_hidden // n_heads, eta
        self.kqvbg_proj = Linear(d_hidden, 5 * d_hidden, bias=False)
        self.p123_proj = Linear(d_hidden, 3 * eta * n_heads, bias=False)
        self.out_proj = Linear(d_hidden, d_hidden)
        for linear in (self.kqvbg_proj, self.p123_proj, self.out_proj):
            nn.init.orthogonal_(linear.weight, gain=math.sqrt(2))
        nn.init.zeros_(self.out_proj.bias)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        sizes = {"tilde_k": (self.eta, self.d), "tilde_v": (self.d,), "s": (self.eta, self.d)}
        return {key: torch.zeros(batch, self.n_heads, *size, device=device, dtype=dtype) for key, size in sizes.items()}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        dtype = accumulator_dtype(x)
        projected = self.kqvbg_proj(x).to(dtype).unflatten(-1, (self.n_heads, 5, self.d))
        factors = self.p123_proj(x).to(dtype).unflatten(-1, (self.n_heads, 3, self.eta))
        if state is None:
            return self._output(agalite_first_steps(projected, factors), x.dtype), {}
        keys = ("tilde_k", "tilde_v", "s")
        K, V, s = (state[key].detach().to(dtype) for key in keys)
        y, after = agalite(projected, factors, (K, V, s), resets)
        new = {key: leaf.to(state[key].dtype) for key, leaf in zip(keys, after, strict=True)}
        return self._output(y, x.dtype), new

    def _output(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return self.out_proj(y.flatten(-2).to(dtype))
