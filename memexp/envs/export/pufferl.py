"""PufferLib's own trainer, also beside a CPU build of torch.

PufferLib's wheel carries its advantage kernel in an extension that loads only beside a CUDA build of torch of the
version it was compiled for. Where it does not load, `load` gives the trainer the same formula in torch.
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
    """The module `pufferlib.pufferl`. Its import turns RuntimeWarnings into errors and takes Ctrl-C over: undone."""
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
    """The operator of the extension, and an empty module in the extension's place."""
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
    """pufferlib/extensions/pufferlib.cpp, puff_advantage_row, for all rows `[segments, horizon]` at once."""
    rho, c = importance.clamp(max=rho_clip), importance.clamp(max=c_clip)
    going_on = 1 - dones
    running = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1] - 1)):
        target = rewards[:, t + 1] + gamma * values[:, t + 1] * going_on[:, t + 1]
        running = rho[:, t] * (target - values[:, t]) + gamma * lambda_ * c[:, t] * running * going_on[:, t + 1]
        advantages[:, t] = running
