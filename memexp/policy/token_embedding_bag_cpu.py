"""`token_embedding_bag` on a CPU, in one pass over the tokens; an unused token costs one comparison.

In the backward pass each thread has its own columns of the tables. No two threads write to one place, and sums have the
same order for any number of threads.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import clear, inlined, kernel, over_rows
from memexp.spaces import UNUSED_TOKEN

COLUMNS = 64
"""Columns of the tables that a thread takes at once."""


def forward(tokens: Tensor, present: Tensor, scaled: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """tokens uint8 `[N, K, 3]`, tables `[rows, D]` -> `[N, D]`. table: the two tensors of `TokenTable`."""
    z = present.new_empty(len(tokens), present.shape[1])
    work = _work(len(tokens), tokens.shape[1])
    over_rows(_forward, len(tokens), tokens.contiguous(), *table, present, scaled, *work, z)
    return z


def backward(
    dz: Tensor, tokens: Tensor, rows: int, scaled_rows: int, table: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Gradients of both tables `[rows, D]`, `[scaled_rows, D]`."""
    d_present, d_scaled = dz.new_zeros(rows, dz.shape[1]), dz.new_zeros(scaled_rows, dz.shape[1])
    blocks = -(-dz.shape[1] // COLUMNS)
    work = _work(blocks, tokens.shape[1])
    over_rows(_backward, blocks, tokens.contiguous(), *table, dz, *work, d_present, d_scaled)
    return d_present, d_scaled


def _work(places: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Scratch memory for the rows of one observation's tokens in both tables, and for their amounts."""
    return torch.empty(places, 2, num_tokens, dtype=torch.int64), torch.empty(places, num_tokens)


@kernel
def _forward(tokens, features, scale, present, scaled, rows, amounts, z, first, end):
    at, by = rows[first], amounts[first]
    for row in range(first, end):
        count, counted = _decode(tokens[row], features, scale, at, by)
        clear(z[row])
        _add_rows(present, at[0], count, z[row])
        for i in range(counted):
            _add_scaled(by[i], scaled[at[1, i]], z[row])


@kernel
def _backward(tokens, features, scale, dz, rows, amounts, d_present, d_scaled, first, end):
    at, by = rows[first], amounts[first]
    left, right = first * COLUMNS, min(end * COLUMNS, dz.shape[1])
    for row in range(len(tokens)):
        count, counted = _decode(tokens[row], features, scale, at, by)
        for i in range(count):
            _add(dz[row, left:right], d_present[at[0, i], left:right])
        for i in range(counted):
            _add_scaled(by[i], dz[row, left:right], d_scaled[at[1, i], left:right])


@inlined
def _decode(tokens, features, scale, at, by):
    """Write the row of each used token in the first table, the row of each amount in the second, and its factor.

    Returns the number of rows of each table.
    """
    count, counted, window = 0, 0, features[len(features) - 1, 0]
    for k in range(len(tokens)):
        feature = tokens[k, 1]
        if feature != UNUSED_TOKEN:
            location, value = int(tokens[k, 0]), int(tokens[k, 2])
            place = (location >> 4) * window + (location & 15)
            size = window * window if features[feature, 2] != 0 else 1
            row = features[feature, 0] + min(value, features[feature, 1]) * size
            at[0, count] = row + place if size > 1 else row
            count += 1
            if features[feature, 3] != 0 and value != 0:
                at[1, counted] = feature * window * window + place
                by[counted] = value * scale[feature]
                counted += 1
    return count, counted


@inlined
def _add_rows(table, rows, count, z):
    """z `[D]` += these rows of the table, four at a time so that z is read and written less."""
    whole = count - count % 4
    for i in range(0, whole, 4):
        a, b, c, d = table[rows[i]], table[rows[i + 1]], table[rows[i + 2]], table[rows[i + 3]]
        for j in range(len(z)):
            z[j] += (a[j] + b[j]) + (c[j] + d[j])
    for i in range(whole, count):
        _add(table[rows[i]], z)


@inlined
def _add(a, z):
    for j in range(len(z)):
        z[j] += a[j]


@inlined
def _add_scaled(factor, a, z):
    for j in range(len(z)):
        z[j] += factor * a[j]
