"""The GRU recurrence, step by step as the equations say."""

import torch
from torch import Tensor
from torch.nn import functional as F


def gru_plain(terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The definition of `gru`: a loop over steps, which its tests compare with."""
    h = state[:, 0]
    hs = []
    for t in range(terms.shape[1]):
        if resets is not None:
            h = h * ~resets[:, t, None]
        to_r, to_z, to_n, bias = terms[:, t].chunk(4, dim=-1)
        from_r, from_z, from_n = F.linear(h, recurrent).chunk(3, dim=-1)
        r, z = torch.sigmoid(to_r + from_r), torch.sigmoid(to_z + from_z)
        h = (1 - z) * torch.tanh(to_n + r * (from_n + bias)) + z * h
        hs.append(h)
    return torch.stack(hs, dim=1), h[:, None]
