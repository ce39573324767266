"""C: causal convolution over the last K steps of an episode.

    y_t = b + sum_k W_k x_{t-K+1+k},   k = 0..K-1,   steps before the episode's start counting as zero

W_k is one factor a feature (depthwise) or a matrix (`mixing`). It is also the local memory inside sLSTM and mLSTM
(Beck et al. 2024, arXiv:2405.04517).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.shared import State


class CausalConv(nn.Module):
    """Causal convolution. State: `conv` `[B, K, H]`, the last K inputs of the episode, oldest first."""

    def __init__(self, d_hidden: int, kernel: int = 4, mixing: bool = False) -> None:
        super().__init__()
        if kernel < 1:
            raise ValueError(f"causal convolution: kernel={kernel} must be at least 1")
        self.d_hidden, self.kernel, self.mixing = d_hidden, kernel, mixing
        self.conv = nn.Conv1d(d_hidden, d_hidden, kernel, groups=1 if mixing else d_hidden)  # holds W and b, no more

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"conv": torch.zeros(batch, self.kernel, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        assert self.conv.bias is not None
        if state is None:
            return self._tap(0, x) + self.conv.bias, {}
        y = self._tap(0, x) + self.conv.bias
        T, K = x.shape[1], self.kernel
        past = state["conv"].to(x.dtype)
        run = torch.cat([past, x], dim=1)
        last = run[:, -K:]
        other_episode = None  # [B, T], whether the step `lag` steps back belongs to another episode
        blocked = []
        for lag in range(1, K):
            before = run[:, K - lag : K - lag + T]
            if resets is not None:
                start = F.pad(resets, (lag - 1, 0))[:, :T]
                other_episode = start if other_episode is None else other_episode | start
                before = before * ~other_episode[..., None]
                blocked.append(other_episode[:, -1:])
            y = y + self._tap(lag, before)
        if blocked:
            cut = torch.cat([*reversed(blocked), torch.zeros_like(blocked[0])], dim=1)
            last = last * ~cut[..., None]
        return y, {"conv": last.to(state["conv"].dtype)}

    def _tap(self, lag: int, x: Tensor) -> Tensor:
        weight = self.conv.weight[..., self.kernel - 1 - lag]
        return F.linear(x, weight) if self.mixing else x * weight[:, 0]
