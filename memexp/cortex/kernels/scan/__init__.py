"""`scan`: h' = a h + b, feature by feature with a of each step, over whole sequences (minGRU).

`scan_plain` is its definition, `cpu.py` one pass in Numba. Sizes: B rows, T steps, H features.
"""

from typing import Any

import torch
from torch import Tensor

from memexp.cortex.kernels.shared import call, has_kernel, operator


def scan_plain(decay: Tensor, drive: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The definition of `scan`: a loop over steps, which its tests compare with."""
    h, hs = state, []
    for t in range(drive.shape[1]):
        if resets is not None:
            h = h * ~resets[:, t, None]
        h = decay[:, t] * h + drive[:, t]
        hs.append(h)
    return torch.stack(hs, dim=1), h


def scan(decay: Tensor, drive: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """h `[B, T, H]` and the last one `[B, H]`, from a and b `[B, T, H]` and h before the first step `[B, H]`.

    resets `[B, T]` bool: True where h is cleared before a step. Gradients flow into every argument but `resets`.
    """
    if not has_kernel(drive, on_gpu=False):
        return scan_plain(decay, drive, state, resets)
    h = call(_scan, decay.contiguous(), drive.contiguous(), state.contiguous(), resets)
    return h, h[:, -1]


def _forward(decay: Tensor, drive: Tensor, state: Tensor, resets: Tensor | None) -> Tensor:
    return torch.empty_like(drive)


def _backward(
    dh: Tensor, decay: Tensor, state: Tensor, h: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(decay), torch.empty_like(h), torch.empty_like(state)


_scan, _scan_back = operator(__name__, "forward", _forward), operator(__name__, "backward", _backward)


def _save(ctx: Any, inputs: Any, output: Tensor) -> None:
    decay, _, state, resets = inputs
    ctx.save_for_backward(decay, state, output, resets)


def _gradients(ctx: Any, dh: Tensor) -> Any:
    return *_scan_back(dh.contiguous(), *ctx.saved_tensors), None


_scan.register_autograd(_gradients, setup_context=_save)
