"""S: sLSTM, the scalar memory of xLSTM (Beck et al. 2024, arXiv:2405.04517), with per-head hidden-to-hidden matrices.

    x^ = silu(causal_conv(x))
    i~ = W_i x^ + R_i y + b_i    f~ = W_f x^ + R_f y + b_f    z~ = W_z x + R_z y + b_z    o~ = W_o x + R_o y + b_o
    l  = m + log sigmoid(f~)     m' = max(i~, l), and i~ where n = 0
    i  = exp(i~ - m')            f  = exp(l - m')
    c' = f c + i tanh(z~)        n' = f n + i         y' = sigmoid(o~) c' / (n' + 1e-6)
    output = head_norm(y')

All W and R are block-diagonal: one square matrix a head. The recurrence uses y' before the norm.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.cells.shared import HeadNorm, State, accumulator_dtype, require_heads, without_influence
from memexp.cortex.kernels.slstm import EPS, slstm


class SLSTM(nn.Module):
    """sLSTM. State: `y`, `c`, `n`, `m` `[B, H]` and the convolution's `conv` `[B, K, H]`."""

    def __init__(self, d_hidden: int, n_heads: int = 4, conv_kernel: int = 4) -> None:
        super().__init__()
        require_heads("sLSTM", d_hidden, n_heads)
        self.d_hidden, self.n_heads, d = d_hidden, n_heads, d_hidden // n_heads
        self.conv1d_cell = CausalConv(d_hidden, conv_kernel)
        self.igate, self.fgate, self.zgate, self.ogate = (HeadMatrices(n_heads, d) for _ in range(4))
        self.recurrent_kernel = nn.Parameter(torch.zeros(n_heads, 4 * d, d))
        bias = torch.zeros(n_heads, 4, d)
        bias[:, 1] = torch.linspace(3.0, 6.0, d)
        self.bias = nn.Parameter(bias)
        self.outnorm = HeadNorm(d_hidden, n_heads)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        state = {key: torch.zeros(batch, self.d_hidden, device=device, dtype=dtype) for key in ("y", "c", "n", "m")}
        return state | self.conv1d_cell.init_state(batch, device, dtype)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        if state is None:
            return self._first_steps(x), {}
        convolved, conv_state = self.conv1d_cell(x, state, resets)
        terms = self._input_terms(F.silu(convolved), x)
        with torch.autocast(x.device.type, enabled=False):
            before = tuple(self._features_first(state[key]).to(terms.dtype) for key in ("y", "c", "n", "m"))
            kernel = self.recurrent_kernel.to(terms.dtype)
            ys, after = slstm(terms, kernel, before, None if resets is None else resets.t())  # type: ignore[arg-type]
        new = {key: leaf.flatten(0, 1).t().to(state[key].dtype) for key, leaf in zip("ycnm", after, strict=True)}
        return self._output(ys, x.dtype), new | conv_state

    def _first_steps(self, x: Tensor) -> Tensor:
        """The output where every step is the first of an episode: y = c = n = 0, so that i = 1 and n' = 1."""
        heads = x.unflatten(-1, (self.n_heads, 1, -1))  # [B, T, N, 1, d]
        z = (heads @ self.zgate.weight).squeeze(-2) + self.bias[:, 2]
        o = (heads @ self.ogate.weight).squeeze(-2) + self.bias[:, 3]
        y = torch.sigmoid(o) * torch.tanh(z) / (1 + EPS)
        idle = [self.igate.weight, self.fgate.weight, self.recurrent_kernel, *self.conv1d_cell.parameters()]
        return self.outnorm(without_influence(y.flatten(-2), idle))

    def _input_terms(self, convolved: Tensor, x: Tensor) -> Tensor:
        """What the gates receive from the input, `[T, N, 4, d, B]`."""
        dtype = accumulator_dtype(x)
        i_f = torch.cat([self.igate.weight, self.fgate.weight], dim=2).transpose(1, 2)  # [N, 2 d out, d in]
        z_o = torch.cat([self.zgate.weight, self.ogate.weight], dim=2).transpose(1, 2)
        halves = [w @ self._features_first(a) for w, a in ((i_f, convolved), (z_o, x))]
        terms = torch.cat([half.unflatten(2, (2, -1)) for half in halves], dim=2)
        return terms.to(dtype) + self.bias[..., None].to(dtype)

    def _features_first(self, x: Tensor) -> Tensor:
        """`[B, T, H]` as `[T, N, d, B]`, and `[B, H]` as `[N, d, B]`."""
        return x.movedim(0, -1).unflatten(-2, (self.n_heads, -1))

    def _output(self, ys: Tensor, dtype: torch.dtype) -> Tensor:
        return self.outnorm(ys.flatten(1, 2).permute(2, 0, 1).to(dtype))


class HeadMatrices(nn.Module):
    """One square matrix a head, `weight` `[N, d in, d out]`; normal with variance 2 / (5 d) at first."""

    def __init__(self, n_heads: int, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_heads, d, d) * (2 / (5 * d)) ** 0.5)
