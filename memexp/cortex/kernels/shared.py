"""What several kernels use."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor


def gradients_of(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients of `inputs` through `function(*inputs)`, whose outputs receive `grads`; where no kernel is."""
    with torch.enable_grad():
        inputs = [a.detach().requires_grad_() for a in inputs]
        outputs = function(*inputs)
        found = torch.autograd.grad(list(outputs), inputs, list(grads), allow_unused=True)
    return [torch.zeros_like(a) if grad is None else grad for a, grad in zip(inputs, found, strict=True)]


def by_device(operator: Any, package: str, function: str, devices: Sequence[str] = ("cpu", "gpu")) -> None:
    """Let `<package>.cpu.<function>` compute the operator on the CPU and `<package>.gpu.<function>` on CUDA devices.

    The modules are imported when they are first needed: each brings a compiler.
    """
    for module in devices:

        def compute(*arguments: Any, module: str = module) -> Any:
            return getattr(import_module(f"{package}.{module}"), function)(*arguments)

        operator.register_kernel({"cpu": "cpu", "gpu": "cuda"}[module])(compute)
