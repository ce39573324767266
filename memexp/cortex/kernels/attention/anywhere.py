"""The passes over a block's scores in PyTorch, for any device. Sizes: N heads, B rows, Q queries, K = W + Q keys."""

import torch
from torch import Tensor


def softmax(scores: Tensor, ahead: Tensor, episode: Tensor, episodes: Tensor) -> Tensor:
    """The weights `[N, B, Q, K]`: of scores plus, along the band, ahead `[N, B, Q, W+1]`; 0 where a key is hidden."""
    scores += hidden(episode, episodes).to(scores.dtype)
    band(scores).add_(ahead)
    return torch.softmax(scores, dim=-1)


def softmax_back(d_weights: Tensor, weights: Tensor, flow: Tensor, d_ahead: Tensor) -> None:
    """From gradients of the weights to those of the scores, in their place, and of ahead, into `d_ahead`.

    flow `[N, B, Q]`: sum over keys of weight times gradient.
    """
    d_weights.sub_(flow.unsqueeze(-1)).mul_(weights)
    d_ahead.copy_(band(d_weights))


def hidden(episode: Tensor, episodes: Tensor) -> Tensor:
    """`[B, Q, K]`, -inf where key j is out of query i's window or belongs to another episode, else 0."""
    (Q, K), device = (episode.shape[1], episodes.shape[1]), episode.device
    offset = torch.arange(K, device=device) - torch.arange(Q, device=device)[:, None]
    visible = (offset >= 0) & (offset <= K - Q) & (episode[:, :, None] == episodes[:, None])
    return torch.zeros(visible.shape, device=device).masked_fill_(~visible, -torch.inf)


def band(scores: Tensor) -> Tensor:
    """The view `[..., Q, W+1]` of scores `[..., Q, W+Q]` (contiguous): entry (i, k) is key i + k."""
    Q, K = scores.shape[-2:]
    return scores.as_strided((*scores.shape[:-1], K - Q + 1), (*scores.stride()[:-2], K + 1, 1))
