"""`lstm`: the LSTM with forget gates (Hochreiter & Schmidhuber 1997; Gers et al. 2000), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba. Sizes: B rows, T steps, H features.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.lstm.plain import lstm_plain
from memexp.cortex.kernels.shared import by_device, call, differentiate, has_kernel


def lstm(terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
    """The recurrence of `cells/lstm.py`.

    Args:
        terms: `[B, T, 4 * H]`, what the gates i, f, g, o receive from the input, biases included.
        recurrent: `[4 * H, H]`, what they receive from the last output.
        state: `[B, 2, H]`, h and c.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        h `[B, T, H]` and the state after the last step. Gradients flow into every argument but `resets`.
    """
    if not has_kernel(terms, on_gpu=False):
        return lstm_plain(terms, recurrent, state, resets)
    inputs = terms.contiguous(), recurrent.contiguous(), state.contiguous()
    h, after, _ = call(_lstm, *inputs, resets, torch.is_grad_enabled())
    return h, after


@torch.library.custom_op("memexp::lstm", mutates_args=())
def _lstm(
    terms: Tensor, recurrent: Tensor, state: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """h, the state after the last step, and if `saving` what the backward needs, `[B, T, 5, H]`: i, f, g, o, c'."""
    raise NotImplementedError


@torch.library.custom_op("memexp::lstm_backward", mutates_args=())
def _lstm_backward(
    dh: Tensor, d_after: Tensor, terms: Tensor, recurrent: Tensor, state: Tensor, h: Tensor, saved: Tensor,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of terms, recurrent and state."""
    raise NotImplementedError


by_device(_lstm, __name__, "forward", ["cpu"])
by_device(_lstm_backward, __name__, "backward", ["cpu"])


@_lstm.register_fake
def _(terms, recurrent, state, resets, saving):
    B, T, H = terms.shape[0], terms.shape[1], recurrent.shape[1]
    return terms.new_empty(B, T, H), torch.empty_like(state), terms.new_empty(B, T if saving else 0, 5, H)


differentiate(_lstm, _lstm_backward)
