"""One step of the depthwise causal convolution, in one pass over its state."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import copy, copy_if, inlined, keep_mask, kernel, over_rows


def step(past: Tensor, x: Tensor, weight: Tensor, bias: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The next output `[B, H]` and the last K inputs after it, as `depthwise_step` says."""
    past, x = past.contiguous(), x.contiguous()
    y, after = torch.empty_like(x), torch.empty_like(past)
    over_rows(_step, len(x), past, x, weight, bias, keep_mask(resets, x, 1), y, after)
    return y, after


@kernel
def _step(past, x, weight, bias, keep, y, after, first, end):
    K = weight.shape[0]
    for row in range(first, end):
        for k in range(K - 1):
            copy_if(keep[row, 0], past[row, k + 1], after[row, k])
        copy(x[row], after[row, K - 1])
        copy(bias, y[row])
        for k in range(K):
            _add(weight[k], after[row, k], y[row])


@inlined
def _add(a, b, y):
    for j in range(len(y)):
        y[j] += a[j] * b[j]
