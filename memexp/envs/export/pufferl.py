"""PufferLib's own trainer, also for a CPU build of torch.

PufferLib's wheel has its advantage kernel in an extension, which loads only with the CUDA build of torch that it was
compiled for. If it does not load, `load` gives the trainer the same formula in torch.
"""

import signal
import sys
import types
import warnings
from types import ModuleType

import pufferlib
import torch
from torch import Tensor


def load() -> ModuleType:
    """The module `pufferlib.pufferl`. Its import changes warning filters and Ctrl-C; this function restores both."""
    try:
        from pufferlib import _C  # type: ignore[attr-defined]  # noqa: F401
    except ImportError:
        _define_kernel()
    interrupt = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        from pufferlib import pufferl
    signal.signal(signal.SIGINT, interrupt)
    return pufferl


def _define_kernel() -> None:
    """Define the operator of the extension, and an empty module in place of the extension."""
    if "pufferlib._C" in sys.modules:
        return
    torch.library.define(
        "pufferlib::compute_puff_advantage",
        "(Tensor values, Tensor rewards, Tensor dones, Tensor importance, Tensor(e!) advantages, "
        "float gamma, float lambda_, float rho_clip, float c_clip) -> ()",
    )
    torch.library.impl("pufferlib::compute_puff_advantage", "CPU")(_advantage)
    pufferlib._C = sys.modules["pufferlib._C"] = types.ModuleType("pufferlib._C")  # type: ignore[attr-defined]


def _advantage(
    values: Tensor, rewards: Tensor, dones: Tensor, importance: Tensor, advantages: Tensor,
    gamma: float, lambda_: float, rho_clip: float, c_clip: float,
) -> None:  # fmt: skip
    """puff_advantage_row of pufferlib/extensions/pufferlib.cpp for all rows `[segments, horizon]` at once."""
    rho, c = importance.clamp(max=rho_clip), importance.clamp(max=c_clip)
    not_done = 1 - dones
    running = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1] - 1)):
        target = rewards[:, t + 1] + gamma * values[:, t + 1] * not_done[:, t + 1]
        running = rho[:, t] * (target - values[:, t]) + gamma * lambda_ * c[:, t] * running * not_done[:, t + 1]
        advantages[:, t] = running
