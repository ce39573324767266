"""The depthwise causal convolution over a sequence with resets: its definition and a fast form.

Sizes: B rows, T steps, H features, K taps. PyTorch's grouped convolution has no resets and is slow on the CPU. `cpu.py`
has a single step in Numba, for acting.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memexp.cortex.kernels.shared import runs_in_numba


def depthwise_conv(run: Tensor, weight: Tensor, bias: Tensor, same_episode: list[Tensor | None]) -> Tensor:
    """y_t = bias + sum over lags k < K of weight[k] x_{t-k}, where step t - k belongs to the episode of step t.

    Args:
        run: `[B, K-1+T, H]`, the K - 1 inputs before the sequence, and the sequence.
        weight: `[K, H]`, by lag: weight[0] multiplies the step itself.
        bias: `[H]`.
        same_episode: for each lag `[B, T, 1]`, 1 where the step that far back counts, else 0; None for everywhere.

    Returns:
        y `[B, T, H]`.
    """
    if torch.compiler.is_compiling():
        return depthwise_conv_plain(run, weight, bias, same_episode)
    return _DepthwiseConv.apply(run, weight, bias, same_episode)  # type: ignore[return-value]


def has_step_kernel(x: Tensor, past: Tensor, weight: Tensor) -> bool:
    """Whether `depthwise_step` can compute this step."""
    return not torch.is_grad_enabled() and runs_in_numba(x) and past.dtype == weight.dtype == x.dtype


def depthwise_step(
    past: Tensor, x: Tensor, weight: Tensor, bias: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step, without gradients.

    Args:
        past: `[B, K, H]`, the last K inputs, oldest first.
        x: `[B, H]`, the input of this step.
        weight: `[K, H]`, oldest first too.
        bias: `[H]`.
        resets: `[B, 1]` bool, True where the step starts an episode; None for nowhere.

    Returns:
        y `[B, H]`, and the last K inputs after the step.
    """
    from memexp.cortex.kernels.conv.cpu import step  # Numba is slow to import

    return step(past, x, weight, bias, resets)


def depthwise_conv_plain(run: Tensor, weight: Tensor, bias: Tensor, same_episode: list[Tensor | None]) -> Tensor:
    """The definition of `depthwise_conv`, which its tests compare with."""
    T = run.shape[1] - len(weight) + 1
    y = bias
    for lag, counts in enumerate(same_episode):
        before = run[:, len(weight) - 1 - lag :][:, :T]
        y = y + weight[lag] * (before if counts is None else before * counts)
    return y


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run, weight, bias, same_episode):
        K, T = len(weight), run.shape[1] - len(weight) + 1
        y = torch.addcmul(bias, run[:, K - 1 :], weight[0])
        for lag in range(1, K):
            before, counts = run[:, K - 1 - lag : K - 1 - lag + T], same_episode[lag]
            y.addcmul_(before if counts is None else before * counts, weight[lag])
        ctx.save_for_backward(run, weight)
        ctx.same_episode = same_episode
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        (dy,), (run, weight) = grads, ctx.saved_tensors
        K, T = len(weight), dy.shape[1]
        d_run, d_weight = torch.zeros_like(run), torch.empty_like(weight)
        for lag, counts in enumerate(ctx.same_episode):
            part = dy if counts is None else dy * counts
            window = slice(K - 1 - lag, K - 1 - lag + T)
            d_run[:, window].addcmul_(part, weight[lag])
            torch.sum(part * run[:, window], dim=(0, 1), out=d_weight[lag])
        return d_run, d_weight, dy.sum((0, 1)), None
