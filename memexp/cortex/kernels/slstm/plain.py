"""The sLSTM recurrence, step by step as the equations say."""

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-6


def slstm_plain(terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The definition of `slstm`: a loop over steps, which its tests compare with."""
    y, c, n, m = state.unbind(1)
    ys = []
    for t in range(terms.shape[1]):
        if resets is not None:
            y, c, n, m = (leaf * ~resets[:, t, None, None] for leaf in (y, c, n, m))
        i, f, z, o = (terms[:, t] + torch.einsum("bnd,nged->bnge", y, recurrent)).unbind(2)
        carried = m + F.logsigmoid(f)
        m = torch.where(n == 0, i, torch.maximum(i, carried))
        i, f = torch.exp(i - m).clamp(max=1), torch.exp(carried - m).clamp(max=1)
        c, n = f * c + i * torch.tanh(z), f * n + i
        y = torch.sigmoid(o) * c / (n + EPS)
        ys.append(y)
    return torch.stack(ys, dim=1), torch.stack([y, c, n, m], dim=1)
