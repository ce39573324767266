"""`lstm`: the LSTM with forget gates (Hochreiter & Schmidhuber 1997; Gers et al. 2000), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba. Sizes: B rows, T steps, H features.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.lstm.plain import lstm_plain
from memexp.cortex.kernels.shared import call, gated_recurrence, has_kernel

SAVED = 5
"""Values per step and feature that the backward pass needs: i, f, g, o, c'."""


def lstm(gate_inputs: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The recurrence of `cells/lstm.py`.

    Args:
        gate_inputs: `[B, T, 4 * H]`, the input's part of the gates i, f, g, o before their nonlinearities, with biases.
        recurrent: `[4 * H, H]`, maps the previous output to the gates.
        state: `[B, 2, H]`, h and c.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        h `[B, T, H]` and the state after the last step. Gradients flow into every argument but `resets`.
    """
    if not has_kernel(gate_inputs, on_gpu=False):
        return lstm_plain(gate_inputs, recurrent, state, resets)
    inputs = gate_inputs.contiguous(), recurrent.contiguous(), state.contiguous()
    h, after, _ = call(_lstm, *inputs, resets, torch.is_grad_enabled())
    return h, after


_lstm = gated_recurrence(__name__, SAVED)
