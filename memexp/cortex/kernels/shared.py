"""What several kernels use."""

import functools
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

HAS_TRITON = find_spec("triton") is not None


def has_kernel(x: Tensor, on_gpu: bool = True) -> bool:
    """Whether x's device has a kernel: CPUs do, GPUs if there is one for them and Triton. Elsewhere plain loops run."""
    return x.device.type == "cpu" or (x.device.type == "cuda" and on_gpu and HAS_TRITON)


def by_numba(x: Tensor) -> bool:
    """Whether what has no operator of its own runs in Numba: on a CPU, in single or double precision, outside of
    autocast and torch.compile."""
    suits = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return suits and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")


def by_device(operator: Any, package: str, function: str, devices: Sequence[str] = ("cpu", "gpu")) -> None:
    """Let `<package>.cpu.<function>` compute the operator on the CPU and `<package>.gpu.<function>` on CUDA devices.

    The modules are imported when they are first needed: each brings a compiler.
    """
    operator.on_cpu = functools.partial(_call, f"{package}.cpu", function)
    for module in devices:
        compute = functools.partial(_call, f"{package}.{module}", function)
        operator.register_kernel({"cpu": "cpu", "gpu": "cuda"}[module])(compute)


def _call(module: str, function: str, *arguments: Any) -> Any:
    return getattr(import_module(module), function)(*arguments)


def call(operator: Any, *arguments: Any) -> Any:
    """operator(*arguments); on a CPU that only acts without PyTorch's dispatcher, which costs a small kernel's time."""
    x = arguments[0]
    if torch.is_grad_enabled() or x.device.type != "cpu" or type(x) is not Tensor or torch.compiler.is_compiling():
        return operator(*arguments)
    return operator.on_cpu(*arguments)


def passes_for(x: Tensor, package: str) -> ModuleType:
    """A kernel's passes over data like x: its module `<package>.cpu` in Numba, or `<package>.anywhere` in PyTorch."""
    numba = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return import_module(f"{package}.{'cpu' if numba else 'torch_backend'}")


def differentiate(operator: Any, backward: Any) -> None:
    """Autograd of (terms, recurrent, state, resets, saving) -> (y, state after, saved) by the operator `backward`."""

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        terms, recurrent, state, resets, _ = inputs
        y, _, saved = output
        ctx.save_for_backward(terms, recurrent, state, y, saved, resets)

    def back(ctx: Any, dy: Tensor, d_after: Tensor, d_saved: Tensor) -> Any:
        return *backward(dy.contiguous(), d_after.contiguous(), *ctx.saved_tensors), None, None

    @backward.register_fake
    def _(dy, d_after, terms, recurrent, state, y, saved, resets):
        return torch.empty_like(terms), torch.empty_like(recurrent), torch.empty_like(state)

    operator.register_autograd(back, setup_context=save)
