"""The diagonal complex recurrence of Axon, step by step as the equations say.

Complex numbers are pairs `[..., 2, H]`: ONNX has no others.
"""

import torch
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product of complex numbers."""
    (real, imag), (x, y) = a.unbind(-2), b.unbind(-2)
    return torch.stack([real * x - imag * y, real * y + imag * x], dim=-2)


def carry_traces(
    traces: Tensor, sums: Tensor, by_state: Tensor, by_input: Tensor, past: Tensor, alive: Tensor
) -> Tensor:
    """alive past E_p + by_state (sum of states) + by_input (sum of inputs), all complex, for each parameter p."""
    states, inputs = (pair.unsqueeze(1) for pair in sums.split(2, dim=1))
    return product(past, traces * alive[:, None, None, None]) + product(by_state, states) + product(by_input, inputs)


def rtu_plain(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The definition of `rtu`: a loop over steps, which its tests compare with."""
    c, states, inputs, cs = c0, torch.zeros_like(c0), torch.zeros_like(c0), []
    for t in range(u.shape[1]):
        if resets is not None:
            c, states, inputs = (a * ~resets[:, t, None, None] for a in (c, states, inputs))
        x = torch.stack([u[:, t], torch.zeros_like(u[:, t])], dim=1)
        states, inputs = product(decay, states) + c, product(decay, inputs) + x
        c = product(decay, c) + product(weight, x)
        cs.append(c)
    return torch.stack(cs, dim=1), torch.cat([states, inputs], dim=1).detach()
