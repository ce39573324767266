"""`scan` in one pass over the steps of each row."""

import torch
from torch import Tensor

from memexp.cortex.kernels.cpu import keep_mask, kernel, over_rows


def forward(decay: Tensor, drive: Tensor, state: Tensor, resets: Tensor | None) -> Tensor:
    h = torch.empty_like(drive)
    over_rows(_forward, len(h), decay, drive, state, keep_mask(resets, drive, h.shape[1]), h)
    return h


def backward(
    dh: Tensor, decay: Tensor, state: Tensor, h: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    d_decay, d_drive, d_state = torch.empty_like(h), torch.empty_like(h), torch.zeros_like(state)
    over_rows(_backward, len(h), dh, decay, state, h, keep_mask(resets, h, h.shape[1]), d_decay, d_drive, d_state)
    return d_decay, d_drive, d_state


@kernel
def _forward(decay, drive, state, keep, h, first, end):
    T, H = h.shape[1:]
    for row in range(first, end):
        before = state[row]
        for t in range(T):
            k, a, b, now = keep[row, t], decay[row, t], drive[row, t], h[row, t]
            for j in range(H):
                now[j] = a[j] * (k * before[j]) + b[j]
            before = now


@kernel
def _backward(dh, decay, state, h, keep, d_decay, d_drive, d_state, first, end):
    T, H = h.shape[1:]
    for row in range(first, end):
        later = d_state[row]  # the gradient of h through the steps after it
        for t in range(T - 1, -1, -1):
            k, a, before = keep[row, t], decay[row, t], h[row, t - 1] if t else state[row]
            d_a, d_b = d_decay[row, t], d_drive[row, t]
            for j in range(H):
                d_b[j] = dh[row, t, j] + later[j]
                d_a[j] = d_b[j] * (k * before[j])
                later[j] = d_b[j] * a[j] * k
