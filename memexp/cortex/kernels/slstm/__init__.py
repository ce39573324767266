"""`slstm`: the recurrence of sLSTM (xLSTM: Beck et al. 2024, arXiv:2405.04517, eq. 8-18), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba, `gpu.py` one in Triton. Sizes: B rows, T steps, N heads, d
features a head.

The backward pass carries the adjoints of c and n, and that of m only as its excess over theirs, which the eps of y
causes: with A = i' dL/di' and F = f' dL/df', A + F = c' dL/dc' + n' dL/dn', so that E = dL/dm' - A - F obeys
E = [carried >= i of the next step] E_next - dL/dy y eps / (n' + eps).
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.shared import by_device, call, differentiate, has_kernel
from memexp.cortex.kernels.slstm.plain import EPS as EPS
from memexp.cortex.kernels.slstm.plain import slstm_plain

WIDEST_ON_GPU = 64
"""The most features of a head on a GPU: four matrices of more do not fit on a multiprocessor."""

SAVED = 7
"""Values a step and feature that the backward pass needs: i', f', tanh z, sigmoid o, sigmoid -f, c', n'."""


def slstm(terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The recurrence of `cells/slstm.py`.

    Args:
        terms: `[B, T, N, 4, d]`, what the gates i, f, z, o receive from the input, bias included.
        recurrent: `[N, 4, d, d]`, what they receive from the last output (gate, to, from).
        state: `[B, 4, N, d]`, output before the norm y, cell c, normaliser n, stabiliser m.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        y `[B, T, N, d]` and the state after the last step. Gradients flow into every argument but `resets`.
    """
    if not has_kernel(terms, on_gpu=terms.shape[-1] <= WIDEST_ON_GPU):
        return slstm_plain(terms, recurrent, state, resets)
    inputs = terms.contiguous(), recurrent.contiguous(), state.contiguous()
    y, after, _ = call(_slstm, *inputs, resets, torch.is_grad_enabled())
    return y, after


@torch.library.custom_op("memexp::slstm", mutates_args=())
def _slstm(
    terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the state after the last step, and what the backward pass needs if `saving`, `[B, T, N, SAVED, d]`."""
    raise NotImplementedError


@torch.library.custom_op("memexp::slstm_backward", mutates_args=())
def _slstm_backward(
    dy: Tensor, d_after: Tensor, terms: Tensor, recurrent: Tensor, state: Tensor, y: Tensor, saved: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of terms, recurrent and state."""
    raise NotImplementedError


by_device(_slstm, __name__, "forward")
by_device(_slstm_backward, __name__, "backward")


@_slstm.register_fake
def _(terms, recurrent, state, resets, saving):
    B, T, N, _, d = terms.shape
    return terms.new_empty(B, T, N, d), torch.empty_like(state), terms.new_empty(B, T if saving else 0, N, SAVED, d)


differentiate(_slstm, _slstm_backward)
