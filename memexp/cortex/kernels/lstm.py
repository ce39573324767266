"""The LSTM recurrence over a sequence: a plain loop, and the same with a hand-written backward pass.

Sizes: T steps, H features, B rows. Features come before rows (`[H, B]`), so that each gate is one contiguous piece.
"""

import torch
from torch import Tensor

LSTMState = tuple[Tensor, Tensor]
"""(h, c), each `[H, B]`."""


def lstm(terms: Tensor, recurrent: Tensor, state: LSTMState, resets: Tensor | None) -> tuple[Tensor, LSTMState]:
    """The LSTM with forget gates (Hochreiter & Schmidhuber 1997; Gers et al. 2000), over whole sequences.

    Args:
        terms: `[T, 4 * H, B]`, what the gates i, f, g, o receive from the input, biases included.
        recurrent: `[4 * H, H]`, what they receive from the last output.
        state: (h, c) before the first step.
        resets: `[T, B]` bool, True where a row's step starts a new episode; None for nowhere.

    Returns:
        h `[T, H, B]` and the state after the last step. Gradients flow into every argument but `resets`.
    """
    hs, h, c = _LSTM.apply(terms, recurrent, *state, resets)  # type: ignore[misc]
    return hs, (h, c)


def lstm_loop(terms: Tensor, recurrent: Tensor, state: LSTMState, resets: Tensor | None) -> tuple[Tensor, LSTMState]:
    """What `lstm` computes, step by step as the equations say; the oracle of its tests."""
    h, c = state
    hs = []
    for t in range(len(terms)):
        if resets is not None:
            h, c = h * ~resets[t], c * ~resets[t]
        i, f, g, o = (terms[t] + recurrent @ h).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        hs.append(h)
    return torch.stack(hs), (h, c)


class _LSTM(torch.autograd.Function):
    """`lstm_loop` in few operations a step. tanh(a) = 2 sigmoid(2a) - 1 is several times faster than torch's tanh."""

    @staticmethod
    def forward(ctx, terms, recurrent, h0, c0, resets):
        T, _, B = terms.shape
        H = recurrent.shape[1]
        gates = torch.empty_like(terms, memory_format=torch.contiguous_format)  # sigmoid i, f; tanh g; sigmoid o
        h, c = terms.new_empty(T + 1, H, B), terms.new_empty(T + 1, H, B)
        squashed = terms.new_empty(T, H, B)  # tanh c'
        h[0], c[0] = h0, c0
        starts, keep = _masks(resets, terms)
        i, f, g, o = (gate.unbind() for gate in gates.view(T, 4, H, B).unbind(1))
        for t in range(T):
            if starts[t]:  # c before the step is kept as it counts, for the backward pass
                c[t] *= keep[t]
            torch.addmm(terms[t], recurrent, h[t] * keep[t] if starts[t] else h[t], out=gates[t])
            g[t].mul_(2)
            gates[t].sigmoid_()
            g[t].mul_(2).sub_(1)
            torch.mul(i[t], g[t], out=c[t + 1]).addcmul_(f[t], c[t])
            torch.mul(c[t + 1], 2, out=squashed[t]).sigmoid_().mul_(2).sub_(1)
            torch.mul(o[t], squashed[t], out=h[t + 1])
        last = c[T].clone()
        ctx.save_for_backward(gates, h, c, squashed, recurrent, resets)
        return h[1:], h[T].clone(), last

    @staticmethod
    def backward(ctx, *grads):
        dhs, dh, dc = grads
        gates, h, c, squashed, recurrent, resets = ctx.saved_tensors
        T, _, B = gates.shape
        H = recurrent.shape[1]
        starts, keep = _masks(resets, gates)
        i, f, g, o = gates.view(T, 4, H, B).unbind(1)
        from_h = o * (1 - squashed * squashed)  # h -> c'
        output = squashed * o * (1 - o)  # h -> o
        from_c = torch.stack([g * i * (1 - i), c[:-1] * f * (1 - f), i * (1 - g * g)], dim=1)  # c' -> i, f, g
        d_gates = torch.empty_like(gates)
        d_ifgo = d_gates.view(T, 4, H, B)
        transposed = recurrent.t()
        dh = dhs[T - 1] + dh
        dc = dc.clone()
        for t in range(T - 1, -1, -1):
            dc.addcmul_(dh, from_h[t])
            torch.mul(dc, from_c[t], out=d_ifgo[t, :3])
            torch.mul(dh, output[t], out=d_ifgo[t, 3])
            dc.mul_(f[t])
            back = dhs[t - 1] if t else torch.zeros_like(dh)
            if starts[t]:
                dh = torch.addcmul(back, transposed @ d_gates[t], keep[t])
                dc *= keep[t]
            else:
                dh = torch.addmm(back, transposed, d_gates[t])
        before = h[:-1] if resets is None else h[:-1] * keep[:, None]
        d_recurrent = torch.matmul(d_gates, before.transpose(1, 2)).sum(0)
        return d_gates, d_recurrent, dh, dc, None


def _masks(resets: Tensor | None, like: Tensor) -> tuple[list[bool], Tensor]:
    """Which steps reset any row, and factors `[T, B]` of the state, 0 at a reset."""
    if resets is None:
        return [False] * len(like), like
    starts = resets.any(1).tolist() if resets.device.type == "cpu" else [True] * len(resets)
    return starts, (~resets).to(like.dtype)
