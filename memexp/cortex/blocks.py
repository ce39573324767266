"""Blocks: the norms, gates and feed-forward layers around a cell.

A block is called like its cell and has its cell's state. Norms inside blocks have a weight and no bias.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.shared import ParameterCache, State
from memexp.cortex.kernels.gate import gru_gate
from memexp.cortex.kernels.linear import Linear, activated_linear
from memexp.cortex.kernels.norm import layer_norm


class GRUGate(nn.Module):
    """A gate instead of a residual sum (GTrXL: Parisotto et al. 2020, arXiv:1910.06764, section 3.2); x, y `[..., H]`.

    r = sigmoid(W_r y + U_r x)    z = sigmoid(W_z y + U_z x - b_g)    h = tanh(W_g y + U_g (r x))    (1 - z) x + z h
    """

    def __init__(self, width: int, bias: float = 2.0) -> None:
        super().__init__()
        self.Wr, self.Ur, self.Wz, self.Uz, self.Wg, self.Ug = (Linear(width, width, bias=False) for _ in range(6))
        self.bg = nn.Parameter(torch.full((width,), bias))
        self.from_y, self.from_x = ParameterCache(), ParameterCache()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        from_y = self.from_y(stacked, self.Wr.weight, self.Wz.weight, self.Wg.weight)
        from_x = self.from_x(stacked, self.Ur.weight, self.Uz.weight)
        return gru_gate(x, y, from_y, from_x, self.Ug.weight, self.bg)


def stacked(*matrices: Tensor) -> Tensor:
    return torch.cat(matrices)


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm without bias, computed by our `layer_norm`."""

    def __init__(self, width: int) -> None:
        super().__init__(width, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return layer_norm(input, self.weight, self.eps)


class Block(nn.Module):
    """A cell and its surroundings; the state is the cell's."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return self.cell.init_state(batch, device, dtype)  # type: ignore[operator]


class PassThrough(Block):
    """y = cell(x)."""

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        return self.cell(x, state, resets)


class PostUpGated(Block):
    """a = Gate1(x, cell(LN(x))),  y = Gate2(a, W_2 silu(W_1 LN(a))).  The feed-forward part is `factor` times wider."""

    def __init__(self, cell: nn.Module, width: int, factor: float = 1.5) -> None:
        super().__init__(cell)
        inner = int(width * factor)
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.gate1, self.gate2 = GRUGate(width), GRUGate(width)
        self.ffn_in, self.ffn_out = Linear(width, inner), Linear(inner, width)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        y, after = self.cell(self.norm1(x), state, resets)
        x = self.gate1(x, y)
        return self.gate2(x, self.ffn_out(activated_linear(self.norm2(x), self.ffn_in, "silu"))), after


class PreUpGated(Block):
    """The cell works inside a feed-forward part twice as wide (`cell_width(width)`).

    (a, z) = W_in LN(x) + b,  y = Gate(x, W_out ((cell(silu(a)) + skip silu(a)) silu(z)) + b)

    The plain mLSTM reads a instead of silu(a) (`activate=False`): it applies silu after its own convolution.
    """

    def __init__(self, cell: nn.Module, width: int, activate: bool = True) -> None:
        super().__init__(cell)
        inner = self.cell_width(width)
        self.norm, self.activate = LayerNorm(width), activate
        self.in_proj, self.out_proj = Linear(width, 2 * inner), Linear(inner, width)
        self.learnable_skip = nn.Parameter(torch.ones(inner))
        self.gate = GRUGate(width)

    @staticmethod
    def cell_width(width: int) -> int:
        return 2 * width

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        a, z = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        activated = F.silu(a)
        y, after = self.cell(activated if self.activate else a, state, resets)
        return self.gate(x, self.out_proj((y + self.learnable_skip * activated) * F.silu(z))), after
