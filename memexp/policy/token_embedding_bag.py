"""Sums over an observation's tokens of their rows in two tables: what the token encoder begins with.

On a CPU, in single precision, one pass of our own over the tokens as they are, forward and backward. Elsewhere
PyTorch's `embedding_bag` over all places for tokens, unused ones with weight zero: a GPU thus never waits for the host
to learn how many there are.
"""

from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

UNUSED = 255
"""Feature id of an unused token."""


class Layout(NamedTuple):
    """Where the rows of a token of each feature stand."""

    features: Tensor
    """int64 `[features + 1, 4]`: first row of the table of what is present, last category, whether each of the window's
    cells has its own row, whether it is an amount. In the last line: the window's side, 0, 0, 0."""
    scale: Tensor
    """float32 `[features]`: what an amount is multiplied by."""


def token_sums(tokens: Tensor, present: Tensor, scaled: Tensor, layout: Layout) -> Tensor:
    """tokens uint8 `[N, K, 3]`, tables `[rows, D]` -> `[N, D]`."""
    if tokens.device.type == "cpu" and present.dtype == torch.float32 and not torch.compiler.is_compiling():
        return _TokenSums.apply(tokens, present, scaled, (layout.features, layout.scale))  # type: ignore[return-value]
    return padded_sums(tokens, present, scaled, layout)


def padded_sums(tokens: Tensor, present: Tensor, scaled: Tensor, layout: Layout) -> Tensor:
    """`token_sums` by PyTorch's operators, on any device: the plain form."""
    features = layout.features.int()  # int64 would take twice the memory for each of 200 places
    location, feature, value = tokens.int().unbind(-1)  # [N, K]
    used = feature != UNUSED
    feature, window = torch.where(used, feature, 0), features[-1, 0]
    place = torch.where(used, location // 16 * window + location % 16, 0)
    first_row, last_category, placed, is_amount = features[feature].unbind(-1)
    row = first_row + value.minimum(last_category) * torch.where(placed > 0, window * window, 1) + place * placed
    amount = value * layout.scale[feature] * (used & (is_amount > 0))
    row_of_amount = feature * window * window + place
    row, row_of_amount = (torch.where(used, r, 0) for r in (row, row_of_amount))
    return _bag(row, present, used.to(present.dtype)) + _bag(row_of_amount, scaled, amount.to(scaled.dtype))


def _bag(rows: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    return embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


class _TokenSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tokens, present, scaled, layout):
        ctx.save_for_backward(tokens)
        ctx.layout, ctx.sizes = layout, (len(present), len(scaled))
        return _cpu().forward(tokens, present, scaled, layout)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (tokens,) = ctx.saved_tensors
        return None, *_cpu().backward(grads[0].contiguous(), tokens, *ctx.sizes, ctx.layout), None


def _cpu():
    return import_module("memexp.policy.token_embedding_bag_cpu")  # brings a compiler
