"""The sLSTM recurrence over a sequence: a plain loop, and the same with a hand-written backward pass.

Sizes: T steps, N heads, d features a head, B rows. Features come before rows (`[N, d, B]`), so that each gate is one
contiguous piece, and the heads' recurrent products are one batched matrix product.
"""

import torch
from torch import Tensor

log_sigmoid = torch._C._nn.log_sigmoid  # type: ignore[attr-defined]  (the form of F.logsigmoid that takes `out`)

EPS = 1e-6

SLSTMState = tuple[Tensor, Tensor, Tensor, Tensor]
"""(y, c, n, m), each `[N, d, B]`: output before the norm, cell, normaliser, stabiliser."""


def slstm(terms: Tensor, recurrent: Tensor, state: SLSTMState, resets: Tensor | None) -> tuple[Tensor, SLSTMState]:
    """The recurrence of xLSTM (Beck et al. 2024, arXiv:2405.04517, eq. 8-18), over whole sequences.

    Args:
        terms: `[T, N, 4, d, B]`, what the gates i, f, z, o receive from the input, bias included.
        recurrent: `[N, 4 * d, d]`, what they receive from the last output; rows in the same gate order.
        state: (y, c, n, m) before the first step.
        resets: `[T, B]` bool, True where a row's step starts a new episode; None for nowhere.

    Returns:
        y `[T, N, d, B]` and the state after the last step. Gradients flow into every argument but `resets`.
    """
    ys, *last = _SLSTM.apply(terms, recurrent, *state, resets)  # type: ignore[misc]
    y, c, n, m = last
    return ys, (y, c, n, m)


def slstm_loop(terms: Tensor, recurrent: Tensor, state: SLSTMState, resets: Tensor | None) -> tuple[Tensor, SLSTMState]:
    """What `slstm` computes, step by step as the equations say; the oracle of its tests."""
    y, c, n, m = state
    ys = []
    for t in range(len(terms)):
        if resets is not None:
            y, c, n, m = (leaf * ~resets[t] for leaf in (y, c, n, m))
        i, f, z, o = (terms[t] + (recurrent @ y).unflatten(1, terms.shape[2:4])).unbind(1)
        carried = m + torch.nn.functional.logsigmoid(f)
        m = torch.where(n == 0, i, torch.maximum(i, carried))
        i, f = torch.exp(i - m).clamp(max=1), torch.exp(carried - m).clamp(max=1)
        c, n = f * c + i * torch.tanh(z), f * n + i
        y = torch.sigmoid(o) * c / (n + EPS)
        ys.append(y)
    return torch.stack(ys), (y, c, n, m)


