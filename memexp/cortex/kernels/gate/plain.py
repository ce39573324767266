"""The definition of the gate of GTrXL."""

import torch
from torch import Tensor
from torch.nn import functional as F


def gru_gate_plain(x: Tensor, y: Tensor, from_y: Tensor, from_x: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """The definition of `gru_gate`, which its tests compare with."""
    ry, zy, hy = F.linear(y, from_y).chunk(3, dim=-1)
    rx, zx = F.linear(x, from_x).chunk(2, dim=-1)
    r, z = torch.sigmoid(ry + rx), torch.sigmoid(zy + zx - bias)
    h = torch.tanh(hy + F.linear(r * x, candidate))
    return (1 - z) * x + z * h
