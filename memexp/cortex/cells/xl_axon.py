"""X^: Transformer-XL attention whose queries, keys and values come from Axon layers.

Each of the three Axon layers runs over the inputs of an episode from its first step on. Each call recomputes the keys
and values of the memory from the Axon state before the oldest slot, so the output does not depend on how a sequence is
cut into calls. X^ attends to `mem_len` steps, whose keys and values may depend on earlier steps. With `mem_len` 0 it
has no memory at all.

The published cell (`published=True`) resets the layers of keys and values at the oldest slot of each call.
"""

import torch
from torch import Tensor

from memexp.cortex.cells.axon import AxonLayer
from memexp.cortex.cells.shared import State, join_states, split_state, with_zero_gradient
from memexp.cortex.cells.xl import XL

PREFIXES = ["q.", "k.", "v."]


class XLAxon(XL):
    """XL with Axon projections. State: that of XL, of q's Axon after the last step, of k's and v's before slot 0."""

    def __init__(self, d_hidden: int, n_heads: int = 4, mem_len: int = 128, published: bool = False) -> None:
        super().__init__(d_hidden, n_heads, mem_len, published)
        del self.q_proj, self.k_proj, self.v_proj
        self.q_proj, self.k_proj, self.v_proj = (AxonLayer(d_hidden, d_hidden) for _ in range(3))

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        if self.mem_len == 0 and not self.published:
            return {}
        layers = (self.q_proj, self.k_proj, self.v_proj)
        axons = join_states(PREFIXES, [layer.init_state(batch, device, dtype) for layer in layers])
        return super().init_state(batch, device, dtype) | axons

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        if state is None or (self.mem_len == 0 and not self.published):
            return self._only_itself(x), {}
        T = x.shape[1]
        mem, age, dtype = self._memory(x, state)
        run = torch.cat([mem, x], dim=1)
        starts = self._starts(age, resets, T)
        of_q, of_k, of_v = split_state(PREFIXES, state)
        q, of_q = self.q_proj(x, of_q, resets)
        after = self._age_after(age, resets, T)
        k, of_k = self._project(self.k_proj, run, of_k, starts, after)
        v, of_v = self._project(self.v_proj, run, of_v, starts, after)
        y = self._attend(q, torch.cat([k, v], dim=-1), age, resets)
        new = join_states(PREFIXES, [of_q, of_k, of_v])
        if self.mem_len:
            new |= {"mem": run[:, T:].detach().to(dtype), "age": after}
        return y, new

    def _only_itself(self, x: Tensor) -> Tensor:
        y = self.o_proj(self.v_proj(x, None, None)[0])
        unused = [*self.q_proj.parameters(), *self.k_proj.parameters(), self.r_proj.weight, self.u, self.v]
        return with_zero_gradient(y, unused)

    def _starts(self, age: Tensor, resets: Tensor | None, T: int) -> Tensor:
        """Where in the run an Axon layer must be reset, bool `[B, M+T]`."""
        places = torch.arange(self.mem_len + T, device=age.device)
        first = self.mem_len - age[:, None]  # place of the current episode; at place 0 the carried state continues it
        starts = places == first if self.published else (places == first) & (first > 0)
        if resets is not None:
            starts[:, self.mem_len :] |= resets
        return starts

    def _project(
        self, layer: AxonLayer, run: Tensor, before: State, starts: Tensor, age: Tensor
    ) -> tuple[Tensor, State]:
        """The layer's output over the run, and its state before the oldest slot of the next call.

        `age` is that of the next call. The state is zero unless the oldest slot continues an earlier episode.
        """
        y, end = layer(run, before, starts)
        if self.published:
            return y, end
        with torch.no_grad():
            T = run.shape[1] - self.mem_len
            _, edge = layer.cell(run[:, :T], before, starts[:, :T])
            within = (age == self.mem_len) & ~starts[:, T]
        return y, {key: leaf * within.view(-1, *[1] * (leaf.dim() - 1)) for key, leaf in edge.items()}
