"""Linear recurrences h_t = a_t h_{t-1} + b_t, real or complex: a plain loop, and one with its own backward pass."""

import torch
from torch import Tensor


def linear_scan(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """h `[T, ...]` of h_t = a_t h_{t-1} + b_t (elementwise) with h_{-1} = h0 `[...]`; a and b `[T, ...]` of one shape.

    An episode that starts at step t is a_t = 0. One operation a step; the backward pass is the same recurrence in
    reverse, dh_t += conj(a_{t+1}) dh_{t+1}.
    """
    return _LinearScan.apply(a, b, h0)  # type: ignore[return-value]


def linear_scan_loop(a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
    """What `linear_scan` computes; the oracle of its tests."""
    h, hs = h0, []
    for a_t, b_t in zip(a, b, strict=True):
        h = a_t * h + b_t
        hs.append(h)
    return torch.stack(hs)


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b, h0):
        h = torch.empty_like(b, memory_format=torch.contiguous_format)
        before = h0
        for a_t, b_t, h_t in zip(a.unbind(), b.unbind(), h.unbind(), strict=True):
            torch.addcmul(b_t, a_t, before, out=h_t)
            before = h_t
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    def backward(ctx, *grads):
        a, h, h0 = ctx.saved_tensors
        a = a.conj().resolve_conj()
        adjoint = grads[0].clone(memory_format=torch.contiguous_format)
        steps, factors = adjoint.unbind(), a.unbind()
        for t in range(len(a) - 2, -1, -1):
            steps[t].addcmul_(factors[t + 1], steps[t + 1])
        d_a = torch.empty_like(adjoint)
        torch.mul(adjoint[1:], h[:-1].conj(), out=d_a[1:])
        torch.mul(adjoint[0], h0.conj(), out=d_a[0])
        return d_a, adjoint, a[0] * adjoint[0]
