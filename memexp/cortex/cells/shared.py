"""Functions and modules that several cells use."""

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
    """A separate layer norm for each head's features, then one weight per feature; x `[..., H]`."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.n_heads = n_heads

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, 1e-5, self.n_heads)


class ParameterCache:
    """Keeps a value that depends on parameters only, from call to call, while gradients are off.

    It computes the value again if a parameter has changed, if any torch optimiser has made a step (fused optimisers do
    not count their writes), and after every call with gradients. On a GPU it keeps nothing, because a captured graph
    would not see changes.
    """

    def __init__(self) -> None:
        self._sources: list[tuple[int, int, torch.dtype]] = []
        self._held: list[Tensor] = []
        self._steps, self._value = 0, None

    def __call__(self, compute: Callable[..., Any], *parameters: Tensor) -> Any:
        """compute(*parameters), or the kept result."""
        if torch.compiler.is_compiling():
            return compute(*parameters)
        if torch.is_grad_enabled() or not _may_be_kept(parameters):
            self._sources = []
            return compute(*parameters)
        sources = [(p.data_ptr(), p._version, p.dtype) for p in parameters]
        if self._steps != _optimizer_steps[0] or self._sources != sources:
            self._value, self._steps, self._sources = compute(*parameters), _optimizer_steps[0], sources
            self._held = [p.detach() for p in parameters]  # so that no other tensor takes their memory
        return self._value

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
    """`y`, with a gradient of zero instead of None for `parameters` that y does not depend on.

    A memory-ablated twin has the same parameters as its original. With zeros, optimisers and gradient reduction treat
    both alike.
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
    """The dtype of a recurrence: float32 for half-precision inputs, else that of the input."""
    return torch.promote_types(x.dtype, torch.float32)


def full_precision(x: Tensor) -> AbstractContextManager:
    """Turns autocast off, where rounding would make the acting and the learning pass differ."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def add_product(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """a + b c for matrices `[B, N, ., .]` in one operation."""
    return torch.baddbmm(a.flatten(0, 1), b.flatten(0, 1), c.flatten(0, 1)).unflatten(0, a.shape[:2])


def in_chunks(
    run: Callable[..., Any], size: int, arrays: tuple[Tensor, ...], memory: Any, resets: Tensor | None
) -> Any:
    """A sequence in chunks of `size` steps: `run` gets a part of each of `arrays` `[B, N, T, ...]`, the memory, and the
    resets `[B, T]`, and returns the output `[B, N, T, ...]` and the next memory. Returns the same of all steps."""
    batch, _, steps = arrays[0].shape[:3]
    starts = torch.zeros(batch, steps, dtype=torch.bool, device=arrays[0].device) if resets is None else resets
    outputs = []
    for at in range(0, steps, size):
        part = slice(at, at + size)
        output, memory = run(*(a[:, :, part] for a in arrays), memory=memory, resets=starts[:, part])
        outputs.append(output)
    return torch.cat(outputs, dim=2), memory


def reaches_in_chunk(resets: Tensor) -> tuple[Tensor, Tensor]:
    """`[B, 1, t, s]`: step s <= t belongs to the same episode; `[B, 1, T]`: no episode has begun in the chunk yet."""
    episode = resets.cumsum(1)
    return (episode[:, :, None] == episode[:, None]).tril()[:, None], (episode == 0)[:, None]


def decays_in_chunk(log_decay: Tensor, resets: Tensor) -> tuple[Tensor, Tensor]:
    """How much is left at each step t `[B, N, t, s]` of what step s stored, and `[B, N, T]` of the carried memory; 0
    across resets. log_decay `[B, N, T]` is that of each step."""
    total = log_decay.cumsum(2)
    if log_decay.shape[2] == 1:
        return torch.ones_like(total)[..., None], total.exp() * ~resets[:, None]
    reaches, started = reaches_in_chunk(resets)
    within = (total[..., None] - total[:, :, None]).masked_fill(~reaches, -torch.inf).exp()
    return within, total.exp() * started


def join_states(prefixes: list[str], states: list[State]) -> State:
    """One flat dict of several states, each under its prefix."""
    return {prefix + key: leaf for prefix, state in zip(prefixes, states, strict=True) for key, leaf in state.items()}


def split_state(prefixes: list[str], state: State | None) -> list[Any]:
    """The inverse of `join_states`; None for each part if the state is None."""
    if state is None:
        return [None] * len(prefixes)
    return [{key[len(prefix) :]: leaf for key, leaf in state.items() if key.startswith(prefix)} for prefix in prefixes]
