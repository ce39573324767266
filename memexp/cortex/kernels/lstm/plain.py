"""The LSTM recurrence, step by step as the equations say."""

import torch
from torch import Tensor
from torch.nn import functional as F


def lstm_plain(terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The definition of `lstm`: a loop over steps, which its tests compare with."""
    h, c = state.unbind(1)
    hs = []
    for t in range(terms.shape[1]):
        if resets is not None:
            h, c = h * ~resets[:, t, None], c * ~resets[:, t, None]
        i, f, g, o = (terms[:, t] + F.linear(h, recurrent)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        hs.append(h)
    return torch.stack(hs, dim=1), torch.stack([h, c], dim=1)
