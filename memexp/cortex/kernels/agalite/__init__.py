"""`agalite`: the gated linear attention of AGaLiTe (Pramanik et al. 2023, arXiv:2310.15719), over whole sequences.

`plain.py` is its definition, `cpu.py` one pass in Numba, `gpu.py` one in Triton. Sizes: B rows, T steps, N heads, d
features a head, E = eta. The fast forms never hold the `[E, d]` states of all steps: the forward pass keeps those at
the start of each chunk of `CHUNK` steps, from which the backward pass recomputes the others.
"""

import torch
from torch import Tensor

from memexp.cortex.kernels.agalite.plain import CHUNK, State, agalite_plain
from memexp.cortex.kernels.shared import gradients_of

Tensors = tuple[Tensor, Tensor, Tensor, Tensor]


def agalite(
    k: Tensor, q: Tensor, v: Tensor, beta: Tensor, gamma: Tensor, p: Tensor, state: State, resets: Tensor | None
) -> tuple[Tensor, State]:
    """The recurrences of `cells/agalite.py` in the turned frame, and their read-out.

    g = gamma x p3,  b = g (k x p1):   K' = b - (1 - g) K    s' = b + (1 - g) s    V' = beta v - (1 - beta) V
    y = V' R (K' . (q x p2)) / (2 R s' . (q x p2) + eps)

    Args:
        k, q, v, beta, gamma: `[B, T, N, d]`, after their nonlinearities.
        p: `[B, T, N, 3, E]`, p1, p2 and p3 after theirs.
        state: K `[B, N, E, d]`, V `[B, N, d]`, s `[B, N, E, d]`.
        resets: `[B, T]` bool, True where the state is cleared before a step; None for nowhere.

    Returns:
        y `[B, T, N, d]` and the state after the last step. Gradients flow into the first six arguments, and neither
        into the state nor out of it.
    """
    y, Ks, Vs, ss = _agalite(
        *(a.contiguous() for a in (k, q, v, beta, gamma, p, *state)), resets, torch.is_grad_enabled()
    )
    return y, (Ks[:, -1].detach(), Vs[:, -1].detach(), ss[:, -1].detach())


def number_of_states(T: int, saving: bool) -> int:
    """How many states of T steps the forward pass returns."""
    return (T + CHUNK - 1) // CHUNK + 1 if saving else 1


@torch.library.custom_op("memexp::agalite", mutates_args=())
def _agalite(
    k: Tensor, q: Tensor, v: Tensor, beta: Tensor, gamma: Tensor, p: Tensor,
    K0: Tensor, V0: Tensor, s0: Tensor, resets: Tensor | None, saving: bool,
) -> Tensors:  # fmt: skip
    """y, and K, V, s `[B, C+1, ...]` before each of the C chunks (if `saving`, else C = 0) and after the last."""
    y, states, now = [], [(K0, V0, s0)], (K0, V0, s0)
    for at in range(0, k.shape[1], CHUNK):
        part = slice(at, at + CHUNK)
        steps = (a[:, part] for a in (k, q, v, beta, gamma, p))
        y_part, now = agalite_plain(*steps, now, None if resets is None else resets[:, part])
        y.append(y_part)
        states.append(now)
    K, V, s = (torch.stack(leaves, dim=1) for leaves in zip(*states[0 if saving else -1 :], strict=True))
    return torch.cat(y, dim=1), K, V, s


@torch.library.custom_op("memexp::agalite_backward", mutates_args=())
def _agalite_backward(
    dy: Tensor, k: Tensor, q: Tensor, v: Tensor, beta: Tensor, gamma: Tensor, p: Tensor,
    K: Tensor, V: Tensor, s: Tensor, resets: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of k, q, v, beta, gamma and p."""
    state = (K[:, 0], V[:, 0], s[:, 0])
    dk, dq, dv, d_beta, d_gamma, dp = gradients_of(
        lambda *a: [agalite_plain(*a, state, resets)[0]], [k, q, v, beta, gamma, p], [dy]
    )
    return dk, dq, dv, d_beta, d_gamma, dp


@_agalite.register_kernel("cpu")
def _(*arguments):
    from memexp.cortex.kernels.agalite import cpu

    return cpu.forward(*arguments)


@_agalite_backward.register_kernel("cpu")
def _(*arguments):
    from memexp.cortex.kernels.agalite import cpu

    return cpu.backward(*arguments)


@_agalite.register_kernel("cuda")
def _(*arguments):
    from memexp.cortex.kernels.agalite import gpu

    return gpu.forward(*arguments)


@_agalite_backward.register_kernel("cuda")
def _(*arguments):
    from memexp.cortex.kernels.agalite import gpu

    return gpu.backward(*arguments)


@_agalite.register_fake
def _(k, q, v, beta, gamma, p, K0, V0, s0, resets, saving):
    B, states = len(k), number_of_states(k.shape[1], saving)
    return torch.empty_like(v), *(a.new_empty(B, states, *a.shape[1:]) for a in (K0, V0, s0))


@_agalite_backward.register_fake
def _(dy, k, q, v, beta, gamma, p, K, V, s, resets):
    return tuple(torch.empty_like(a) for a in (k, q, v, beta, gamma, p))


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:6], *output[1:], inputs[-2])


def _backward(ctx, dy, *d_states):
    return *_agalite_backward(dy.contiguous(), *ctx.saved_tensors), None, None, None, None, None


_agalite.register_autograd(_backward, setup_context=_save)