class _SLSTM(torch.autograd.Function):
    """`slstm_loop` in few operations a step; autograd's bookkeeping of some twenty small ones would dominate the time.

    Wherever n = 0, c = 0 too, so that the equations' case n = 0 is the other case with m = -inf: the forgetting
    factor is then exp(-inf) = 0 and m' = i. A reset is therefore one -inf added to m (and a zero factor on y).
    """

    @staticmethod
    def forward(ctx, terms, recurrent, y0, c0, n0, m0, resets):
        T, N, _, d, B = terms.shape
        gates = torch.empty_like(terms, memory_format=torch.contiguous_format)  # i', f~, tanh z, sigmoid o
        forget = terms.new_empty(T, N, d, B)  # f'
        y, c, n = (terms.new_empty(T + 1, N, d, B) for _ in range(3))
        y[0], c[0], n[0], m = y0, c0, n0, m0.masked_fill(n0 == 0, -torch.inf)
        carried, scratch = torch.empty_like(forget[0]), torch.empty_like(forget[0])
        starts, keep, lost = _masks(resets, terms)

        products, inputs = gates.view(T, N, 4 * d, B).unbind(), terms.reshape(T, N, 4 * d, B).unbind()
        i, f, z, o = (gate.unbind() for gate in gates.unbind(2))
        zo = gates[:, :, 2:].unbind()
        ys, cs, ns, forgets = y.unbind(), c.unbind(), n.unbind(), forget.unbind()
        for t in range(T):
            before = ys[t] * keep[t] if starts[t] else ys[t]
            torch.baddbmm(inputs[t], recurrent, before, out=products[t])
            log_sigmoid(f[t], out=carried)
            carried += m
            if starts[t]:
                carried += lost[t]
            m = torch.maximum(i[t], carried)
            torch.sub(carried, m, out=forgets[t]).exp_()
            i[t].sub_(m).exp_()
            z[t].mul_(2)  # tanh(a) = 2 sigmoid(2a) - 1 shares the output gate's sigmoid, several times faster than tanh
            zo[t].sigmoid_()
            z[t].mul_(2).sub_(1)
            torch.mul(i[t], z[t], out=cs[t + 1]).addcmul_(forgets[t], cs[t])
            torch.addcmul(i[t], forgets[t], ns[t], out=ns[t + 1])
            torch.add(ns[t + 1], EPS, out=scratch)
            torch.div(cs[t + 1], scratch, out=scratch)
            torch.mul(scratch, o[t], out=ys[t + 1])
        ctx.save_for_backward(gates, forget, y, c, n, recurrent, resets)
        return y[1:], y[T].clone(), c[T].clone(), n[T].clone(), m

    @staticmethod
    def backward(ctx, *grads):
        """Adjoints of c and n run backwards; that of m only as its excess over theirs, which the eps of y causes.

        With A = i' dL/di' and F = f' dL/df': A + F = c' dL/dc' + n' dL/dn', so that E = dL/dm' - A - F obeys
        E = [carried >= i of the next step] E_next - dL/dy y eps / (n' + eps).
        """
        dys, dy, dc, dn, dm = grads
        gates, forget, y, c, n, recurrent, resets = ctx.saved_tensors
        T, N, _, d, B = gates.shape
        starts, keep, _ = _masks(resets, gates)
        transposed = recurrent.transpose(1, 2)
        d_gates = torch.empty_like(gates)
        d_products, d_if, d_ifz, d_o = (
            d_gates.view(T, N, 4 * d, B),
            d_gates[:, :, :2],
            d_gates[:, :, :3],
            d_gates[:, :, 3],
        )
        adjoint = torch.stack([dc, dn, dm - dc * c[T] - dn * n[T]], dim=1)  # of c, of n, and E: [N, 3, d, B]
        of_c, of_n, excess, of_cn = adjoint[:, :1], adjoint[:, 1:2], adjoint[:, 2:], adjoint[:, :2]
        dy = dys[T - 1] + dy
        for stop in range(T, 0, -CHUNK):
            start = max(stop - CHUNK, 0)
            local = _local_derivatives(*(a[start:stop] for a in (gates, forget, y[1:], c, n, n[1:])))
            for t in range(stop - 1, start - 1, -1):
                from_y, from_c, from_n, from_excess, output, late = (factor[t - start] for factor in local)
                adjoint.addcmul_(dy.unsqueeze(1), from_y)
                torch.mul(of_c, from_c, out=d_ifz[t])
                d_if[t].addcmul_(of_n, from_n).addcmul_(excess, from_excess)
                torch.mul(dy, output, out=d_o[t])
                of_cn.mul_(forget[t].unsqueeze(1))
                excess.mul_(late.unsqueeze(1))
                back = dys[t - 1] if t else torch.zeros_like(dy)
                if starts[t]:
                    dy = torch.addcmul(back, torch.bmm(transposed, d_products[t]), keep[t])
                else:
                    dy = torch.baddbmm(back, transposed, d_products[t])
        before = y[:-1] if resets is None else y[:-1] * keep[:, None, None]
        d_recurrent = torch.matmul(d_products, before.transpose(2, 3)).sum(0)
        dc, dn, excess = adjoint.unbind(1)
        return d_gates, d_recurrent, dy, dc, dn, dc * c[0] + dn * n[0] + excess, None


CHUNK = 4
"""Steps whose local derivatives are computed at once, in large operations; it bounds the memory they take."""


def _masks(resets: Tensor | None, like: Tensor) -> tuple[list[bool], Tensor, Tensor]:
    """Which steps reset any row, and `[T, B]` factors of y (0 at a reset) and terms of m (-inf at a reset)."""
    if resets is None:
        return [False] * len(like), like, like
    starts = resets.any(1).tolist() if resets.device.type == "cpu" else [True] * len(resets)
    keep = (~resets).to(like.dtype)
    return starts, keep, keep.log()


def _local_derivatives(
    gates: Tensor, forget: Tensor, y: Tensor, c: Tensor, n: Tensor, n_next: Tensor
) -> tuple[Tensor, ...]:
    """What one step multiplies the adjoints with, for several steps `[T, N, ., d, B]` at once.

    Returns the factors y -> (c', n', E), c' -> (i, f, z), n' -> (i, f), E -> (i, f), y -> o, and E' -> E.
    """
    i, f, z, o = gates.unbind(2)
    inverse = (n_next + EPS).reciprocal()
    y_over_n = y * inverse
    early = (i == 1).to(i.dtype)  # m' = i; otherwise m' = carried
    late = 1 - early
    open_f = torch.sigmoid(-f)
    forget = forget * open_f
    from_y = torch.stack([o * inverse, -y_over_n, y_over_n * -EPS], dim=2)
    from_c = torch.stack([i * z, forget * c, i * (1 - z * z)], dim=2)
    from_n = torch.stack([i, forget * n], dim=2)
    from_excess = torch.stack([early, late * open_f], dim=2)
    return from_y, from_c, from_n, from_excess, y * (1 - o), late
