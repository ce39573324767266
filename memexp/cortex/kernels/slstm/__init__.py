"""`slstm`: the recurrence of sLSTM (xLSTM: Beck et al. 2024, arXiv:2405.04517, eq. 8-18), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba, `gpu.py` one in Triton. Sizes: B rows, T steps, N heads, d
features per head.

The backward pass carries the gradients of c and n. Of the gradient of m it carries only the excess E that the eps in y
causes: with A = i' dL/di' and F = f' dL/df', A + F = c' dL/dc' + n' dL/dn', so that E = dL/dm' - A - F obeys
E = [carried >= i of the next step] E_next - dL/dy y eps / (n' + eps).
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.shared import call, gated_recurrence, has_kernel
from memexp.cortex.kernels.slstm.plain import EPS as EPS
from memexp.cortex.kernels.slstm.plain import slstm_plain

WIDEST_ON_GPU = 64
"""The most features of a head on a GPU: four larger matrices do not fit on a multiprocessor."""

SAVED = 7
"""Values per step and feature that the backward pass needs: i', f', tanh z, sigmoid o, sigmoid -f, c', n'."""


def slstm(gate_inputs: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The recurrence of `cells/slstm.py`.

    Args:
        gate_inputs: `[B, T, N, 4, d]`, the input's part of the gates i, f, z, o before their nonlinearities, with bias.
        recurrent: `[N, 4, d, d]`, maps the previous output to the gates (gate, to, from).
        state: `[B, 4, N, d]`, output before the norm y, cell c, normaliser n, stabiliser m.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        y `[B, T, N, d]` and the state after the last step. Gradients flow into every argument but `resets`.
    """
    if not has_kernel(gate_inputs, on_gpu=gate_inputs.shape[-1] <= WIDEST_ON_GPU):
        return slstm_plain(gate_inputs, recurrent, state, resets)
    inputs = gate_inputs.contiguous(), recurrent.contiguous(), state.contiguous()
    y, after, _ = call(_slstm, *inputs, resets, torch.is_grad_enabled())
    return y, after


_slstm = gated_recurrence(__name__, SAVED)
