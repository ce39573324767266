"""The definition of the mixture of experts."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mix_experts_plain(
    x: Tensor, u: Tensor, ys: Tensor, query: Tensor, q_bias: Tensor, gate_w: Tensor, gate_b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """The definition of `mix_experts`, which its tests compare with."""
    D = ys.movedim(0, -2) - u.unsqueeze(-2)  # [..., E, H]
    alpha = torch.softmax(gate_b + F.linear(u, gate_w), dim=-1)
    shared = (query.unsqueeze(-2) * D).sum(-1, keepdim=True)  # [..., f, 1]
    attention = torch.softmax((D @ q_bias.t() + shared) * scale, dim=-2)  # [..., f, e]
    weights = (attention * alpha.unsqueeze(-2)).sum(-1)
    total = (alpha.unsqueeze(-1) * D).sum(-2) + u - x
    return total, (weights.unsqueeze(-1) * D).sum(-2)
