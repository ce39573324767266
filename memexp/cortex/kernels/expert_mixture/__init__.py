"""`mix_experts`: a column's mixture of its experts' outputs, without the matrix products before and after it.

`plain.py` is its definition; `cpu.py` computes it and its gradients in Numba. Sizes: E experts, H features.
"""

from importlib import import_module

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memexp.cortex.kernels.expert_mixture.plain import mix_experts_plain
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
