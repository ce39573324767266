"""Banded attention and its gradients in PyTorch, for any device. Sizes: Q queries of a block, K = W + Q keys.

Heads are the first axis, so that each is one batched product over rows of strided inputs, without copies.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from memexp.cortex.kernels.linear import gradient_of_weight, product

QUERIES_AT_ONCE = {"cpu": 32, "cuda": 128}
"""Queries per block, by device: few waste less on keys outside the band, many need fewer operations."""


def attend(
    to_key: Tensor, to_distance: Tensor, kv: Tensor, r: Tensor, N: int, episode: Tensor, episodes: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """y `[B, T, H]`, and the weights that `attend_backward` needs.

    to_key and to_distance `[B, T, H]` are the queries that are multiplied with keys and with codes of distances.
    """
    (B, T, H), y, weights = to_key.shape, torch.empty_like(to_key), []
    pos_scores = kv.new_empty(N, B * T, len(r))
    for n, head in enumerate(heads(N, H)):
        pos_scores[n] = product(to_distance[..., head].flatten(0, 1), r[:, head])
    for queries, reach in blocks(T, len(r) - 1, kv.device):
        scores = kv.new_empty(N, B, queries.stop - queries.start, reach.stop - reach.start)
        for n, head in enumerate(heads(N, H)):
            torch.bmm(to_key[:, queries, head], kv[:, reach, head].mT, out=scores[n])
        of_queries = pos_scores.view(N, B, T, -1)[:, :, queries]
        weights.append(softmax(scores, of_queries, episode[:, queries], episodes[:, reach]))
        for n, head in enumerate(heads(N, H)):
            y[:, queries, head] = torch.bmm(weights[-1][n], kv[:, reach, H:][..., head])
    return y, weights


def attend_backward(
    dy: Tensor, to_key: Tensor, to_distance: Tensor, kv: Tensor, r: Tensor, weights: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first four arguments of `attend`."""
    (B, T, H), N = dy.shape, len(weights[0])
    d_key, d_kv, d_pos_scores = torch.empty_like(to_key), torch.zeros_like(kv), dy.new_empty(N, B, T, len(r))
    for P, (queries, reach) in zip(weights, blocks(T, len(r) - 1, dy.device), strict=True):
        d_scores = torch.empty_like(P)
        for n, head in enumerate(heads(N, H)):
            torch.bmm(dy[:, queries, head], kv[:, reach, H:][..., head].mT, out=d_scores[n])
            d_kv[:, reach, H:][..., head].add_(torch.bmm(P[n].mT, dy[:, queries, head]))
        d_scores.sub_((P * d_scores).sum(-1, keepdim=True)).mul_(P)
        d_pos_scores[:, :, queries] = band(d_scores)
        for n, head in enumerate(heads(N, H)):
            d_key[:, queries, head] = torch.bmm(d_scores[n], kv[:, reach, head])
            d_kv[:, reach, head].add_(torch.bmm(d_scores[n].mT, to_key[:, queries, head]))
    d_distance, d_r = torch.empty_like(to_distance), torch.empty_like(r)
    for n, head in enumerate(heads(N, H)):
        rows = d_pos_scores[n].flatten(0, 1)
        d_distance[..., head] = product(rows, r[:, head].t()).view(B, T, -1)
        d_r[:, head] = gradient_of_weight(rows, to_distance[..., head].flatten(0, 1))
    return d_key, d_distance, d_kv, d_r


def heads(N: int, H: int) -> list[slice]:
    """The features of each head."""
    return [slice(n * H // N, (n + 1) * H // N) for n in range(N)]


def blocks(T: int, window: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """The queries of each block, and the keys in their windows."""
    size = QUERIES_AT_ONCE.get(device.type, 128)
    for start in range(0, T, size):
        stop = min(start + size, T)
        yield slice(start, stop), slice(start, stop + window)


def softmax(scores: Tensor, pos_scores: Tensor, episode: Tensor, episodes: Tensor) -> Tensor:
    """The weights `[N, B, Q, K]`: the softmax of scores + pos_scores `[N, B, Q, W+1]` along the band."""
    scores += hidden(episode, episodes).to(scores.dtype)
    band(scores).add_(pos_scores)
    return torch.softmax(scores, dim=-1)


def hidden(episode: Tensor, episodes: Tensor) -> Tensor:
    """`[B, Q, K]`, -inf if key j is outside query i's window or belongs to another episode, else 0."""
    (Q, K), device = (episode.shape[1], episodes.shape[1]), episode.device
    offset = torch.arange(K, device=device) - torch.arange(Q, device=device)[:, None]
    visible = (offset >= 0) & (offset <= K - Q) & (episode[:, :, None] == episodes[:, None])
    return torch.zeros(visible.shape, device=device).masked_fill_(~visible, -torch.inf)


def band(scores: Tensor) -> Tensor:
    """The view `[..., Q, W+1]` of scores `[..., Q, W+Q]` (contiguous): entry (i, k) is key i + k."""
    Q, K = scores.shape[-2:]
    return scores.as_strided((*scores.shape[:-1], K - Q + 1), (*scores.stride()[:-2], K + 1, 1))
