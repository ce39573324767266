"""The recurrence of AGaLiTe, step by step as the equations say."""

import torch
from torch import Tensor

COPIES = 2  # R
EPS = 1e-5
CHUNK = 16
"""Steps between two states that the backward pass starts from."""

State = tuple[Tensor, Tensor, Tensor]


def agalite_plain(projected: Tensor, factors: Tensor, state: State, resets: Tensor | None) -> tuple[Tensor, State]:
    """The definition of `agalite`: a loop over steps, which its tests compare with."""
    k, q, v, beta, gamma = squashed(projected)
    p1, p2, p3 = squashed_factors(factors)
    K, V, s = state
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


def agalite_first_steps(projected: Tensor, factors: Tensor) -> Tensor:
    """y if every step is the first of an episode: then K = s, and K . phi_q is a product of two sums."""
    k, q, v, beta, gamma = squashed(projected)
    p1, p2, p3 = squashed_factors(factors)
    match = ((gamma * k * q).sum(-1) * (p3 * p1 * p2).sum(-1))[..., None]
    return beta * v * COPIES * match / (2 * COPIES * match + EPS)


def squashed(projected: Tensor) -> tuple[Tensor, ...]:
    """k, q, v, beta and gamma `[..., d]` of `[..., 5, d]`."""
    k, q, v, beta, gamma = projected.unbind(-2)
    return torch.relu(k), torch.relu(q), v, torch.sigmoid(beta), torch.sigmoid(gamma)


def squashed_factors(factors: Tensor) -> tuple[Tensor, ...]:
    """p1, p2 and p3 `[..., E]` of `[..., 3, E]`."""
    p1, p2, p3 = factors.unbind(-2)
    return torch.relu(p1), torch.relu(p2), torch.sigmoid(p3)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """`[..., d]` and `[..., E]` -> `[..., E, d]`."""
    return b.unsqueeze(-1) * a.unsqueeze(-2)
