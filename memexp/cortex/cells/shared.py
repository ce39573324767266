"""What several cells use."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from memexp.cortex.kernels.norm import layer_norm

State = dict[str, Tensor]
"""A flat dict of tensors `[B, ...]`."""


class HeadNorm(nn.Module):
    """Layer norm of each head's features by itself, then one weight a feature; x `[..., H]`."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.n_heads = n_heads

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, 1e-5, self.n_heads)


class ParameterCache:
    """What is computed from parameters alone, kept from call to call while no gradients are recorded.

    It is computed again once a parameter was written to or replaced, or any optimiser of torch has made a step (fused
    ones write without PyTorch's count of writes), and after every call that records gradients. On a GPU nothing is
    kept: a captured graph would not notice.
    """

    def __init__(self) -> None:
        self._sources: list[tuple[int, int, torch.dtype]] = []
        self._held: list[Tensor] = []
        self._steps, self._value = 0, None

    def __call__(self, compute: Callable[..., Any], *parameters: Tensor) -> Any:
        """compute(*parameters)"""
        if torch.compiler.is_compiling():
            return compute(*parameters)
        if torch.is_grad_enabled() or not _may_be_kept(parameters):
            self._sources = []
            return compute(*parameters)
        if not self._holds_for(parameters):
            self._value, self._steps = compute(*parameters), _optimizer_steps[0]
            self._sources = [(p.data_ptr(), p._version, p.dtype) for p in parameters]
            self._held = [p.detach() for p in parameters]  # no other tensor takes their memory
        return self._value

    def _holds_for(self, parameters: tuple[Tensor, ...]) -> bool:
        if self._steps != _optimizer_steps[0] or len(self._sources) != len(parameters):
            return False
        for p, source in zip(parameters, self._sources, strict=True):
            if (p.data_ptr(), p._version, p.dtype) != source:
                return False
        return True

    def __reduce__(self) -> tuple[type["ParameterCache"], tuple[()]]:
        return ParameterCache, ()  # a copy of a module keeps its own


def _may_be_kept(parameters: tuple[Tensor, ...]) -> bool:
    return not torch.is_autocast_enabled("cpu") and all(p.is_cpu and not p.is_inference() for p in parameters)


_optimizer_steps = [0]
"""Steps of all optimisers in this process."""


def _count_optimizer_step(*_: Any) -> None:
    _optimizer_steps[0] += 1


register_optimizer_step_post_hook(_count_optimizer_step)


def check_heads(cell: str, width: int, n_heads: int) -> None:
    """Raise ValueError unless `n_heads` divides `width`."""
    if width % n_heads:
        raise ValueError(f"{cell}: {n_heads} heads do not divide a width of {width}")


def with_zero_gradient(y: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """`y`, on record as depending on `parameters` with derivative zero.

    A memory-ablated twin has the same parameters as its original. Those that cannot matter get gradients of zero
    rather than none at all, so that optimisers and gradient reduction treat both alike.
    """
    return _WithZeroGradient.apply(y, *parameters) if torch.is_grad_enabled() else y  # type: ignore[return-value]


class _WithZeroGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, *parameters):
        ctx.save_for_backward(*parameters)
        return y.view_as(y)

    @staticmethod
    def backward(ctx, *grads):
        return grads[0], *(torch.zeros_like(p) for p in ctx.saved_tensors)


def accumulator_dtype(x: Tensor) -> torch.dtype:
    """The type a recurrence runs in: float32 for half-precision inputs, else that of the input."""
    return torch.promote_types(x.dtype, torch.float32)


def full_precision(x: Tensor) -> AbstractContextManager:
    """Without autocast, for what must not be rounded between the pass that acts and the one that learns."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def add_product(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a + b c for matrices `[B, N, ., .]`, without writing the product out first."""
    return torch.baddbmm(a.flatten(0, 1), b.flatten(0, 1), c.flatten(0, 1)).unflatten(0, a.shape[:2])


def join_states(prefixes: list[str], states: list[State]) -> State:
    """One flat dict of several, each under its prefix."""
    return {prefix + key: leaf for prefix, state in zip(prefixes, states, strict=True) for key, leaf in state.items()}


def split_state(prefixes: list[str], state: State | None) -> list[Any]:
    """The parts that `join_states` joined; None (every step is a first one) is None for each."""
    if state is None:
        return [None] * len(prefixes)
    return [{key[len(prefix) :]: leaf for key, leaf in state.items() if key.startswith(prefix)} for prefix in prefixes]
