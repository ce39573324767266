"""Blocks that the published implementation has and no token stands for; the golden files hold cases of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.blocks import Block, LayerNorm, PreUpGated
from memexp.cortex.cells.shared import State
from memexp.cortex.kernels.linear import Linear


class PostUp(Block):
    """a = x + cell(LN(x)),  y = a + W_2 silu(W_1 LN(a)); the feed-forward part is `factor` times as wide."""

    def __init__(self, cell: nn.Module, width: int, factor: float = 1.5) -> None:
        super().__init__(cell)
        inner = int(width * factor)
        self.norm, self.ffn_norm = LayerNorm(width), LayerNorm(width)
        self.out1, self.out2 = Linear(width, inner), Linear(inner, width)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        y, after = self.cell(self.norm(x), state, resets)
        x = x + y
        return x + self.out2(F.silu(self.out1(self.ffn_norm(x)))), after


class PreUp(PreUpGated):
    """`PreUpGated` with a residual sum instead of the gate."""

    def __init__(self, cell: nn.Module, width: int, activate: bool = True) -> None:
        super().__init__(cell, width, activate)
        self.gate = Sum()


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Adapter(nn.Module):
    """y = y_0 + gate (W_up act(W_down LN(y_0))) with y_0 = block(x); at first gate and W_up are zero, and y = y_0."""

    def __init__(
        self,
        block: nn.Module,
        width: int,
        bottleneck: int = 64,
        per_channel_gate: bool = False,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        self.wrapped_block, self.activation, self.ln = block, activation, nn.LayerNorm(width)
        self.down, self.up = Linear(width, bottleneck), Linear(bottleneck, width)
        self.gate = nn.Parameter(torch.zeros(width if per_channel_gate else ()))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return self.wrapped_block.init_state(batch, device, dtype)  # type: ignore[operator]

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        y, after = self.wrapped_block(x, state, resets)
        return y + self.gate * self.up(self.activation(self.down(self.ln(y)))), after
