"""M: mLSTM, the matrix memory of xLSTM (Beck et al. 2024, arXiv:2405.04517, eq. 19-27), without projections of q and k.

    x^ = silu(causal_conv(x))    q = k = x^    v = x    i~ = W_i [q|k|v] + b_i    f~ = W_f [q|k|v] + b_f  (one a head)
    l  = log sigmoid(f~) + m     m' = max(l, i~)        f = exp(l - m')           i = exp(i~ - m')
    C' = f C + i k v^T / sqrt(d)                        n' = f n + i k / sqrt(d)
    h  = q^T C' / (max(|q . n'|, exp(-m')) + 1e-6)      output = head_norm(h)

A sequence runs in chunks: attention within a chunk, recurrence between chunks. With b_t the sum of log sigmoid(f~) from
the start of the chunk to t, step s contributes to step t with weight exp(i~_s + b_t - b_s - m_t). m_t is the maximum of
i~_s + b_t - b_s over s, where the carried state counts as one more step.

M^ has q = k = silu(A_1(x^)) and v = A_2(x) with Axon layers A, and Axon layers as gates.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.axon import AxonLayer
from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.cells.shared import (
    HeadNorm,
    State,
    accumulator_dtype,
    add_product,
    check_heads,
    full_precision,
    in_chunks,
    join_states,
    reaches_in_chunk,
    split_state,
)
from memexp.cortex.kernels.linear import Linear

AXON_PREFIXES = ["qk.", "v.", "igate.", "fgate."]
EPS = 1e-6
Memory = tuple[Tensor, Tensor, Tensor]
"""C `[B, N, d, d]` (key, value), n `[B, N, d]`, m `[B, N]`."""


class MLSTM(nn.Module):
    """mLSTM. State: `c` `[B, N, d, d]`, `n` `[B, N, d]`, `m` `[B, N]`, the convolution's `conv` `[B, K, H]`, and the
    states of Axon layers."""

    def __init__(
        self, d_hidden: int, n_heads: int = 4, conv_kernel: int = 4, chunk: int = 64, axon: bool = False
    ) -> None:
        super().__init__()
        check_heads("mLSTM", d_hidden, n_heads)
        self.n_heads, self.d, self.chunk = n_heads, d_hidden // n_heads, chunk
        self.conv1d_cell = CausalConv(d_hidden, conv_kernel)
        self.axon = axon
        if axon:
            self.qk_layer, self.v_layer = AxonLayer(d_hidden, d_hidden), AxonLayer(d_hidden, d_hidden)
            igate, fgate = AxonLayer(3 * d_hidden, n_heads), AxonLayer(3 * d_hidden, n_heads)
            linear_i, linear_f = igate.linear, fgate.linear
        else:
            igate = linear_i = Linear(3 * d_hidden, n_heads)
            fgate = linear_f = Linear(3 * d_hidden, n_heads)
        self.igate, self.fgate = igate, fgate
        nn.init.zeros_(linear_i.weight)
        nn.init.zeros_(linear_f.weight)
        nn.init.normal_(linear_i.bias, std=0.1)
        with torch.no_grad():
            linear_f.bias.copy_(torch.linspace(3.0, 6.0, n_heads))
        self.outnorm = HeadNorm(d_hidden, n_heads)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        sizes = {"c": (self.d, self.d), "n": (self.d,), "m": ()}
        state = {k: torch.zeros(batch, self.n_heads, *size, device=device, dtype=dtype) for k, size in sizes.items()}
        if self.axon:
            layers = (self.qk_layer, self.v_layer, self.igate, self.fgate)
            state |= join_states(AXON_PREFIXES, [layer.init_state(batch, device, dtype) for layer in layers])  # type: ignore[operator]
        return state | self.conv1d_cell.init_state(batch, device, dtype)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        convolved, conv_state = self.conv1d_cell(x, state, resets)
        (k, v, i, f), axon_states = self._terms(F.silu(convolved), x, state, resets)
        if state is None:  # every step by itself, from m = 0
            return self._first_steps(k, v, i, f, x.dtype), {}
        dtype = accumulator_dtype(x)
        memory: Memory = (state["c"].to(dtype), state["n"].to(dtype), state["m"].to(dtype))
        with full_precision(x):
            h, memory = in_chunks(run_chunk, self.chunk, (k, v, i, f), memory, resets)
        new = {key: leaf.to(state[key].dtype) for key, leaf in zip(("c", "n", "m"), memory, strict=True)}
        return self._output(h, x.dtype), new | conv_state | axon_states

    def _terms(
        self, convolved: Tensor, x: Tensor, state: State | None, resets: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], State]:
        """q = k and v `[B, N, T, d]`, i~ and log sigmoid(f~) `[B, N, T]`; and the new states of Axon layers."""
        dtype, new = accumulator_dtype(x), {}
        if self.axon:
            qk_state, v_state, i_state, f_state = split_state(AXON_PREFIXES, state)
            k, qk_after = self.qk_layer(convolved, qk_state, resets)
            k = F.silu(k)
            v, v_after = self.v_layer(x, v_state, resets)
            both = torch.cat([k, k, v], dim=-1)
            (i, i_after), (f, f_after) = self.igate(both, i_state, resets), self.fgate(both, f_state, resets)
            new = join_states(AXON_PREFIXES, [qk_after, v_after, i_after, f_after])
        else:
            k, v = convolved, x
            both = torch.cat([k, k, v], dim=-1)
            i, f = self.igate(both), self.fgate(both)
        k, v = (a.to(dtype).unflatten(-1, (self.n_heads, self.d)).transpose(1, 2) for a in (k, v))
        i, f = (a.to(dtype).transpose(1, 2) for a in (i, f))
        return (k, v, i, F.logsigmoid(f)), new

    def _first_steps(self, k: Tensor, v: Tensor, i: Tensor, f: Tensor, dtype: torch.dtype) -> Tensor:
        m = torch.maximum(f, i)
        match = torch.exp(i - m) * (k * k).sum(-1) / math.sqrt(self.d)
        return self._output(v * (match / (torch.maximum(match.abs(), torch.exp(-m)) + EPS))[..., None], dtype)

    def _output(self, h: Tensor, dtype: torch.dtype) -> Tensor:
        return self.outnorm(h.transpose(1, 2).flatten(2).to(dtype))


def run_chunk(k: Tensor, v: Tensor, i: Tensor, log_f: Tensor, memory: Memory, resets: Tensor) -> tuple[Tensor, Memory]:
    """One chunk of steps: h `[B, N, T, d]` before the norm, and the memory after the last step.

    k (also the queries), v `[B, N, T, d]`; i, log_f `[B, N, T]`; resets `[B, T]`.
    """
    C, n, m = memory
    T, scale = k.shape[2], 1 / math.sqrt(k.shape[3])
    reaches, started = reaches_in_chunk(resets)
    decay = log_f.cumsum(2)  # b_t
    # Exponents before m_t is subtracted: of each earlier step, and of the fresh or carried state.
    from_steps = (i - decay)[:, :, None] + decay[..., None]
    fresh = (log_f - decay).masked_fill(~resets[:, None], -torch.inf)  # m = 0 just before an episode's first step
    from_start = torch.where(reaches, fresh[:, :, None] + decay[..., None], -torch.inf).amax(3)
    from_memory = (decay + m[..., None]).masked_fill(~started, -torch.inf)
    highest = from_steps.masked_fill(~reaches, -torch.inf).amax(3)
    m_t = torch.maximum(torch.maximum(highest, from_start), from_memory)
    weight = torch.exp((from_steps - m_t[..., None]).masked_fill(~reaches, -torch.inf)) * scale
    carried = torch.exp(from_memory - m_t)  # [B, N, T]
    scores = weight * (k @ k.transpose(2, 3))
    numerator = scores @ v + carried[..., None] * (k @ C)
    denominator = scores.sum(3) + carried * (k @ n[..., None]).squeeze(3)
    h = numerator / (torch.maximum(denominator.abs(), torch.exp(-m_t)) + EPS)[..., None]
    last = weight[:, :, T - 1, :, None] * k  # [B, N, T, d]
    left = carried[:, :, -1, None]
    C = add_product(left[..., None] * C, last.transpose(2, 3), v)
    return h, (C, left * n + last.sum(2), m_t[..., -1])
