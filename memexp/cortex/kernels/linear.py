"""`linear`: x W^T + b, by the library that is fastest on this processor.

For float32 PyTorch uses MKL, which does not use the 512-bit instructions of AMD processors. There we call oneDNN, which
PyTorch also contains: 2.0-2.4 times as fast forward and for the gradient of x, 1.2-1.7 times for the gradient of W
(benchmarks/kernels.py). On other processors, in other precisions and under torch.compile this is
`torch.nn.functional.linear`.
"""

import functools
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x `[..., K]`, weight `[M, K]`, bias `[M]` -> `[..., M]`."""
    if not by_onednn(x):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _onednn(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))
    return _Linear.apply(x, weight, bias)  # type: ignore[return-value]


def activated_linear(x: Tensor, layer: "Linear", activation: Literal["silu", "gelu"]) -> Tensor:
    """activation(layer(x)). Without gradients oneDNN applies the activation to each sum before it writes it."""
    if torch.is_grad_enabled() or not by_onednn(x):
        return getattr(F, activation)(layer(x))
    then = "swish" if activation == "silu" else "gelu"
    return _onednn(x.reshape(-1, x.shape[-1]), layer.weight, layer.bias, then).view(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """torch.nn.Linear, computed by our `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear_over_memory(run: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`linear` of run `[B, M+T, K]`, whose last T steps are x. Of the inputs only x receives gradients."""
    if not by_onednn(x):
        return F.linear(torch.cat([run[:, : run.shape[1] - x.shape[1]].detach(), x], dim=1), weight, bias)
    return _LinearOverMemory.apply(run.detach(), x, weight, bias)  # type: ignore[return-value]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` without gradients, for a matrix x `[n, K]`."""
    return _onednn(x, weight, bias) if by_onednn(x) else F.linear(x, weight, bias)


def by_onednn(x: Tensor) -> bool:
    """Whether oneDNN computes products with tensors like this one."""
    return (
        x.dtype == torch.float32
        and x.numel() > 0
        and x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and onednn_is_faster()
        and not torch.is_autocast_enabled("cpu")
    )


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512, and PyTorch was built with oneDNN."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """The operator that torch.compile uses for linear layers on CPUs; `then` is an activation.

    Transposed weights need no copy, but slices of columns do: they would select a slow reference implementation."""
    if min(weight.stride()) != 1 or max(weight.stride()) not in weight.shape:
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "none" if then == "gelu" else "")


def gradient_of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """grad^T x `[M, K]` of grad `[n, M]` and x `[n, K]`; oneDNN would first copy and transpose one of them."""
    if not by_onednn(x):
        return grad.t() @ x
    from memexp.cortex.kernels.matmul import transposed_product  # Numba is slow to import

    return transposed_product(grad, x)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rows, weight)
        ctx.shape = x.shape
        return _onednn(rows, weight, bias).view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (x, weight), grad = ctx.saved_tensors, grads[0].reshape(-1, grads[0].shape[-1])
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        dx = _onednn(grad, weight.t()).view(ctx.shape) if needs_x else None
        return dx, gradient_of_weight(grad, x) if needs_weight else None, grad.sum(0) if needs_bias else None


class _LinearOverMemory(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run, x, weight, bias):
        ctx.save_for_backward(run, weight)
        ctx.T = x.shape[1]
        return _onednn(run.flatten(0, 1), weight, bias).view(*run.shape[:2], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (run, weight), grad = ctx.saved_tensors, grads[0].reshape(-1, grads[0].shape[-1])
        recent = grads[0][:, run.shape[1] - ctx.T :]
        dx = _onednn(recent.flatten(0, 1), weight.t()).view(*recent.shape[:2], -1)
        return None, dx, gradient_of_weight(grad, run.flatten(0, 1)), grad.sum(0)
