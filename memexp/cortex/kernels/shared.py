"""What several kernels use."""

from collections.abc import Callable, Sequence

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
