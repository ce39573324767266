"""`banded_attention`: attention with relative positions in which each query sees a window of keys before it.

Scores are computed for blocks of queries and the keys that any of them may see, so that none outside the band is ever
formed. Sizes: B rows, T queries, W window, N heads, d features a head; H = N d.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from memexp.cortex.kernels.linear import gradient_of_weight, product

QUERIES_AT_ONCE = {"cpu": 32, "cuda": 128}
"""Queries of one block, by device: few waste less on keys outside the band, many take fewer and larger operations."""


def banded_attention(
    q: Tensor, kv: Tensor, r: Tensor, u: Tensor, v: Tensor, episode: Tensor, episodes: Tensor
) -> Tensor:
    """Transformer-XL attention (Dai et al. 2019, arXiv:1901.02860, section 3.3).

    a_ij = ((q_i + u) . k_j + (q_i + v) . r_{i-j}) / sqrt(d),  y_i = sum_j softmax_j(a_ij) v_j,  0 <= i - j <= W.

    Args:
        q: `[B, T, H]`, queries.
        kv: `[B, W+T, 2 H]`, keys and values of the W steps before the first query, and of the queries' steps.
        r: `[W+1, H]`, the projected codes of the distances W, .., 1, 0.
        u, v: `[N, d]`, what is added to queries that meet keys, and distances.
        episode, episodes: int64 `[B, T]` and `[B, W+T]`; a query sees the keys of its own episode alone.

    Returns:
        y `[B, T, H]`. Gradients flow into the first five arguments.
    """
    plain = torch.compiler.is_compiling() or torch.is_autocast_enabled(q.device.type) or q.dtype == torch.bfloat16
    attend = banded_attention_plain if plain else _BandedAttention.apply
    return attend(q, kv, r, u, v, episode, episodes)  # type: ignore[return-value]


def banded_attention_plain(
    q: Tensor, kv: Tensor, r: Tensor, u: Tensor, v: Tensor, episode: Tensor, episodes: Tensor
) -> Tensor:
    """What `banded_attention` computes, in blocks too, with gradients by autograd."""
    N, d = u.shape
    q, k, values = (a.unflatten(-1, (N, d)).transpose(1, 2) for a in (q, *kv.chunk(2, dim=-1)))  # [B, N, ., d]
    to_key, to_distance = ((q + bias[:, None]) / math.sqrt(d) for bias in (u, v))
    distances = r.unflatten(-1, (N, d)).permute(1, 2, 0)
    ys = []
    for queries, reach in blocks(q.shape[2], len(r) - 1, q.device):
        scores = skew(to_distance[:, :, queries] @ distances) + to_key[:, :, queries] @ k[:, :, reach].mT
        scores = scores.float() + hidden(episode[:, queries], episodes[:, reach])[:, None]
        ys.append(torch.softmax(scores, dim=-1).to(values.dtype) @ values[:, :, reach])
    return torch.cat(ys, dim=2).transpose(1, 2).flatten(2)


def blocks(T: int, window: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Queries of each block, and the keys that they reach."""
    size = QUERIES_AT_ONCE.get(device.type, 128)
    for start in range(0, T, size):
        stop = min(start + size, T)
        yield slice(start, stop), slice(start, stop + window)


def hidden(episode: Tensor, episodes: Tensor) -> Tensor:
    """`[B, Q, K]`, -inf where key j is out of query i's window or belongs to another episode, else 0."""
    (Q, K), device = (episode.shape[1], episodes.shape[1]), episode.device
    offset = torch.arange(K, device=device) - torch.arange(Q, device=device)[:, None]
    visible = (offset >= 0) & (offset <= K - Q) & (episode[:, :, None] == episodes[:, None])
    return torch.zeros(visible.shape, device=device).masked_fill_(~visible, -torch.inf)


def skew(by_distance: Tensor) -> Tensor:
    """`[..., Q, W+1]`, entry (i, k) for the key k places into query i's window, as `[..., Q, W+Q]`, entry (i, i + k).

    The entries outside the band are arbitrary (they belong to other rows) or zero.
    """
    Q, width = by_distance.shape[-2:]
    flat = F.pad(by_distance, (0, Q)).flatten(-2)
    return flat[..., : Q * (width - 1 + Q)].unflatten(-1, (Q, width - 1 + Q))


