"""G-: minGRU (Feng et al. 2024, arXiv:2410.01201, appendix B), a GRU whose gate and candidate see the input alone.

z = sigmoid(W_z x + b_z)        c = g(W_c x + b_c)        h' = (1 - z) h + z c        y = h'

with g(a) = a + 1/2 where a >= 0, else sigmoid(a): candidates are positive.
"""

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import State, accumulator_dtype, full_precision
from memexp.cortex.kernels.linear import Linear
from memexp.cortex.kernels.scan import scan


class MinGRU(nn.Module):
    """minGRU. State: `h` `[B, H]`."""

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        self.gate_and_candidate = Linear(d_hidden, 2 * d_hidden)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"h": torch.zeros(batch, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        gate, raw = self.gate_and_candidate(x).to(accumulator_dtype(x)).chunk(2, dim=-1)
        drive = torch.sigmoid(gate) * torch.where(raw >= 0, raw + 0.5, torch.sigmoid(raw))
        if state is None:
            return drive.to(x.dtype), {}
        with full_precision(x):
            h, after = scan(torch.sigmoid(-gate), drive, state["h"].to(drive.dtype), resets)
        return h.to(x.dtype), {"h": after.to(state["h"].dtype)}
