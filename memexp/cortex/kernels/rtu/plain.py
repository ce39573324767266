"""The diagonal complex recurrence of Axon, step by step as the equations say."""

import torch
from torch import Tensor


def carry_traces(
    traces: Tensor, sums: Tensor, by_state: Tensor, by_input: Tensor, past: Tensor, alive: Tensor
) -> Tensor:
    """alive past E_p + by_state (sum of states) + by_input (sum of inputs), all complex, for each parameter p."""

    def pair(a: Tensor) -> Tensor:
        return torch.complex(*a.unbind(-2))

    states, inputs = (pair(a).unsqueeze(1) for a in sums.split(2, dim=1))
    kept = (pair(past) * alive[:, None]).unsqueeze(1) * pair(traces)
    after = kept + pair(by_state) * states + pair(by_input) * inputs
    return torch.stack([after.real, after.imag], dim=2)


def rtu_plain(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The definition of `rtu`: a loop over steps, which its tests compare with."""
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
