"""`agalite`: the gated linear attention of AGaLiTe (Pramanik et al. 2023, arXiv:2310.15719), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba, `gpu.py` one in Triton. Sizes: B rows, T steps, N heads, d
features per head, E = eta. To save memory, the fast forms keep the `[E, d]` states only at the start of each chunk of
`CHUNK` steps; the backward pass recomputes the others.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.agalite.plain import CHUNK, State, agalite_plain
from memexp.cortex.kernels.shared import call, has_kernel, operator


def agalite(projected: Tensor, factors: Tensor, state: State, resets: Tensor | None) -> tuple[Tensor, State]:
    """The recurrences of `cells/agalite.py` in the rotated frame, and their output.

    g = sigmoid(gamma) x sigmoid(p3)    b = g (relu(k) x relu(p1))    phi = relu(q) x relu(p2)
    K' = b - (1 - g) K    s' = b + (1 - g) s    V' = sigmoid(beta) v - (1 - sigmoid(beta)) V
    y = V' R (K' . phi) / (2 R s' . phi + eps)

    Args:
        projected: `[B, T, N, 5, d]`, k, q, v, beta and gamma before their nonlinearities.
        factors: `[B, T, N, 3, E]`, p1, p2 and p3 before theirs.
        state: K `[B, N, E, d]`, V `[B, N, d]`, s `[B, N, E, d]`.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        y `[B, T, N, d]` and the state after the last step. Gradients flow into the first two arguments only; the state
        has none.
    """
    if not has_kernel(projected):
        y, after = agalite_plain(projected, factors, state, resets)
        return y, (after[0].detach(), after[1].detach(), after[2].detach())
    inputs = (a.contiguous() for a in (projected, factors, *state))
    y, *states = call(_agalite, *inputs, resets, torch.is_grad_enabled())
    K, V, s = (a[:, -1].detach() for a in states)
    if torch.is_grad_enabled():  # a view would keep the states of all chunks in memory
        K, V, s = K.clone(), V.clone(), s.clone()
    return y, (K, V, s)


def number_of_states(T: int, saving: bool) -> int:
    """The number of states that the forward pass returns for T steps."""
    return (T + CHUNK - 1) // CHUNK + 1 if saving else 1


def _fake_forward(
    projected: Tensor, factors: Tensor, K0: Tensor, V0: Tensor, s0: Tensor, resets: Tensor | None, saving: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, and K, V, s `[B, C+1, ...]` before each of the C chunks (C = 0 unless `saving`) and after the last."""
    B, T, N, _, d = projected.shape
    K, V, s = (a.new_empty(B, number_of_states(T, saving), *a.shape[1:]) for a in (K0, V0, s0))
    return projected.new_empty(B, T, N, d), K, V, s


def _fake_backward(
    dy: Tensor, projected: Tensor, factors: Tensor, K: Tensor, V: Tensor, s: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradients of projected and factors."""
    return torch.empty_like(projected), torch.empty_like(factors)


def _save(ctx, inputs, output) -> None:
    projected, factors, *_, resets, _ = inputs
    ctx.save_for_backward(projected, factors, *output[1:], resets)


def _gradients(ctx, dy, *d_states):
    return *_agalite_backward(dy.contiguous(), *ctx.saved_tensors), None, None, None, None, None


_agalite = operator(__name__, "forward", _fake_forward)
_agalite_backward = operator(__name__, "backward", _fake_backward)
_agalite.register_autograd(_gradients, setup_context=_save)
