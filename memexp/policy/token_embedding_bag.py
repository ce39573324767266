"""Sums over an observation's tokens of their rows in two tables: the first step of the token encoder.

On a CPU in float32, `token_embedding_bag_cpu.py` does it in one pass over the tokens, forward and backward. Elsewhere
PyTorch's `embedding_bag` sums over all places for tokens, with weight zero for unused ones. A GPU thus never has to
wait for the CPU to learn how many tokens are in use.
"""

from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from memexp.spaces import UNUSED_TOKEN


class TokenTable(NamedTuple):
    """Which rows of the two tables belong to a token."""

    features: Tensor
    """int64 `[features + 1, 4]`: the feature's first row in the table `present`, its last category, whether it has a
    row for each cell of the window (1 or 0), whether it is an amount (1 or 0). The last line: window side, 0, 0, 0."""
    scale: Tensor
    """float32 `[features]`: what an amount is multiplied by."""


def token_embedding_bag(tokens: Tensor, present: Tensor, scaled: Tensor, table: TokenTable) -> Tensor:
    """tokens uint8 `[N, K, 3]`, tables `present` and `scaled` `[rows, D]` -> `[N, D]`."""
    if tokens.device.type == "cpu" and present.dtype == torch.float32 and not torch.compiler.is_compiling():
        return _TokenEmbeddingBag.apply(tokens, present, scaled, tuple(table))  # type: ignore[return-value]
    return token_embedding_bag_plain(tokens, present, scaled, table)


def token_embedding_bag_plain(tokens: Tensor, present: Tensor, scaled: Tensor, table: TokenTable) -> Tensor:
    """`token_embedding_bag` by PyTorch's operators, on any device."""
    # int64 would take twice the memory for each of 200 places, but ONNX has no other indices.
    whole = torch.int64 if torch.compiler.is_exporting() else torch.int32
    features = table.features.to(whole)
    location, feature, value = tokens.to(whole).unbind(-1)  # [N, K]
    used = feature != UNUSED_TOKEN
    feature, window = torch.where(used, feature, 0), features[-1, 0]
    place = torch.where(used, location // 16 * window + location % 16, 0)
    first_row, last_category, placed, is_amount = features[feature].unbind(-1)
    row = first_row + value.minimum(last_category) * torch.where(placed > 0, window * window, 1) + place * placed
    amount = value * table.scale[feature] * (used & (is_amount > 0))
    row_of_amount = feature * window * window + place
    row, row_of_amount = (torch.where(used, r, 0) for r in (row, row_of_amount))
    of_present = embedding_bag(row, present, mode="sum", per_sample_weights=used.to(present.dtype))
    return of_present + embedding_bag(row_of_amount, scaled, mode="sum", per_sample_weights=amount.to(scaled.dtype))


class _TokenEmbeddingBag(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tokens, present, scaled, table):
        ctx.save_for_backward(tokens)
        ctx.table, ctx.sizes = table, (len(present), len(scaled))
        return _cpu().forward(tokens, present, scaled, table)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (tokens,) = ctx.saved_tensors
        return None, *_cpu().backward(grads[0].contiguous(), tokens, *ctx.sizes, ctx.table), None


def _cpu():
    return import_module("memexp.policy.token_embedding_bag_cpu")  # Numba is slow to import
