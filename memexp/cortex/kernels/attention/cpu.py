"""Banded attention, its gradients and one step in Numba, one head of one row at a time: its scores stay in the cache.

`torch_backend.py` documents `attend` and `attend_backward`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from memexp.cortex.kernels.cpu import add_product, clear, copy, dot, inlined, kernel, over_rows
from memexp.cortex.kernels.matmul import multiply_add
from memexp.cortex.kernels.vector_math import softmax_in_place

QUERIES_AT_ONCE = 32
ROWS_AT_ONCE = 4
"""Rows that one thread takes in turn; it adds up their gradients of r."""


def attend(
    to_key: Tensor, to_distance: Tensor, kv: Tensor, r: Tensor, N: int, episode: Tensor, episodes: Tensor
) -> tuple[Tensor, list[Tensor]]:
    (B, T, H), W, Q = to_key.shape, len(r) - 1, min(QUERIES_AT_ONCE, to_key.shape[1])
    y, weights = torch.zeros_like(to_key), kv.new_empty(B, N, T, W + Q)
    by_distance = F.pad(r.view(W + 1, N, H // N).permute(1, 2, 0), (0, -(W + 1) % 32))  # whole tiles of sums
    work = kv.new_empty(B, H // N, W + T), kv.new_empty(B, Q, by_distance.shape[2])
    over_rows(_attend, B, to_key, to_distance, kv, by_distance.contiguous(), episode, episodes, *work, y, weights)
    return y, [weights]


def attend_backward(
    dy: Tensor, to_key: Tensor, to_distance: Tensor, kv: Tensor, r: Tensor, weights: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (B, _, H), (_, N, _, K) = dy.shape, weights[0].shape
    d_key, d_distance, d_kv = torch.zeros_like(dy), torch.zeros_like(dy), torch.zeros_like(kv)
    parts, Q = -(-B // ROWS_AT_ONCE), K - len(r) + 1
    d_r = dy.new_zeros(parts, *r.shape)
    work = [dy.new_empty(parts, *size) for size in ((H // N, kv.shape[1]), (Q, K), (Q, len(r)))]
    inputs = (dy, to_key, to_distance, kv, r.contiguous(), weights[0])
    over_rows(_attend_back, parts, *inputs, *work, d_key, d_distance, d_kv, d_r)
    return d_key, d_distance, d_kv, d_r.sum(0)


def step(queries: Tensor, pos_scores: Tensor, mem: Tensor, x: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
    mixed, new = torch.empty_like(queries), torch.empty_like(mem)
    weights = x.new_empty(len(x), *pos_scores.shape[1:])
    over_rows(_step, len(x), queries, pos_scores, mem, x, age, weights, mixed, new)
    return mixed, new


@kernel
def _step(queries, pos_scores, mem, x, age, weights, mixed, new, first, end):
    (M, H), N = mem.shape[1:], queries.shape[1]
    for row in range(first, end):
        start = M - age[row]
        _scores(queries[row], pos_scores[row], mem[row], x[row], new[row], start, weights[row])
        for head in range(N):
            softmax_in_place(weights[row, head, start:])
            out, of_x = mixed[row, head], weights[row, head, M]
            for j in range(H):
                out[j] = of_x * x[row, j]
            add_product(weights[row, head, start:M], mem[row, start:], out)


@inlined
def _scores(queries, pos_scores, mem, x, new, start, weights):
    """Scores of the visible slots and of x itself; also moves the memory on by one slot."""
    M, N = len(mem), len(queries)
    for j in range(M):
        if j:
            copy(mem[j], new[j - 1])
        if j >= start:
            for head in range(N):
                weights[head, j] = pos_scores[head, j] + dot(queries[head], mem[j])
    copy(x, new[M - 1])
    for head in range(N):
        weights[head, M] = pos_scores[head, M] + dot(queries[head], x)


@kernel
def _attend(to_key, to_distance, kv, by_distance, episode, episodes, keys, pos_scores, y, weights, first, end):
    (T, H), N, Q = y.shape[1:], weights.shape[1], pos_scores.shape[1]
    W, d = weights.shape[3] - Q, H // N
    for row in range(first, end):
        for head in range(N):
            a, b = head * d, (head + 1) * d
            _transpose(kv[row], a, keys[first])
            for start in range(0, T, Q):
                stop = min(start + Q, T)
                reach = stop + W  # of the keys
                for i in range(stop - start):
                    clear(weights[row, head, start + i])
                    clear(pos_scores[first, i])
                scores, near = weights[row, head, start:stop, : reach - start], pos_scores[first, : stop - start]
                multiply_add(to_key[row, start:stop, a:b], keys[first, :, start:reach], scores)
                multiply_add(to_distance[row, start:stop, a:b], by_distance[head], near)
                for i in range(stop - start):
                    t, now = start + i, weights[row, head, start + i]
                    _weigh(now[i : i + W + 1], pos_scores[first, i], episode[row, t], episodes[row, t : t + W + 1])
                    clear(now[:i])
                    clear(now[i + W + 1 :])
                multiply_add(scores, kv[row, start:reach, H + a : H + b], y[row, start:stop, a:b])


@inlined
def _transpose(x, left, y):
    """y[j] = x[:, left + j], in pieces of a cache line of y."""
    whole = len(x) - len(x) % 16
    for start in range(0, whole, 16):
        for j in range(len(y)):
            line = y[j, start : start + 16]
            for t in range(16):
                line[t] = x[start + t, left + j]
    for t in range(whole, len(x)):
        for j in range(len(y)):
            y[j, t] = x[t, left + j]


@inlined
def _weigh(scores, pos_scores, episode, episodes):
    """Replace scores by the softmax over a window's visible keys, 0 for the others."""
    lowest = scores.dtype.type(-1e30)
    for k in range(len(scores)):
        scores[k] = scores[k] + pos_scores[k] if episodes[k] == episode else lowest
    softmax_in_place(scores)


