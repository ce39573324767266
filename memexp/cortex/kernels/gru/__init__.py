"""`gru`: the gated recurrent unit (Cho et al. 2014), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba. Sizes: B rows, T steps, H features.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.gru.plain import gru_plain
from memexp.cortex.kernels.shared import call, gated_recurrence, has_kernel

SAVED = 4
"""Values per step and feature that the backward pass needs: r, z, n, W_hn h + b_hn."""


def gru(gate_inputs: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The recurrence of `cells/gru.py`.

    Args:
        gate_inputs: `[B, T, 4 * H]`, the input's part of r, z, n with biases, before their nonlinearities; then b_hn.
        recurrent: `[3 * H, H]`, maps the previous output to r, z and n.
        state: `[B, 1, H]`, h.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        h `[B, T, H]` and the state after the last step. Gradients flow into every argument but `resets`.
    """
    if not has_kernel(gate_inputs, on_gpu=False):
        return gru_plain(gate_inputs, recurrent, state, resets)
    inputs = gate_inputs.contiguous(), recurrent.contiguous(), state.contiguous()
    h, after, _ = call(_gru, *inputs, resets, torch.is_grad_enabled())
    return h, after


_gru = gated_recurrence(__name__, SAVED)
