"""`mix_experts`: a column's mixture of its experts' outputs, without the matrix products before and after it.

`mix_experts_plain` is its definition; `cpu.py` computes it and its gradients in Numba. Sizes: E experts, H features.
"""

from importlib import import_module

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from memexp.cortex.kernels.shared import runs_in_numba


def mix_experts(
    x: Tensor, u: Tensor, ys: Tensor, query: Tensor, q_bias: Tensor, gate_w: Tensor, gate_b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """sum_e alpha_e D_e + u - x, and sum_f w_f D_f, with D_e = y_e - u and

        alpha = softmax_e(gate_b_e + gate_w_e . u)    w_f = sum_e alpha_e softmax_f((query + q_bias_e) . D_f scale)

    Args:
        x, u: `[..., H]`, the column's input before and after its norm.
        ys: `[E, ..., H]`, the experts' outputs for u.
        query, q_bias: `[..., H]` and `[E, H]`, the attention's query of a step, and of an expert.
        gate_w, gate_b: `[E, H]` and `[E]`, weight and bias of alpha.
    """
    if not runs_in_numba(x):
        return mix_experts_plain(x, u, ys, query, q_bias, gate_w, gate_b, scale)
    return _MixExperts.apply(x, u, ys, query, q_bias, gate_w, gate_b, scale)  # type: ignore[return-value]


def mix_experts_plain(
    x: Tensor, u: Tensor, ys: Tensor, query: Tensor, q_bias: Tensor, gate_w: Tensor, gate_b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """The definition of `mix_experts`, which its tests compare with."""
    D = ys.movedim(0, -2) - u.unsqueeze(-2)  # [..., E, H]
    alpha = torch.softmax(gate_b + F.linear(u, gate_w), dim=-1)
    shared = (query.unsqueeze(-2) * D).sum(-1, keepdim=True)  # [..., f, 1]
    attention = torch.softmax((D @ q_bias.t() + shared) * scale, dim=-2)  # [..., f, e]
    weights = (attention * alpha.unsqueeze(-2)).sum(-1)
    total = (alpha.unsqueeze(-1) * D).sum(-2) + u - x
    return total, (weights.unsqueeze(-1) * D).sum(-2)


class _MixExperts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, u, ys, query, q_bias, gate_w, gate_b, scale):
        shape, width = x.shape, x.shape[-1]
        x, u, query = (a.reshape(-1, width) for a in (x, u, query))
        ys = ys.reshape(len(ys), -1, width)
        inputs = (u, ys, query, q_bias, gate_w)
        *results, alpha, attention = import_module(f"{__name__}.cpu").mix(x, *inputs, gate_b, scale)
        ctx.save_for_backward(*inputs, alpha, attention)
        ctx.scale = scale
        return tuple(a.view(shape) for a in results)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        shape, saved = grads[0].shape, ctx.saved_tensors
        d_total, d_mixed = (a.reshape(-1, shape[-1]) for a in grads)
        du, d_ys, d_query, d_q_bias, d_gate_w, d_gate_b = import_module(f"{__name__}.cpu").mix_backward(
            d_total, d_mixed, *saved, ctx.scale
        )
        d_ys = d_ys.view(len(d_ys), *shape)
        return -grads[0], du.view(shape), d_ys, d_query.view(shape), d_q_bias, d_gate_w, d_gate_b, None
