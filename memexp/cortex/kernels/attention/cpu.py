"""The passes over a block's scores in Numba, each once over its data; their meaning is said in `anywhere.py`."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import add_product, inlined, kernel, over_rows
from memexp.cortex.kernels.elementary import exp


def softmax(scores: Tensor, ahead: Tensor, episode: Tensor, episodes: Tensor) -> Tensor:
    over_rows(_softmax, scores.shape[1], scores, ahead, episode, episodes)
    return scores


def softmax_back(d_weights: Tensor, weights: Tensor, flow: Tensor, d_ahead: Tensor) -> None:
    over_rows(_softmax_back, weights.shape[1], d_weights, weights, flow, d_ahead)


def step(queries: Tensor, ahead: Tensor, mem: Tensor, x: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
    mixed, new = torch.empty_like(queries), torch.empty_like(mem)
    weights = x.new_empty(len(x), *ahead.shape[1:])
    over_rows(_step, len(x), queries, ahead, mem, x, age, weights, mixed, new)
    return mixed, new


@kernel
def _step(queries, ahead, mem, x, age, weights, mixed, new, first, end):
    (M, H), N = mem.shape[1:], queries.shape[1]
    for row in range(first, end):
        start = M - age[row]
        _scores(queries[row], ahead[row], mem[row], x[row], new[row], start, weights[row])
        for head in range(N):
            _softmax_in_place(weights[row, head, start:])
            out, of_x = mixed[row, head], weights[row, head, M]
            for j in range(H):
                out[j] = of_x * x[row, j]
            add_product(weights[row, head, start:M], mem[row, start:], out)


@inlined
def _scores(queries, ahead, mem, x, new, start, weights):
    """Scores of the visible slots and of x itself; and the memory moved on by one slot, while it passes."""
    M, N = len(mem), len(queries)
    for j in range(M):
        if j:
            _copy(mem[j], new[j - 1])
        if j >= start:
            for head in range(N):
                weights[head, j] = ahead[head, j] + _dot(queries[head], mem[j])
    _copy(x, new[M - 1])
    for head in range(N):
        weights[head, M] = ahead[head, M] + _dot(queries[head], x)


@inlined
def _copy(a, b):
    for j in range(len(a)):
        b[j] = a[j]


@inlined
def _dot(a, b):
    total = a.dtype.type(0.0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@inlined
def _softmax_in_place(scores):
    real = scores.dtype.type
    highest, total = scores[0], real(0.0)
    for k in range(len(scores)):
        highest = max(highest, scores[k])
    for k in range(len(scores)):
        scores[k] = exp(scores[k] - highest)
        total += scores[k]
    share = real(1.0) / total
    for k in range(len(scores)):
        scores[k] *= share


@kernel
def _softmax(scores, ahead, episode, episodes, first, end):
    N, _, Q, K = scores.shape
    W = K - Q
    for row in range(first, end):
        for head in range(N):
            for i in range(Q):
                now = scores[head, row, i]
                _row(now[i : i + W + 1], ahead[head, row, i], episode[row, i], episodes[row, i : i + W + 1])
                zero = now.dtype.type(0.0)
                for j in range(i):
                    now[j] = zero
                for j in range(i + W + 1, K):
                    now[j] = zero


@inlined
def _row(scores, ahead, episode, episodes):
    """In place: the softmax over a window's visible keys, 0 for the others."""
    lowest = scores.dtype.type(-1e30)
    for k in range(len(scores)):
        scores[k] = scores[k] + ahead[k] if episodes[k] == episode else lowest
    _softmax_in_place(scores)


@kernel
def _softmax_back(d_weights, weights, flow, d_ahead, first, end):
    N, _, Q, K = weights.shape
    W = K - Q
    for row in range(first, end):
        for head in range(N):
            for i in range(Q):
                now = d_weights[head, row, i]
                _row_back(now, weights[head, row, i], flow[head, row, i])
                for k in range(W + 1):
                    d_ahead[head, row, i, k] = now[i + k]


@inlined
def _row_back(d, weights, flow):
    for j in range(len(d)):
        d[j] = weights[j] * (d[j] - flow)
