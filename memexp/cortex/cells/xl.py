"""X: Transformer-XL attention (Dai et al. 2019, arXiv:1901.02860, section 3.3) over a fixed number of steps.

A step attends to exactly the last `mem_len` steps of its episode and itself. For query i and key j of one head:

    a_ij = ( (q_i + u) . k_j + (q_i + v) . W_r pos(i - j) ) / sqrt(d),   d features a head
    y_i  = W_o concat_heads(sum_j softmax_j(a_ij) v_j) + b_o
    pos(k) = [sin(k w_0), sin(k w_1), .., cos(k w_0), cos(k w_1), ..],   w_n = 10000^(-2n/H)

With `published=True` (for parity tests only) a step also attends to all earlier steps of the same call and to the
empty slots of a fresh memory. The output then depends on how a sequence is cut into calls. Nothing else differs.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.shared import State, accumulator_dtype, check_heads, full_precision, with_zero_gradient
from memexp.cortex.kernels.attention import attention_step, banded_attention
from memexp.cortex.kernels.linear import Linear, linear_over_memory


class XL(nn.Module):
    """Attention with a memory of past inputs.

    State (empty if `mem_len` is 0): `mem` `[B, M, H]`, the last M inputs, newest last, without gradient; `age` `[B]`
    int64, the number of them that belong to the current episode.
    """

    codes: Tensor

    def __init__(self, d_hidden: int, n_heads: int = 4, mem_len: int = 128, published: bool = False) -> None:
        super().__init__()
        if mem_len < 0:
            raise ValueError(f"mem_len={mem_len} must not be negative")
        check_heads("Transformer-XL attention", d_hidden, n_heads)
        self.d_hidden, self.n_heads, self.d, self.mem_len = d_hidden, n_heads, d_hidden // n_heads, mem_len
        self.published = published
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (Linear(d_hidden, d_hidden) for _ in range(4))
        self.r_proj = Linear(d_hidden, d_hidden, bias=False)
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.o_proj, self.r_proj):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        self.u = nn.Parameter(torch.zeros(n_heads, self.d))
        self.v = nn.Parameter(torch.zeros(n_heads, self.d))
        self.register_buffer("codes", position_codes(mem_len, d_hidden), persistent=False)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        if self.mem_len == 0:
            return {}
        mem = torch.zeros(batch, self.mem_len, self.d_hidden, device=device, dtype=dtype)
        return {"mem": mem, "age": torch.full((batch,), self.mem_len if self.published else 0, device=device)}

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        if state is None or (self.mem_len == 0 and not self.published):
            return self._only_itself(x), {}
        T = x.shape[1]
        mem, age, dtype = self._memory(x, state)
        if T == 1:
            age = age if resets is None else age * ~resets[:, 0]
            y, mem = self._step(x[:, 0], mem, age)
            y, age = y[:, None], (age + 1).clamp(max=self.mem_len)
        else:
            run = torch.cat([mem, x], dim=1)
            y, mem = self._sequence(x, run, age, resets), run[:, T:]
            age = self._age_after(age, resets, T)
        return y, {"mem": mem.detach().to(dtype), "age": age} if self.mem_len else {}

    def _memory(self, x: Tensor, state: State) -> tuple[Tensor, Tensor, torch.dtype]:
        """Past inputs `[B, M, H]`, the number of visible ones `[B]`, and the dtype in which they are stored."""
        if self.mem_len:
            return state["mem"].detach().to(x.dtype), state["age"], state["mem"].dtype
        return x[:, :0].detach(), torch.zeros(len(x), dtype=torch.int64, device=x.device), x.dtype

    def _only_itself(self, x: Tensor) -> Tensor:
        """Attention without memory, where the softmax over one key is 1."""
        y = self.o_proj(self.v_proj(x))
        unused = [*self.q_proj.parameters(), *self.k_proj.parameters(), self.r_proj.weight, self.u, self.v]
        return with_zero_gradient(y, unused)

    def _step(self, x: Tensor, mem: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """One step x `[B, H]` attends to mem `[B, M, H]` and to x itself; also returns the memory after it.

        It does not compute keys and values: (W_k a) . q = a . (W_k' q), and sum_j p_j W_v a_j = W_v sum_j p_j a_j. The
        term b_k . q is the same for every key and does not change the softmax. Rounding to half precision would break
        this, so everything from q to the heads is in single precision, in both passes.
        """
        q, r = self.q_proj(x), self.r_proj(self.codes.to(x.dtype))
        N, dtype = self.n_heads, accumulator_dtype(x)
        with full_precision(x):
            q, r = q.to(dtype).view(-1, N, self.d).transpose(0, 1), r.to(dtype).view(-1, N, self.d).permute(1, 2, 0)
            w_k, w_v = (linear.weight.to(dtype).view(N, self.d, -1) for linear in (self.k_proj, self.v_proj))
            scale = 1 / math.sqrt(self.d)
            queries = ((q + self.u[:, None]) * scale @ w_k).transpose(0, 1)  # [B, N, H]
            pos_scores = ((q + self.v[:, None]) * scale @ r).transpose(0, 1)  # [B, N, M+1]
            mixed, mem = attention_step(queries, pos_scores, mem, x, age)
            heads = (mixed.transpose(0, 1) @ w_v.transpose(1, 2)).transpose(0, 1).flatten(1) + self.v_proj.bias
        return with_zero_gradient(self.o_proj(heads.to(x.dtype)), [self.k_proj.bias]), mem

    def _sequence(self, x: Tensor, run: Tensor, age: Tensor, resets: Tensor | None) -> Tensor:
        """All steps x `[B, T, H]` attend to run `[B, M+T, H]`, the memory and x."""
        weight = torch.cat([self.k_proj.weight, self.v_proj.weight])
        bias = torch.cat([self.k_proj.bias, self.v_proj.bias])
        with full_precision(x):
            kv = linear_over_memory(*(a.to(accumulator_dtype(x)) for a in (run, x, weight, bias)))
        return self._attend(self.q_proj(x), kv, age, resets)

    def _attend(self, q: Tensor, kv: Tensor, age: Tensor, resets: Tensor | None) -> Tensor:
        """Queries `[B, T, H]` attend to keys and values `[B, M+T, 2 H]`."""
        T = q.shape[1]
        window = self.mem_len + T - 1 if self.published else self.mem_len
        codes = position_codes(window, self.d_hidden).to(q) if self.published else self.codes.to(q.dtype)
        front = window - self.mem_len  # invisible slots, so that every query has `window` keys before it
        kv = F.pad(kv, (0, 0, front, 0)) if front else kv
        episode, episodes = self._episodes(age, resets, T, front)
        terms = (q, kv, self.r_proj(codes), self.u, self.v)
        with full_precision(q):
            dtype = accumulator_dtype(q)
            y = banded_attention(*(a.to(dtype) for a in terms), episode=episode, episodes=episodes)
        return self.o_proj(y.to(q.dtype))

    def _episodes(self, age: Tensor, resets: Tensor | None, T: int, front: int) -> tuple[Tensor, Tensor]:
        """The episode number of each step `[B, T]` and of each key `[B, front+M+T]`, -1 for invisible keys."""
        steps = age.new_zeros(len(age), T) if resets is None else resets.cumsum(1)
        slots = torch.arange(-front, self.mem_len, device=age.device)
        past = -((slots < self.mem_len - age[:, None]) | (slots < 0)).to(steps.dtype)
        return steps, torch.cat([past, steps], dim=1)

    def _age_after(self, age: Tensor, resets: Tensor | None, T: int) -> Tensor:
        age = age + T
        if resets is not None:
            since = torch.arange(T, 0, -1, device=age.device)  # steps of the episode if it starts at step t
            age = torch.where(resets, since, age[:, None]).amin(1)
        return age.clamp(max=self.mem_len)


def position_codes(window: int, width: int) -> Tensor:
    """Sinusoidal codes `[window+1, width]` of the distances window, .., 1, 0."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    phase = torch.arange(window, -1, -1, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([phase.sin(), phase.cos()], dim=1)[:, :width].float()
