"""The GRU-style gate of GTrXL: its equations, and the same with a hand-written backward pass.

Gates take most of the arithmetic of a gated block, and their many pointwise operations most of its memory traffic.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from memexp.cortex.kernels.linear import gradient_of_weight, product


def gru_gate(x: Tensor, y: Tensor, from_y: Tensor, from_x: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """Parisotto et al. 2020 (arXiv:1910.06764), section 3.2.

    Args:
        x, y: `[..., H]`, what is kept and what is let in.
        from_y: `[3 * H, H]`, the matrices W_r, W_z, W_g one below the other.
        from_x: `[2 * H, H]`, U_r and U_z.
        candidate: `[H, H]`, U_g.
        bias: `[H]`, b_g; the larger, the more is kept.
    """
    if torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return gru_gate_plain(x, y, from_y, from_x, candidate, bias)
    return _GRUGate.apply(x, y, from_y, from_x, candidate, bias)  # type: ignore[return-value]


def gru_gate_plain(x: Tensor, y: Tensor, from_y: Tensor, from_x: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """What `gru_gate` computes, as the equations say; the oracle of its tests."""
    ry, zy, hy = F.linear(y, from_y).chunk(3, dim=-1)
    rx, zx = F.linear(x, from_x).chunk(2, dim=-1)
    r, z = torch.sigmoid(ry + rx), torch.sigmoid(zy + zx - bias)
    h = torch.tanh(hy + F.linear(r * x, candidate))
    return (1 - z) * x + z * h


class _GRUGate(torch.autograd.Function):
    """`gru_gate_plain` in few passes over the data; tanh(a) = 2 sigmoid(2a) - 1 is several times faster than tanh."""

    @staticmethod
    def forward(ctx, x, y, from_y, from_x, candidate, bias):
        shape, width = x.shape, x.shape[-1]
        x, y = x.reshape(-1, width), y.reshape(-1, width)
        gates, of_y = product(x, from_x), product(y, from_y)  # r and z; the terms of y to r, z and h
        gates[:, width:].sub_(bias)
        gates.add_(of_y[:, : 2 * width]).sigmoid_()
        r, z = gates.chunk(2, dim=1)
        reset = r * x
        h = product(reset, candidate).add_(of_y[:, 2 * width :]).mul_(2).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(x, y, gates, h, reset, from_y, from_x, candidate)
        return torch.addcmul(x, z, h - x).view(shape)

    @staticmethod
    def backward(ctx, *grads):
        x, y, gates, h, reset, from_y, from_x, candidate = ctx.saved_tensors
        width = x.shape[1]
        d_out = grads[0].reshape(-1, width)
        r, z = gates.chunk(2, dim=1)
        d_terms, d_gates = x.new_empty(len(x), 3 * width), torch.empty_like(gates)
        let_in = d_out * z
        dh = torch.addcmul(let_in, let_in, h * h, value=-1)
        d_reset = product(dh, candidate.t())
        torch.mul(d_reset * reset, 1 - r, out=d_gates[:, :width])
        torch.mul(let_in * (1 - z), h - x, out=d_gates[:, width:])
        d_terms[:, : 2 * width], d_terms[:, 2 * width :] = d_gates, dh
        dx = product(d_gates, from_x.t()).add_(d_out).sub_(let_in).addcmul_(d_reset, r)
        dy = product(d_terms, from_y.t())
        weights = (gradient_of_weight(a, b) for a, b in ((d_terms, y), (d_gates, x), (dh, reset)))
        return dx.view(grads[0].shape), dy.view(grads[0].shape), *weights, -d_gates[:, width:].sum(0)