@kernel
def _attend_back(
    dy, to_key, to_distance, kv, r, weights, values, d_scores, d_pos_scores, d_key, d_distance, d_kv, d_r, first, end
):  # fmt: skip
    (B, T, H), N, (Q, K) = dy.shape, weights.shape[1], d_scores.shape[1:]
    W, d = K - Q, H // N
    for part in range(first, end):
        for row in range(part * ROWS_AT_ONCE, min((part + 1) * ROWS_AT_ONCE, B)):
            for head in range(N):
                a, b = head * d, (head + 1) * d
                _transpose(kv[row], H + a, values[first])
                for start in range(0, T, Q):
                    stop = min(start + Q, T)
                    reach, n = stop + W, stop - start
                    P, grad = weights[row, head, start:stop, : W + n], dy[row, start:stop, a:b]
                    d_P, near = d_scores[first, :n, : W + n], d_pos_scores[first, :n]
                    for i in range(n):
                        clear(d_scores[first, i])
                    multiply_add(grad, values[first, :, start:reach], d_P)
                    for i in range(n):
                        now, of_keys = d_scores[first, i], weights[row, head, start + i]
                        _weigh_back(now[: W + n], of_keys[: W + n], now[i:], d_pos_scores[first, i])
                    multiply_add(d_P, kv[row, start:reach, a:b], d_key[row, start:stop, a:b])
                    multiply_add(d_P.T, to_key[row, start:stop, a:b], d_kv[row, start:reach, a:b])
                    multiply_add(P.T, grad, d_kv[row, start:reach, H + a : H + b])
                    multiply_add(near, r[:, a:b], d_distance[row, start:stop, a:b])
                    multiply_add(near.T, to_distance[row, start:stop, a:b], d_r[part, :, a:b])


@inlined
def _weigh_back(d, weights, band, near):
    """Replace gradients of the weights by those of the scores, and copy those of the band."""
    flow = d.dtype.type(0.0)
    for j in range(len(d)):
        flow += weights[j] * d[j]
    for j in range(len(d)):
        d[j] = weights[j] * (d[j] - flow)
    for k in range(len(near)):
        near[k] = band[k]
