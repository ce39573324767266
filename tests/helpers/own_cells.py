"""Cells as a user would write them, `helpers.own_cells:NAME`: right ones, and one wrong in each way."""

import torch
from torch import nn


class GRU(nn.Module):
    """torch's GRU. The state is a dict."""

    def __init__(self, d_hidden):
        super().__init__()
        self.net = nn.GRU(d_hidden, d_hidden, batch_first=True)

    def init_state(self, batch, device, dtype):
        return {"h": torch.zeros(batch, self.net.hidden_size, device=device, dtype=dtype)}

    def forward(self, x, state, resets):
        h, ys = state["h"], []
        for t in range(x.shape[1]):
            h = torch.where(resets[:, t, None], 0, h)
            y, last = self.net(x[:, t : t + 1], h[None])
            h, ys = last[0], [*ys, y]
        return torch.cat(ys, 1), {"h": h}


class Leaky(nn.Module):
    """h' = a h + W x, y = h. The state is one tensor."""

    def __init__(self, d_hidden):
        super().__init__()
        self.proj, self.rate = nn.Linear(d_hidden, d_hidden), nn.Parameter(torch.zeros(d_hidden))

    def init_state(self, batch, device, dtype):
        return torch.zeros(batch, len(self.rate), device=device, dtype=dtype)

    def forward(self, x, state, resets):
        u, ys = self.proj(x), []
        for t in range(x.shape[1]):
            state = self.step(state, u[:, t], resets[:, t, None])
            ys.append(state)
        return torch.stack(ys, 1), state

    def step(self, h, u, reset):
        return torch.sigmoid(self.rate) * torch.where(reset, 0, h) + u


class Nested(Leaky):
    """A tuple of a dict and a number of steps; it starts at what it has learnt, and knows its twin in closed form."""

    block, step_flops = "PassThrough", 123

    def __init__(self, d_hidden):
        super().__init__(d_hidden)
        self.start = nn.Parameter(torch.ones(d_hidden))

    def init_state(self, batch, device, dtype):
        h = self.start.to(device, dtype).expand(batch, -1)
        return {"h": [h]}, torch.zeros(batch, dtype=torch.int64, device=device)

    def forward(self, x, state, resets):
        h, steps, u, ys = state[0]["h"][0], state[1], self.proj(x), []
        for t in range(x.shape[1]):
            h = torch.where(resets[:, t, None], self.start.to(h), h)
            steps = torch.where(resets[:, t], 0, steps) + 1
            h = torch.sigmoid(self.rate) * h + u[:, t]
            ys.append(h / steps[:, None])
        return torch.stack(ys, 1), ({"h": [h]}, steps)

    def without_memory(self, x):
        return torch.sigmoid(self.rate) * self.start + self.proj(x)


class LooksAtItsData(Leaky):
    """Cannot be counted on meta tensors."""

    def forward(self, x, state, resets):
        if resets.any() and x.abs().max() > 1e9:
            raise ValueError
        return super().forward(x, state, resets)


class Wide(Leaky):
    """Inside a feed-forward part that is twice as wide."""

    block = "PreUpGated"


class IgnoresResets(Leaky):
    def step(self, h, u, reset):
        return super().step(h, u, reset & False)


class ResetsOneStepLate(Leaky):
    def forward(self, x, state, resets):
        return super().forward(x, state, torch.cat([resets[:, :1] & False, resets[:, :-1]], 1))


class StepIsNoSequence(Leaky):
    def forward(self, x, state, resets):
        y, state = super().forward(x, state, resets)
        return y * (1 if x.shape[1] > 1 else 1.01), state


class StateIsLost(Leaky):
    def forward(self, x, state, resets):
        y, last = super().forward(x, state, resets)
        return y, state if x.shape[1] > 1 else last


class MixesRows(Leaky):
    def forward(self, x, state, resets):
        return super().forward(x - x.mean(0, keepdim=True), state, resets)


class ReadsNoneAsFresh(Leaky):
    """Without memory, only the first step is a first one."""

    def without_memory(self, x):
        state = self.init_state(len(x), x.device, x.dtype)
        return super().forward(x, state, torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device))[0]


class KeepsItself(Leaky):
    """Has a state besides the one that it returns."""

    last = 0.0

    def forward(self, x, state, resets):
        y, state = super().forward(x + self.last, state, resets)
        self.last = x.detach().mean().item()
        return y, state


class WritesIntoItsState(Leaky):
    def forward(self, x, state, resets):
        y, after = super().forward(x, state, resets)
        return y, state.copy_(after.detach())


class ForgetsDtype(Leaky):
    def init_state(self, batch, device, dtype):
        return torch.zeros(batch, len(self.rate), device=device)


class ForgetsDevice(Leaky):
    def init_state(self, batch, device, dtype):
        return torch.zeros(batch, len(self.rate), dtype=dtype)


class ReturnsDouble(Leaky):
    def forward(self, x, state, resets):
        y, state = super().forward(x, state, resets)
        return y, state.double()


class ReturnsOtherShape(Leaky):
    def forward(self, x, state, resets):
        y, state = super().forward(x, state, resets)
        return y[..., :-1], state


class ReturnsNoState(Leaky):
    def forward(self, x, state, resets):
        return super().forward(x, state, resets)[0]


class GrowingState(Leaky):
    def forward(self, x, state, resets):
        y, state = super().forward(x, state, resets)
        return y, (state, state)


class CutsGradients(Leaky):
    def step(self, h, u, reset):
        return super().step(h.detach(), u, reset)


class WrongGradient(Leaky):
    def step(self, h, u, reset):
        h = super().step(h, u, reset)
        return 2 * h.detach() - h


class NoMemory(Leaky):
    def step(self, h, u, reset):
        return 0 * h + u


class NotFinite(Leaky):
    def step(self, h, u, reset):
        return super().step(h, u, reset) / 0


class Raises(Leaky):
    def forward(self, x, state, resets):
        raise RuntimeError("out of ideas")


class StateIsANumber(Leaky):
    def init_state(self, batch, device, dtype):
        return 0


class StateOfNumpy(Leaky):
    def init_state(self, batch, device, dtype):
        return {"h": torch.zeros(batch, 2).numpy()}


class RowsComeSecond(Leaky):
    def init_state(self, batch, device, dtype):
        return torch.zeros(1, batch, len(self.rate), device=device, dtype=dtype)


class NeedsMore(Leaky):
    def __init__(self, d_hidden, depth):
        super().__init__(d_hidden)


class UnknownBlock(Leaky):
    block = "PostUp"


class NoModule:
    def __init__(self, d_hidden): ...

    def init_state(self, batch, device, dtype): ...

    def forward(self, x, state, resets): ...


class NoMethods(nn.Module): ...


class Looking(nn.Module):
    """A cell whose step depends on the values of its input, which a trace cannot follow."""

    def __init__(self, d_hidden):
        super().__init__()
        self.proj = nn.Linear(d_hidden, d_hidden)

    def init_state(self, batch, device, dtype):
        return torch.zeros(batch, self.proj.in_features, device=device, dtype=dtype)

    def forward(self, x, state, resets):
        if resets.any():
            state = state * 0
        return self.proj(x) + state[:, None], state


class Unusual(Looking):
    """A cell with an operator that ONNX lacks."""

    def forward(self, x, state, resets):
        return torch.special.bessel_j0(self.proj(x)), state


class Fixing(Looking):
    """A cell for as many rows as it sees first."""

    def forward(self, x, state, resets):
        return self.proj(x) + torch.zeros(len(x), 1, 1), state
