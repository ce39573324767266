"""The GRU-style gate of GTrXL: its equations, and the same with a hand-written backward pass.

Gates take most of the arithmetic of a gated block, and their many pointwise operations most of its memory traffic.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def gru_gate(x: Tensor, y: Tensor, from_y: Tensor, from_x: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """Parisotto et al. 2020 (arXiv:1910.06764), section 3.2.

    Args:
        x, y: `[..., H]`, what is kept and what is let in.
        from_y: `[3 * H, H]`, the matrices W_r, W_z, W_g one below the other.
        from_x: `[2 * H, H]`, U_r and U_z.
        candidate: `[H, H]`, U_g.
        bias: `[H]`, b_g; the larger, the more is kept.
    """
    if torch.is_autocast_enabled(x.device.type):
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
        terms = y @ from_y.t()
        gates, h = terms[:, : 2 * width], terms[:, 2 * width :]
        gates.addmm_(x, from_x.t())
        gates[:, width:].sub_(bias)
        gates.sigmoid_()
        r, z = gates.chunk(2, dim=1)
        reset = r * x
        h.addmm_(reset, candidate.t()).mul_(2).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(x, y, terms, reset, from_y, from_x, candidate)
        return torch.addcmul(x, z, h - x).view(shape)

    @staticmethod
    def backward(ctx, *grads):
        x, y, terms, reset, from_y, from_x, candidate = ctx.saved_tensors
        width = x.shape[1]
        d_out = grads[0].reshape(-1, width)
        r, z, h = terms.chunk(3, dim=1)
        d_terms = torch.empty_like(terms)
        dr, dz, dh = d_terms.chunk(3, dim=1)
        let_in = d_out * z
        torch.addcmul(let_in, let_in, h * h, value=-1, out=dh)
        torch.mul(let_in * (1 - z), h - x, out=dz)
        d_reset = dh @ candidate
        torch.mul(d_reset * reset, 1 - r, out=dr)
        d_gates = d_terms[:, : 2 * width]
        dx = torch.addmm(d_out - let_in, d_gates, from_x).addcmul_(d_reset, r)
        d_from_y, d_from_x, d_candidate = d_terms.t() @ y, d_gates.t() @ x, dh.t() @ reset
        shape = grads[0].shape
        return dx.view(shape), (d_terms @ from_y).view(shape), d_from_y, d_from_x, d_candidate, -dz.sum(0)
