"""C: causal convolution over the last K steps of an episode.

    y_t = b + sum_k W_k x_{t-K+1+k},   k = 0..K-1,   steps before the episode's start counting as zero

W_k is one factor per feature (depthwise) or a matrix (`mixing`). sLSTM and mLSTM also contain this convolution (Beck et
al. 2024, arXiv:2405.04517).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.shared import ParameterCache, State, accumulator_dtype
from memexp.cortex.kernels.conv import depthwise_conv, depthwise_step, has_step_kernel


class CausalConv(nn.Module):
    """Causal convolution. State: `conv` `[B, K, H]`, the last K inputs of the episode, oldest first."""

    def __init__(self, d_hidden: int, kernel: int = 4, mixing: bool = False) -> None:
        super().__init__()
        if kernel < 1:
            raise ValueError(f"causal convolution: kernel={kernel} must be at least 1")
        self.d_hidden, self.kernel, self.mixing = d_hidden, kernel, mixing
        self.conv = nn.Conv1d(d_hidden, d_hidden, kernel, groups=1 if mixing else d_hidden)  # only holds W and b
        self.factors = ParameterCache()

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"conv": torch.zeros(batch, self.kernel, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        bias = self.conv.bias
        assert bias is not None
        if state is None:
            last_tap = self.conv.weight[..., -1]
            return (F.linear(x, last_tap, bias) if self.mixing else torch.addcmul(bias, x, last_tap[:, 0])), {}
        T, K = x.shape[1], self.kernel
        factors = self.factors(oldest_first, self.conv.weight)
        if T == 1 and not self.mixing and has_step_kernel(x, state["conv"], factors):
            y, last = depthwise_step(state["conv"], x[:, 0], factors, bias, resets)
            return y[:, None], {"conv": last}
        past = state["conv"].to(x.dtype)
        if T == 1 and resets is not None:  # a reset then clears the whole past
            past, resets = past * ~resets[..., None], None
        run = torch.cat([past, x], dim=1)
        same_episode, kept = lags_in_episode(resets, K, accumulator_dtype(x))
        if self.mixing:
            y = bias
            for lag, counts in enumerate(same_episode):
                before = run[:, K - lag : K - lag + T]
                y = y + F.linear(
                    before if counts is None else before * counts.to(x.dtype), self.conv.weight[..., K - 1 - lag]
                )
        else:
            dtype = accumulator_dtype(x)
            by_lag = factors.flip(0).to(dtype)
            y = depthwise_conv(run[:, 1:].to(dtype), by_lag, bias.to(dtype), same_episode).to(x.dtype)
        last = run[:, T:] if kept is None else run[:, T:] * kept.to(x.dtype)
        return y, {"conv": last.to(state["conv"].dtype)}


def oldest_first(weight: Tensor) -> Tensor:
    """The factors of a depthwise convolution, `[K, H]` of `[H, 1, K]`."""
    return weight[:, 0].t().contiguous()


def lags_in_episode(resets: Tensor | None, K: int, dtype: torch.dtype) -> tuple[list[Tensor | None], Tensor | None]:
    """Whether the step at each lag < K belongs to the same episode: per lag `[B, T, 1]`, 1 or 0; None if all do.

    Also the same for the last step only, `[B, K, 1]`, oldest first.
    """
    counts: list[Tensor | None] = [None] * K
    if resets is None:
        return counts, None
    T = resets.shape[1]
    same = torch.ones_like(resets)
    last = [same[:, -1:]]
    for lag in range(1, K):  # no start at any of the steps between
        same = same & ~F.pad(resets, (lag - 1, 0))[:, :T]
        counts[lag] = same[..., None].to(dtype)
        last.append(same[:, -1:])
    return counts, torch.cat(last[::-1], dim=1)[..., None].to(dtype)
