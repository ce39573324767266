"""L: one LSTM layer (Hochreiter & Schmidhuber 1997), hidden size = input size.

(i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh
c' = sigmoid(f) c + sigmoid(i) tanh(g)        h' = sigmoid(o) tanh(c')        y = h'
"""

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import State, accumulator_dtype, full_precision, with_zero_gradient
from memexp.cortex.kernels.linear import linear
from memexp.cortex.kernels.lstm import lstm


class LSTM(nn.Module):
    """LSTM. State: `hc` `[B, 2, H]`, h and c."""

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        # Only the parameters of torch.nn.LSTM, with their names: torch.compile does not accept the module.
        self.net = nn.ParameterDict(nn.LSTM(d_hidden, d_hidden).named_parameters())
        for name, parameter in self.net.named_parameters():
            nn.init.orthogonal_(parameter) if name.startswith("weight") else nn.init.ones_(parameter)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return {"hc": torch.zeros(batch, 2, self.d_hidden, device=device, dtype=dtype)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        w_ih, w_hh, b_ih, b_hh = (self.net[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        terms = linear(x, w_ih, b_ih + b_hh)
        if state is None:
            i, _, g, o = terms.chunk(4, dim=-1)
            y = torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(g))
            return with_zero_gradient(y, [w_hh]), {}
        dtype = accumulator_dtype(x)
        with full_precision(x):
            h, after = lstm(terms.to(dtype), w_hh.to(dtype), state["hc"].to(dtype), resets)
        return h.to(x.dtype), {"hc": after.to(state["hc"].dtype)}