def band(scores: Tensor) -> Tensor:
    """The view `[..., Q, W+1]` of scores `[..., Q, W+Q]` (contiguous): entry (i, k) is key i + k."""
    Q, K = scores.shape[-2:]
    return scores.as_strided((*scores.shape[:-1], K - Q + 1), (*scores.stride()[:-2], K + 1, 1))


class _BandedAttention(torch.autograd.Function):
    """Heads come first in here, so that each is one batched product over rows of strided inputs, without copies.

    A block's scores start as what is hidden; the terms of distances are added along the band, those of keys everywhere.
    """

    @staticmethod
    def forward(ctx, q, kv, r, u, v, episode, episodes):
        (N, d), (B, T, H) = u.shape, q.shape
        to_key, to_distance = ((q + bias.flatten()) / math.sqrt(d) for bias in (u, v))
        ahead = torch.stack([product(by_head(to_distance, n, d), part) for n, part in enumerate(r.split(d, 1))])
        ahead = ahead.view(N, B, T, len(r))
        y, weights = torch.empty_like(q), []
        for queries, reach in blocks(T, len(r) - 1, q.device):
            mask = hidden(episode[:, queries], episodes[:, reach]).to(q.dtype)
            scores = mask.expand(N, *mask.shape).contiguous()
            band(scores).add_(ahead[:, :, queries])
            for n, head in enumerate(heads(N, d)):
                scores[n].baddbmm_(to_key[:, queries, head], kv[:, reach, head].mT)
            weights.append(torch.softmax(scores, dim=-1))
            for n, head in enumerate(heads(N, d)):
                y[:, queries, head] = torch.bmm(weights[-1][n], kv[:, reach, H:][..., head])
        ctx.save_for_backward(to_key, to_distance, kv, r, y, *weights)
        return y

    @staticmethod
    def backward(ctx, *grads):
        to_key, to_distance, kv, r, y, *weights = ctx.saved_tensors
        dy, (B, T, H), N = grads[0], y.shape, weights[0].shape[0]
        d = H // N
        d_key, d_kv, d_ahead = torch.empty_like(to_key), torch.zeros_like(kv), y.new_empty(N, B, T, len(r))
        flow = (dy * y).view(B, T, N, d).sum(-1).permute(2, 0, 1).unsqueeze(-1)  # sum_j P_ij dL/dP_ij, [N, B, T, 1]
        for P, (queries, reach) in zip(weights, blocks(T, len(r) - 1, y.device), strict=True):
            d_scores = torch.empty_like(P)
            for n, head in enumerate(heads(N, d)):
                torch.bmm(dy[:, queries, head], kv[:, reach, H:][..., head].mT, out=d_scores[n])
                d_kv[:, reach, H:][..., head].add_(torch.bmm(P[n].mT, dy[:, queries, head]))
            d_scores.sub_(flow[:, :, queries]).mul_(P)
            d_ahead[:, :, queries] = band(d_scores)
            for n, head in enumerate(heads(N, d)):
                d_key[:, queries, head] = torch.bmm(d_scores[n], kv[:, reach, head])
                d_kv[:, reach, head].add_(torch.bmm(d_scores[n].mT, to_key[:, queries, head]))
        d_distance, d_r = torch.empty_like(to_distance), torch.empty_like(r)
        for n, head in enumerate(heads(N, d)):
            rows = d_ahead[n].flatten(0, 1)
            d_distance[..., head] = product(rows, r[:, head].t()).view(B, T, d)
            d_r[:, head] = gradient_of_weight(rows, by_head(to_distance, n, d).contiguous())
        scale = 1 / math.sqrt(d)
        du, dv = ((a.sum((0, 1)) * scale).view(N, d) for a in (d_key, d_distance))
        return d_key.add_(d_distance).mul_(scale), d_kv, d_r, du, dv, None, None


def heads(N: int, d: int) -> list[slice]:
    """The features of each head."""
    return [slice(n * d, (n + 1) * d) for n in range(N)]


def by_head(x: Tensor, n: int, d: int) -> Tensor:
    """Head n of x `[B, T, H]` as a matrix `[B T, d]`, a view."""
    return x.flatten(0, 1)[:, n * d : (n + 1) * d]
