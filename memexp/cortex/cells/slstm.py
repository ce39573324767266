"""S: sLSTM, the scalar memory of xLSTM (Beck et al. 2024, arXiv:2405.04517), with per-head hidden-to-hidden matrices.

    x^ = silu(causal_conv(x))
    i~ = W_i x^ + R_i y + b_i    f~ = W_f x^ + R_f y + b_f    z~ = W_z x + R_z y + b_z    o~ = W_o x + R_o y + b_o
    l  = m + log sigmoid(f~)     m' = max(i~, l), and i~ where n = 0
    i  = exp(i~ - m')            f  = exp(l - m')
    c' = f c + i tanh(z~)        n' = f n + i         y' = sigmoid(o~) c' / (n' + 1e-6)
    output = head_norm(y')

All W and R are block-diagonal, with one square matrix per head. The recurrence uses y' before the norm. In S^ two Axon
layers of full width replace the W: one of x^ for i~ and f~, one of x for z~ and o~.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.axon import AxonLayer
from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.cells.shared import (
    HeadNorm,
    ParameterCache,
    State,
    accumulator_dtype,
    check_heads,
    full_precision,
    join_states,
    split_state,
    with_zero_gradient,
)
from memexp.cortex.kernels.heads import head_products
from memexp.cortex.kernels.slstm import EPS, slstm

AXON_PREFIXES = ["if_fused.", "zo_fused."]


class SLSTM(nn.Module):
    """sLSTM. State: `ycnm` `[B, 4, H]` (y' before the norm, c, n, m), the convolution's `conv` `[B, K, H]`, and the
    states of Axon layers."""

    def __init__(self, d_hidden: int, n_heads: int = 4, conv_kernel: int = 4, axon: bool = False) -> None:
        super().__init__()
        check_heads("sLSTM", d_hidden, n_heads)
        self.d_hidden, self.n_heads, d = d_hidden, n_heads, d_hidden // n_heads
        self.conv1d_cell = CausalConv(d_hidden, conv_kernel)
        self.axon = axon
        if axon:
            self.if_fused, self.zo_fused = AxonLayer(d_hidden, 2 * d_hidden), AxonLayer(d_hidden, 2 * d_hidden)
        else:
            self.igate, self.fgate, self.zgate, self.ogate = (HeadMatrices(n_heads, d) for _ in range(4))
            self.pairs = ParameterCache(), ParameterCache()
        self.recurrent_kernel = nn.Parameter(torch.zeros(n_heads, 4 * d, d))
        bias = torch.zeros(n_heads, 4, d)
        bias[:, 1] = torch.linspace(3.0, 6.0, d)
        self.bias = nn.Parameter(bias)
        self.outnorm = HeadNorm(d_hidden, n_heads)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        state = {"ycnm": torch.zeros(batch, 4, self.d_hidden, device=device, dtype=dtype)}
        if self.axon:
            layers = (self.if_fused, self.zo_fused)
            state |= join_states(AXON_PREFIXES, [layer.init_state(batch, device, dtype) for layer in layers])
        return state | self.conv1d_cell.init_state(batch, device, dtype)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        if state is None:
            return self._first_steps(x), {}
        convolved, conv_state = self.conv1d_cell(x, state, resets)
        terms, axon_states = self._terms(F.silu(convolved), x, state, resets)
        dtype, (B, T) = accumulator_dtype(x), x.shape[:2]
        recurrent = self.recurrent_kernel.to(dtype).unflatten(1, (4, -1))
        before = state["ycnm"].to(dtype).unflatten(-1, (self.n_heads, -1))
        with full_precision(x):
            y, after = slstm(terms.to(dtype), recurrent, before, resets)
        new = {"ycnm": after.flatten(-2).to(state["ycnm"].dtype)}
        return self.outnorm(y.view(B, T, -1).to(x.dtype)), new | conv_state | axon_states

    def _first_steps(self, x: Tensor) -> Tensor:
        """The output if every step is the first of an episode: y = c = n = 0, so i = 1 and n' = 1."""
        unused = [self.recurrent_kernel, *self.conv1d_cell.parameters()]
        if self.axon:
            z, o = self.zo_fused(x, None, None)[0].unflatten(-1, (2, self.n_heads, -1)).unbind(-3)
            unused += self.if_fused.parameters()
        else:
            heads = x.unflatten(-1, (self.n_heads, 1, -1))  # [B, T, N, 1, d]
            z, o = (heads @ self.zgate.weight).squeeze(-2), (heads @ self.ogate.weight).squeeze(-2)
            unused += [self.igate.weight, self.fgate.weight]
        y = torch.sigmoid(o + self.bias[:, 3]) * torch.tanh(z + self.bias[:, 2]) / (1 + EPS)
        return self.outnorm(with_zero_gradient(y.flatten(-2), unused))

    def _terms(self, convolved: Tensor, x: Tensor, state: State, resets: Tensor | None) -> tuple[Tensor, State]:
        """The input's part of the gates i, f, z, o, `[B, T, N, 4, d]`, and new Axon states."""
        if not self.axon:
            of_convolved = self.pairs[0](side_by_side, self.igate.weight, self.fgate.weight)
            of_x = self.pairs[1](side_by_side, self.zgate.weight, self.ogate.weight)
            return head_products(convolved, x, of_convolved, of_x, self.bias), {}
        calls = zip((self.if_fused, self.zo_fused), (convolved, x), split_state(AXON_PREFIXES, state), strict=True)
        outcomes = [layer(a, part, resets) for layer, a, part in calls]
        ys = [y.unflatten(-1, (2, self.n_heads, -1)).transpose(-3, -2) for y, _ in outcomes]
        return torch.cat(ys, dim=-2) + self.bias, join_states(AXON_PREFIXES, [new for _, new in outcomes])


def side_by_side(a: Tensor, b: Tensor) -> Tensor:
    """Two matrices per head, `[N, d, d]` each, as one `[N, d, 2 d]`."""
    return torch.cat([a, b], dim=2)


class HeadMatrices(nn.Module):
    """One square matrix per head, `weight` `[N, d in, d out]`, initially normal with variance 2 / (5 d)."""

    def __init__(self, n_heads: int, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_heads, d, d) * (2 / (5 * d)) ** 0.5)
