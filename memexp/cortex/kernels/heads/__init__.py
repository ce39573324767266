"""`head_products`: two block-diagonal linear maps, with one matrix per head, side by side. `cpu.py` has it in Numba.

In PyTorch each is a batched product of small matrices over strided heads, and joining both is one more copy. Sizes: N
heads, d features per head, H = N d.
"""

from importlib import import_module

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memexp.cortex.kernels.shared import runs_in_numba


def head_products(a: Tensor, b: Tensor, w_a: Tensor, w_b: Tensor, bias: Tensor) -> Tensor:
    """[a_n w_a_n | b_n w_b_n] + bias_n for each head n.

    Args:
        a, b: the inputs `[B, T, H]`.
        w_a, w_b: the matrices of each head `[N, d, 2 d]`.
        bias: `[N, 4, d]`.

    Returns:
        `[B, T, N, 4, d]`.
    """
    if not runs_in_numba(a):
        return head_products_plain(a, b, w_a, w_b, bias)
    return _HeadProducts.apply(a, b, w_a, w_b, bias)  # type: ignore[return-value]


def head_products_plain(a: Tensor, b: Tensor, w_a: Tensor, w_b: Tensor, bias: Tensor) -> Tensor:
    """The definition of `head_products`, which its tests compare with."""

    def product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y = torch.baddbmm(bias.flatten(1).unsqueeze(1), by_head(x, len(weight)), weight)
        return y.transpose(0, 1).view(*x.shape[:2], *bias.shape)

    return torch.cat([product(a, w_a, bias[:, :2]), product(b, w_b, bias[:, 2:])], dim=-2)


def by_head(x: Tensor, N: int) -> Tensor:
    """`[..., H]` as `[N, n, d]`, a view."""
    return x.reshape(-1, N, x.shape[-1] // N).transpose(0, 1)


class _HeadProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, w_a, w_b, bias):
        ctx.save_for_backward(a, b, w_a, w_b)
        passes = import_module(f"{__name__}.cpu")  # Numba is slow to import
        return passes.head_products(a.flatten(0, 1), b.flatten(0, 1), w_a, w_b, bias).unflatten(0, a.shape[:2])

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        a, b, w_a, w_b = ctx.saved_tensors
        N, d = w_a.shape[:2]
        grad = grads[0].reshape(-1, N, 4 * d).transpose(0, 1)
        halves = list(zip((a, b), (w_a, w_b), grad.split(2 * d, dim=-1), strict=True))
        d_inputs = (torch.bmm(half, weight.mT).transpose(0, 1).reshape(x.shape) for x, weight, half in halves)
        d_weights = (torch.bmm(by_head(x, N).mT, half) for x, _, half in halves)
        return *d_inputs, *d_weights, grads[0].sum((0, 1))
