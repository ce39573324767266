"""Ag: AGaLiTe, gated linear attention with a rank-reduced oscillating state (Pramanik et al. 2023, arXiv:2310.15719).

Per head, d features, eta = 6 (F = eta d), (a x p) the flattened outer product:

    phi_k = relu(k) x relu(p1)    phi_q = relu(q) x relu(p2)    g = sigmoid(gamma) x sigmoid(p3)    b = sigmoid(beta)
    K_t = (1 - g) K_{t-1} + cos(w t) g phi_k      V_t = (1 - b) V_{t-1} + cos(w t) b v
    s_t = (1 - g) s_{t-1} + g phi_k
    y_t = W_out concat_heads( sum_w V_t (K_t . phi_q) / (2 R s_t . phi_q + eps) ) + bias,      eps = 1e-5

The published R = 2 frequencies are -pi and pi, for which both cosines are (-1)^t: one copy of the state is enough, and
in the turned frame (-1)^t K_t, (-1)^t V_t, whose product is the same, the recurrences are
K_t = -(1 - g) K_{t-1} + g phi_k and V_t = -(1 - b) V_{t-1} + b v. No clock is needed then, and none can drift.
"""

import math

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import State, accumulator_dtype, require_heads
from memexp.cortex.kernels.scan import linear_scan

COPIES = 2  # R
EPS = 1e-5


class AGaLiTe(nn.Module):
    """AGaLiTe. State, without gradient: `tilde_k`, `s` `[B, N, F]` and `tilde_v` `[B, N, d]`, turned as said above."""

    def __init__(self, d_hidden: int, n_heads: int = 8, eta: int = 6) -> None:
        super().__init__()
        require_heads("AGaLiTe", d_hidden, n_heads)
        self.n_heads, self.d, self.eta = n_heads, d_hidden // n_heads, eta
        self.kqvbg_proj = nn.Linear(d_hidden, 5 * d_hidden, bias=False)
        self.p123_proj = nn.Linear(d_hidden, 3 * eta * n_heads, bias=False)
        self.out_proj = nn.Linear(d_hidden, d_hidden)
        for linear in (self.kqvbg_proj, self.p123_proj, self.out_proj):
            nn.init.orthogonal_(linear.weight, gain=math.sqrt(2))
        nn.init.zeros_(self.out_proj.bias)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        sizes = {"tilde_k": self.eta * self.d, "tilde_v": self.d, "s": self.eta * self.d}
        return {key: torch.zeros(batch, self.n_heads, size, device=device, dtype=dtype) for key, size in sizes.items()}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        dtype = accumulator_dtype(x)
        k, q, v, beta, gamma = self.kqvbg_proj(x).to(dtype).unflatten(-1, (self.n_heads, 5, self.d)).unbind(-2)
        p1, p2, p3 = self.p123_proj(x).to(dtype).unflatten(-1, (self.n_heads, 3, self.eta)).unbind(-2)
        phi_q = outer(torch.relu(q), torch.relu(p2))
        gate_k, gate_v = outer(torch.sigmoid(gamma), torch.sigmoid(p3)), torch.sigmoid(beta)
        K, V = gate_k * outer(torch.relu(k), torch.relu(p1)), gate_v * v
        s, new = K, {}
        if state is not None:
            keep = 1.0 if resets is None else (~resets)[..., None, None].to(dtype)
            decay_k, decay_v = (1 - gate_k) * keep, (1 - gate_v) * keep
            before = {key: leaf.detach().to(dtype) for key, leaf in state.items()}
            s = scan_steps(decay_k, s, before["s"])
            K = scan_steps(-decay_k, K, before["tilde_k"])
            V = scan_steps(-decay_v, V, before["tilde_v"])
            after = {"tilde_k": K, "tilde_v": V, "s": s}
            new = {key: h[:, -1].detach().to(state[key].dtype) for key, h in after.items()}
        strength = COPIES * (K * phi_q).sum(-1) / (2 * COPIES * (s * phi_q).sum(-1) + EPS)
        return self.out_proj((V * strength[..., None]).flatten(-2).to(x.dtype)), new


def outer(a: Tensor, p: Tensor) -> Tensor:
    """`[..., d]` and `[..., eta]` -> `[..., d * eta]`, the feature of a slow and that of p fast."""
    return (a.unsqueeze(-1) * p.unsqueeze(-2)).flatten(-2)


def scan_steps(decay: Tensor, source: Tensor, before: Tensor) -> Tensor:
    """`linear_scan` over the steps of `[B, T, ...]`."""
    return linear_scan(decay.transpose(0, 1), source.transpose(0, 1), before).transpose(0, 1)
