"""`banded_attention`: attention with relative positions in which each query sees a window of keys before it.

It computes scores for blocks of queries and the keys that any of them may see. Sizes: B rows, T queries, W window,
N heads, d features a head; H = N d. `banded_attention_plain` is the definition. `torch_backend.py` has the outputs and
gradients in PyTorch, `cpu.py` in Numba.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from memexp.cortex.kernels.attention import torch_backend
from memexp.cortex.kernels.attention.torch_backend import blocks, hidden
from memexp.cortex.kernels.shared import backend


def banded_attention(
    q: Tensor, kv: Tensor, r: Tensor, u: Tensor, v: Tensor, episode: Tensor, episodes: Tensor
) -> Tensor:
    """Transformer-XL attention (Dai et al. 2019, arXiv:1901.02860, section 3.3).

    a_ij = ((q_i + u) . k_j + (q_i + v) . r_{i-j}) / sqrt(d),  y_i = sum_j softmax_j(a_ij) v_j,  0 <= i - j <= W.

    Args:
        q: `[B, T, H]`, queries.
        kv: `[B, W+T, 2 H]`, keys and values of the W steps before the first query, and of the queries' steps.
        r: `[W+1, H]`, the projected codes of the distances W, .., 1, 0.
        u, v: `[N, d]`, biases of the queries that are multiplied with keys, and with distances.
        episode, episodes: int64 `[B, T]` and `[B, W+T]`; a query sees only the keys of its own episode.

    Returns:
        y `[B, T, H]`. Gradients flow into the first five arguments.
    """
    attend = banded_attention_plain if torch.compiler.is_compiling() else _BandedAttention.apply
    return attend(q, kv, r, u, v, episode, episodes)  # type: ignore[return-value]


def banded_attention_plain(
    q: Tensor, kv: Tensor, r: Tensor, u: Tensor, v: Tensor, episode: Tensor, episodes: Tensor
) -> Tensor:
    """The definition of `banded_attention`, in blocks too, with gradients by autograd."""
    N, d = u.shape
    q, k, values = (a.unflatten(-1, (N, d)).transpose(1, 2) for a in (q, *kv.chunk(2, dim=-1)))  # [B, N, ., d]
    to_key, to_distance = ((q + bias[:, None]) / math.sqrt(d) for bias in (u, v))
    distances = r.unflatten(-1, (N, d)).permute(1, 2, 0)
    ys = []
    for queries, reach in blocks(q.shape[2], len(r) - 1, q.device):
        scores = skew(to_distance[:, :, queries] @ distances) + to_key[:, :, queries] @ k[:, :, reach].mT
        scores = scores + hidden(episode[:, queries], episodes[:, reach])[:, None]
        ys.append(torch.softmax(scores, dim=-1) @ values[:, :, reach])
    return torch.cat(ys, dim=2).transpose(1, 2).flatten(2)


def attention_step(queries: Tensor, pos_scores: Tensor, mem: Tensor, x: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
    """One step of attention to a memory of inputs, without computing their keys and values.

    Args:
        queries: `[B, N, H]`, whose products with inputs are the scores.
        pos_scores: `[B, N, M+1]`, the scores' part that depends only on the distance: M, .., 1, 0.
        mem: `[B, M, H]`, the last M inputs, newest last; only the last `age` are visible.
        x: `[B, H]`, this step's input.
        age: int64 `[B]`.

    Returns:
        The mean of the inputs under each head's softmax `[B, N, H]`, and the memory after the step.
    """
    plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or not mem.numel() or mem.dtype != queries.dtype
    if not plain and (numba := backend(mem, __name__)) is not torch_backend:
        return numba.step(*(a.contiguous() for a in (queries, pos_scores, mem, x, age)))
    return attention_step_plain(queries, pos_scores, mem, x, age)


def attention_step_plain(
    queries: Tensor, pos_scores: Tensor, mem: Tensor, x: Tensor, age: Tensor
) -> tuple[Tensor, Tensor]:
    """The definition of `attention_step`."""
    run, M = torch.cat([mem, x[:, None]], dim=1), mem.shape[1]
    inputs = run.to(queries.dtype)
    hidden_slots = torch.arange(M + 1, device=x.device) < M - age[:, None]
    scores = (queries @ inputs.mT + pos_scores).masked_fill(hidden_slots[:, None], -torch.inf)
    return torch.softmax(scores, dim=-1) @ inputs, run[:, 1:]


def skew(by_distance: Tensor) -> Tensor:
    """`[..., Q, W+1]`, entry (i, k) for the key k places into query i's window, as `[..., Q, W+Q]`, entry (i, i + k).

    The entries outside the band are arbitrary (they belong to other rows) or zero.
    """
    Q, width = by_distance.shape[-2:]
    flat = F.pad(by_distance, (0, Q)).flatten(-2)
    return flat[..., : Q * (width - 1 + Q)].unflatten(-1, (Q, width - 1 + Q))


class _BandedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, kv, r, u, v, episode, episodes):
        scale, passes = 1 / math.sqrt(u.shape[1]), backend(q, __name__)
        to_key, to_distance = ((q + bias.flatten()) * scale for bias in (u, v))
        y, weights = passes.attend(to_key, to_distance, kv.contiguous(), r, len(u), episode, episodes)
        ctx.save_for_backward(to_key, to_distance, kv, r, u, *weights)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        to_key, to_distance, kv, r, u, *weights = ctx.saved_tensors
        passes, scale = backend(kv, __name__), 1 / math.sqrt(u.shape[1])
        d_key, d_distance, d_kv, d_r = passes.attend_backward(
            grads[0].contiguous(), to_key, to_distance, kv.contiguous(), r, weights
        )
        du, dv = ((a.sum((0, 1)) * scale).view_as(u) for a in (d_key, d_distance))
        return d_key.add_(d_distance).mul_(scale), d_kv, d_r, du, dv, None, None
