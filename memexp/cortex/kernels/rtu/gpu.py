"""`rtu` in one pass over the steps, separately for every feature of every row.

A lane of a program runs all steps of one feature h of one row, with the complex state in registers. Neighbouring lanes
are neighbouring features, so loads and stores are coalesced for every H.
"""

# Triton types what kernels call, not how Python calls kernels.
# pyright: reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportGeneralTypeIssues=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from memexp.cortex.kernels.gpu import contiguous, keep

BLOCK = 128
"""Lanes of a program, one per thread."""
STAGES = 3
"""Steps whose inputs are prefetched."""


def forward(u: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    B, T, H = u.shape
    c, sums = u.new_empty(B, T, 2, H), u.new_empty(B, 4, H)
    u, decay, weight, c0, resets = contiguous(u, decay, weight, c0, resets)
    _forward[_grid(B * H)](u, decay, weight, c0, resets, c, sums, B * H, T, H, BLOCK, STAGES)
    return c, sums


def backward(
    dc: Tensor, u: Tensor, c: Tensor, decay: Tensor, weight: Tensor, c0: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    B, T, H = u.shape
    dc, u, c, decay, weight, c0, resets = contiguous(dc, u, c, decay, weight, c0, resets)
    du, dc0, d_decay, d_weight = torch.empty_like(u), *(torch.empty_like(c0) for _ in range(3))
    _backward[_grid(B * H)](dc, u, c, decay, weight, c0, resets, du, dc0, d_decay, d_weight, B * H, T, H, BLOCK, STAGES)
    return du, dc0, d_decay, d_weight


def _grid(lanes: int) -> tuple[int]:
    return (triton.cdiv(lanes, BLOCK),)


@triton.jit(do_not_specialize=["lanes", "T"])
def _forward(
    u, decay, weight, c0, resets, c, sums, lanes, T, H: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr
):
    inside, row, h = _place(lanes, H, BLOCK)
    a, b = _pair(decay + h, H, True)
    w_re, w_im = _pair(weight + h, H, True)
    re, im = _pair(c0 + row * 2 * H + h, H, inside)
    s_re, s_im, r_re, r_im = tl.zeros_like(re), tl.zeros_like(re), tl.zeros_like(re), tl.zeros_like(re)
    u += row * T * H + h
    c += row * T * 2 * H + h
    for t in tl.range(T, num_stages=STAGES):
        x = tl.load(u + t * H, inside)
        kept = keep(resets, row * T + t, inside)
        re, im, s_re, s_im, r_re, r_im = kept * re, kept * im, kept * s_re, kept * s_im, kept * r_re, kept * r_im
        s_re, s_im = _times(a, b, s_re, s_im)
        r_re, r_im = _times(a, b, r_re, r_im)
        s_re, s_im, r_re = s_re + re, s_im + im, r_re + x
        re, im = _times(a, b, re, im)
        re, im = re + w_re * x, im + w_im * x
        _store_pair(c + t * 2 * H, re, im, H, inside)
    sums += row * 4 * H + h
    _store_pair(sums, s_re, s_im, H, inside)
    _store_pair(sums + 2 * H, r_re, r_im, H, inside)


@triton.jit(do_not_specialize=["lanes", "T"])
def _backward(
    dc, u, c, decay, weight, c0, resets, du, dc0, d_decay, d_weight, lanes, T,
    H: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    inside, row, h = _place(lanes, H, BLOCK)
    a, b = _pair(decay + h, H, True)
    w_re, w_im = _pair(weight + h, H, True)
    at_row = row * 2 * H + h
    first_re, first_im = _pair(c0 + at_row, H, inside)
    re, im = tl.zeros_like(first_re), tl.zeros_like(first_re)  # the adjoint of c_t on its way to c_{t-1}
    da_re, da_im, dw_re, dw_im = tl.zeros_like(re), tl.zeros_like(re), tl.zeros_like(re), tl.zeros_like(re)
    u, du = u + row * T * H + h, du + row * T * H + h
    c, dc = c + row * T * 2 * H + h, dc + row * T * 2 * H + h
    for back in tl.range(T, num_stages=STAGES):
        t = T - 1 - back
        x = tl.load(u + t * H, inside)
        dc_re, dc_im = _pair(dc + t * 2 * H, H, inside)
        was_re, was_im = _pair(c + (t - 1) * 2 * H, H, inside & (t > 0))
        was_re, was_im = tl.where(t > 0, was_re, first_re), tl.where(t > 0, was_im, first_im)
        re, im = re + dc_re, im + dc_im
        tl.store(du + t * H, w_re * re + w_im * im, inside)
        dw_re, dw_im = dw_re + x * re, dw_im + x * im
        kept = keep(resets, row * T + t, inside)
        re, im = kept * re, kept * im
        d_re, d_im = _times(was_re, -was_im, re, im)
        da_re, da_im = da_re + d_re, da_im + d_im
        re, im = _times(a, -b, re, im)
    _store_pair(dc0 + at_row, re, im, H, inside)
    _store_pair(d_decay + at_row, da_re, da_im, H, inside)
    _store_pair(d_weight + at_row, dw_re, dw_im, H, inside)


@triton.jit
def _place(lanes, H: tl.constexpr, BLOCK: tl.constexpr):
    """Whether each lane is in use, its row and its feature."""
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    return lane < lanes, (lane // H).to(tl.int64), lane % H


@triton.jit
def _times(a_re, a_im, b_re, b_im):
    return a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re


@triton.jit
def _pair(at, H: tl.constexpr, mask):
    return tl.load(at, mask), tl.load(at + H, mask)


@triton.jit
def _store_pair(at, re, im, H: tl.constexpr, mask):
    tl.store(at, re, mask)
    tl.store(at + H, im, mask)
