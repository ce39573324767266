"""The pointwise passes of the gate in PyTorch, for any device. Sizes: n rows, W features."""

import torch
from torch import Tensor


def gates(x: Tensor, of_y: Tensor, bias: Tensor, gates: Tensor) -> Tensor:
    """r x. Replaces `gates` `[n, 2 W]`, the part of r and z from x, by r and z; of_y `[n, 3 W]` is the part from y."""
    width = x.shape[1]
    gates[:, width:].sub_(bias)
    gates.add_(of_y[:, : 2 * width]).sigmoid_()
    return gates[:, :width] * x


def mix(x: Tensor, of_y: Tensor, gates: Tensor, h: Tensor) -> Tensor:
    """(1 - z) x + z h. Replaces h `[n, W]`, its part from r x, by the candidate h."""
    width = x.shape[1]
    h.add_(of_y[:, 2 * width :]).tanh_()
    return torch.addcmul(x, gates[:, width:], h - x)


def candidate_backward(d_out: Tensor, gates: Tensor, h: Tensor) -> Tensor:
    """The gradient of the input of h's tanh, `[n, W]`."""
    let_in = d_out * gates[:, h.shape[1] :]
    return torch.addcmul(let_in, let_in, h * h, value=-1)


def gates_backward(
    d_out: Tensor, x: Tensor, gates: Tensor, h: Tensor, dh: Tensor, d_reset: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the inputs of r, z and h `[n, 3 W]`, of r and z only `[n, 2 W]`, of x (without the path through the
    gates) and of the bias."""
    r, z = gates.chunk(2, dim=1)
    dr, dz = d_reset * x * r * (1 - r), d_out * (h - x) * z * (1 - z)
    d_gates = torch.cat([dr, dz], dim=1)
    dx = torch.addcmul(d_out * (1 - z), d_reset, r)
    return torch.cat([d_gates, dh], dim=1), d_gates, dx, -dz.sum(0)
