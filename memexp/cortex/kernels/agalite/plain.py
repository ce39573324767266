"""The recurrence of AGaLiTe, step by step as the equations say."""

import torch
from torch import Tensor

COPIES = 2  # R
EPS = 1e-5
CHUNK = 16
"""Steps between two states that the backward pass starts from."""

State = tuple[Tensor, Tensor, Tensor]


def agalite_plain(
    k: Tensor,
    q: Tensor,
    v: Tensor,
    beta: Tensor,
    gamma: Tensor,
    p: Tensor,
    state: State,
    resets: Tensor | None,
) -> tuple[Tensor, State]:
    """What `agalite` computes, by a loop over steps; the oracle of its tests."""
    K, V, s = state
    p1, p2, p3 = p.unbind(-2)
    ys = []
    for t in range(k.shape[1]):
        if resets is not None:
            keep = ~resets[:, t, None, None]
            K, V, s = K * keep[..., None], V * keep, s * keep[..., None]
        gate, phi_q = outer(gamma[:, t], p3[:, t]), outer(q[:, t], p2[:, t])
        source = gate * outer(k[:, t], p1[:, t])
        K, s = source - (1 - gate) * K, source + (1 - gate) * s
        V = beta[:, t] * v[:, t] - (1 - beta[:, t]) * V
        match, total = (K * phi_q).sum((-2, -1)), (s * phi_q).sum((-2, -1))
        ys.append(V * (COPIES * match / (2 * COPIES * total + EPS))[..., None])
    return torch.stack(ys, dim=1), (K, V, s)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """`[..., d]` and `[..., eta]` -> `[..., eta, d]`."""
    return b.unsqueeze(-1) * a.unsqueeze(-2)
