"""W: frame stacking (Mnih et al. 2015): the last k inputs of the episode side by side, then two linear layers.

y_t = W_2 silu(W_1 [x_{t-k+1}, ..., x_t] + b_1) + b_2,    x before the episode is 0
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.shared import State
from memexp.cortex.kernels.linear import Linear


class Frames(nn.Module):
    """Frame stacking. State: `frames` `[B, k - 1, H]`, the inputs before this one, zeros before the episode."""

    def __init__(self, d_hidden: int, frames: int = 4) -> None:
        super().__init__()
        self.d_hidden, self.frames = d_hidden, frames
        self.stacked, self.out = Linear(frames * d_hidden, d_hidden), Linear(d_hidden, d_hidden)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"frames": torch.zeros(batch, self.frames - 1, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        if state is None:
            return self.out(F.silu(self.stacked(F.pad(x, ((self.frames - 1) * self.d_hidden, 0))))), {}
        earlier, T = self.frames - 1, x.shape[1]
        every = torch.cat([state["frames"].to(x.dtype), x], dim=1)  # [B, k - 1 + T, H]
        windows, after = every.unfold(1, self.frames, 1).transpose(2, 3), every[:, T:]  # [B, T, k, H], oldest first
        if resets is not None:
            episode = F.pad(resets.long().cumsum(1), (earlier, 0))  # the number of resets until each input
            numbers = episode.unfold(1, self.frames, 1)
            windows = torch.where((numbers == numbers[..., -1:])[..., None], windows, 0)
            after = torch.where((episode == episode[:, -1:])[:, T:, None], after, 0)
        return self.out(F.silu(self.stacked(windows.flatten(2)))), {"frames": after.to(state["frames"].dtype)}
