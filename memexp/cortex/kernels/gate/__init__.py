"""`gru_gate`: the GRU-style gate of GTrXL (Parisotto et al. 2020, arXiv:1910.06764, section 3.2).

`gru_gate_plain` is its definition. The fast form is matrix products, here, and four pointwise passes between them, in
`cpu.py` (Numba) and `torch_backend.py` (PyTorch). Gates are most of the arithmetic of a gated block.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from memexp.cortex.kernels.linear import gradient_of_weight, product
from memexp.cortex.kernels.shared import backend


def gru_gate(x: Tensor, y: Tensor, from_y: Tensor, from_x: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """r = sigmoid(W_r y + U_r x)    z = sigmoid(W_z y + U_z x - b)    h = tanh(W_g y + U_g (r x))    (1 - z) x + z h

    Args:
        x, y: `[..., H]`, the old value and the new input.
        from_y: `[3 * H, H]`, the matrices W_r, W_z, W_g stacked.
        from_x: `[2 * H, H]`, U_r and U_z.
        candidate: `[H, H]`, U_g.
        bias: `[H]`, b; a larger bias keeps more of x.
    """
    if torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return gru_gate_plain(x, y, from_y, from_x, candidate, bias)
    if not torch.is_grad_enabled():
        a, b = x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1])
        return _gate(a, b, from_y, from_x, candidate, bias)[0].view(x.shape)
    return _GRUGate.apply(x, y, from_y, from_x, candidate, bias)  # type: ignore[return-value]


def gru_gate_plain(x: Tensor, y: Tensor, from_y: Tensor, from_x: Tensor, candidate: Tensor, bias: Tensor) -> Tensor:
    """The definition of `gru_gate`, which its tests compare with."""
    ry, zy, hy = F.linear(y, from_y).chunk(3, dim=-1)
    rx, zx = F.linear(x, from_x).chunk(2, dim=-1)
    r, z = torch.sigmoid(ry + rx), torch.sigmoid(zy + zx - bias)
    h = torch.tanh(hy + F.linear(r * x, candidate))
    return (1 - z) * x + z * h


def _gate(
    x: Tensor, y: Tensor, from_y: Tensor, from_x: Tensor, candidate: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output `[n, H]`, r and z `[n, 2 H]`, h and r x `[n, H]`."""
    passes = backend(x, __name__)
    gates, of_y = product(x, from_x), product(y, from_y)
    reset = passes.gates(x, of_y, bias, gates)
    h = product(reset, candidate)
    return passes.mix(x, of_y, gates, h), gates, h, reset


class _GRUGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, from_y, from_x, candidate, bias):
        shape, width = x.shape, x.shape[-1]
        x, y = x.reshape(-1, width), y.reshape(-1, width)
        out, gates, h, reset = _gate(x, y, from_y, from_x, candidate, bias)
        ctx.save_for_backward(x, y, gates, h, reset, from_y, from_x, candidate)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        x, y, gates, h, reset, from_y, from_x, candidate = ctx.saved_tensors
        shape, d_out, passes = grads[0].shape, grads[0].reshape(-1, x.shape[1]), backend(x, __name__)
        dh = passes.candidate_backward(d_out, gates, h)
        d_reset = product(dh, candidate.t())
        d_terms, d_gates, dx, d_bias = passes.gates_backward(d_out, x, gates, h, dh, d_reset)
        dx += product(d_gates, from_x.t())
        weights = (gradient_of_weight(a, b) for a, b in ((d_terms, y), (d_gates, x), (dh, reset)))
        return dx.view(shape), product(d_terms, from_y.t()).view(shape), *weights, d_bias
