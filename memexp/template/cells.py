"""minGRU (Feng et al. 2024, arXiv:2410.01201, equation 4): a GRU whose gate and candidate see the input alone.

`pattern: cells:MinGRU` uses it as a memory cell; `memexp check cells:MinGRU` tests it.
"""

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""All that the cell remembers: tensors whose first size is the number of sequences."""


class MinGRU(nn.Module):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t with z_t = sigmoid(W_z x_t) and c_t = W_c x_t."""

    def __init__(self, d_hidden: int):
        super().__init__()
        self.gate = nn.Linear(d_hidden, d_hidden)
        self.candidate = nn.Linear(d_hidden, d_hidden)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        """The state before the first step of an episode."""
        return {"h": torch.zeros(batch, self.gate.out_features, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State, resets: Tensor) -> tuple[Tensor, State]:
        """x `[batch, time, d_hidden]`, resets `[batch, time]` bool: True where an episode begins at that step.

        Returns y `[batch, time, d_hidden]` and the state after the last step.
        """
        z = self.gate(x).sigmoid()
        keep = (1 - z).masked_fill(resets.unsqueeze(-1), 0)  # an episode begins with nothing to remember
        new = z * self.candidate(x)
        h, steps = state["h"], []
        for t in range(x.shape[1]):
            h = keep[:, t] * h + new[:, t]
            steps.append(h)
        return torch.stack(steps, dim=1), {"h": h}
