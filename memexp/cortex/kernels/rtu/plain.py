"""The diagonal complex recurrence of Axon, step by step as the equations say."""

import torch
from torch import Tensor


def rtu_plain(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """What `rtu` computes, by a loop over steps; the oracle of its tests."""
    lam, w, c = (torch.complex(*pair.unbind(-2)) for pair in (decay, weight, c0))
    states, inputs, cs = torch.zeros_like(c), torch.zeros_like(c), []
    for t in range(u.shape[1]):
        if resets is not None:
            c, states, inputs = (a * ~resets[:, t, None] for a in (c, states, inputs))
        states, inputs = lam * states + c, lam * inputs + u[:, t]
        c = lam * c + w * u[:, t]
        cs.append(c)
    pairs = [part for sums in (states, inputs) for part in (sums.real, sums.imag)]
    y = torch.stack(cs, dim=1)
    return torch.stack([y.real, y.imag], dim=2), torch.stack(pairs, dim=1).detach()
