"""G: one GRU layer (Cho et al. 2014, arXiv:1406.1078), hidden size = input size, in the form of torch.nn.GRU.

r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
n = tanh(W_in x + b_in + r (W_hn h + b_hn))       h' = (1 - z) n + z h        y = h'
"""

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import State, accumulator_dtype, full_precision, with_zero_gradient
from memexp.cortex.kernels.gru import gru
from memexp.cortex.kernels.linear import linear


class GRU(nn.Module):
    """GRU. State: `h` `[B, 1, H]`."""

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        # Only the parameters of torch.nn.GRU, with their names: torch.compile does not accept the module.
        self.net = nn.ParameterDict(nn.GRU(d_hidden, d_hidden).named_parameters())
        for name, parameter in self.net.named_parameters():
            nn.init.orthogonal_(parameter) if name.startswith("weight") else nn.init.zeros_(parameter)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"h": torch.zeros(batch, 1, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        w_ih, w_hh, b_ih, b_hh = (self.net[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        H = self.d_hidden
        of_gates = torch.cat([b_hh[: 2 * H], torch.zeros_like(b_hh[2 * H :])])
        terms = linear(x, w_ih, b_ih + of_gates)
        if state is None:
            r, z, n = terms.chunk(3, dim=-1)
            y = torch.sigmoid(-z) * torch.tanh(n + torch.sigmoid(r) * b_hh[2 * H :])
            return with_zero_gradient(y, [w_hh]), {}
        dtype = accumulator_dtype(x)
        terms = torch.cat([terms.to(dtype), b_hh[2 * H :].to(dtype).expand(*terms.shape[:-1], H)], dim=-1)
        with full_precision(x):
            h, after = gru(terms, w_hh.to(dtype), state["h"].to(dtype), resets)
        return h.to(x.dtype), {"h": after.to(state["h"].dtype)}
