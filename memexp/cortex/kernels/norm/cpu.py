"""Norms without gradients, in one pass over the rows."""

import math

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import constants, inlined, kernel, over_rows


def norm(x: Tensor, weight: Tensor, eps: float, groups: int, centred: bool) -> Tensor:
    """x `[..., H]`, each group of features separately."""
    rows = x.reshape(-1, groups, x.shape[-1] // groups)
    y, settings = torch.empty(rows.shape, dtype=x.dtype), constants(x.dtype, eps, centred)
    over_rows(_norm, len(rows), rows.contiguous(), weight.view(groups, -1), settings, y)
    return y.view(x.shape)


@kernel
def _norm(x, weight, settings, y, first, end):
    for row in range(first, end):
        for group in range(len(weight)):
            _norm_row(x[row, group], weight[group], settings[0], settings[1], y[row, group])


@inlined
def _norm_row(x, weight, eps, centred, y):
    real = x.dtype.type
    mean, square, share = real(0.0), real(0.0), real(1.0) / real(len(x))
    for j in range(len(x)):
        mean += x[j]
    mean *= centred * share
    for j in range(len(x)):
        square += (x[j] - mean) * (x[j] - mean)
    scale = real(1.0) / real(math.sqrt(square * share + eps))
    for j in range(len(x)):  # one product per loop, else the order of products depends on array addresses
        y[j] = (x[j] - mean) * scale
    for j in range(len(x)):
        y[j] *= weight[j]
