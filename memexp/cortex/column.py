"""Columns: one expert is the block itself; several experts read the same input, and a router mixes what they add to it.

E experts, u the normed input, all per step (source: SPEC of the published implementation, section 4):

    u = RMS(x)        D_e = expert_e(u) - u
    Q_e = W_q u + q_e,  K_e = W_k D_e,  V_e = W_v D_e                      (mixer)
    D_e += W_out sum_f softmax_f(Q_e . K_f / sqrt(d_key)) V_f
    alpha = softmax_e(G + 0.1 p)             G: the same for all steps (router), p: from u (refiner)
    rho = sum_e alpha_e D_e + u - x
    y = x + alpha_main rho + alpha_col head(rho)
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memexp.cortex.cells.shared import State, join_states, split_state
from memexp.cortex.kernels.linear import Linear, linear

RMS_EPS = 1.1920929e-07
"""The float32 machine epsilon."""
TINY = 1e-3
"""Published half-width of the initial values of router, mixer and refiner."""

RouterInit = Literal["trainable", "published"]


class Column(nn.Module):
    """Experts side by side, each with its part of the state under keys `<index>.<token>.<leaf>`; here a single one."""

    compiled = False
    """Whether `compile_experts` was called."""

    def __init__(self, tokens: list[str], experts: list[nn.Module]) -> None:
        super().__init__()
        self.prefixes = [f"{index}.{token}." for index, token in enumerate(tokens)]
        self.experts = nn.ModuleList(experts)

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        states = [expert.init_state(batch, device, dtype) for expert in self.experts]  # type: ignore[operator]
        return join_states(self.prefixes, states)

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        ys, state = self._run_experts(x, state, resets)
        return ys[0], state

    def _run_experts(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[list[Tensor], State]:
        parts = split_state(self.prefixes, state)
        if self.compiled:
            for leaf in (x, resets, *(state or {}).values()):
                if leaf is not None:
                    torch._dynamo.maybe_mark_dynamic(leaf, 0)  # one graph for any number of rows
        outcomes = [expert(x, part, resets) for expert, part in zip(self.experts, parts, strict=True)]
        return [y for y, _ in outcomes], join_states(self.prefixes, [part for _, part in outcomes])

    def compile_experts(self, backend: str = "inductor") -> None:
        """Have torch.compile make one graph of each expert, in place: names of parameters stay as they are.

        A graph is made at the first call with a number of steps, a type and a gradient mode; it serves any number of
        rows but one, which makes its own. Each expert counts its graphs by itself, up to torch's limit of 8.
        """
        for expert in self.experts:
            expert.compile(fullgraph=True, dynamic=False, isolate_recompiles=True, backend=backend)
        self.compiled = True


class RoutedColumn(Column):
    """Several experts and their router. `router` holds the options of `Router`, `Refiner` and `Mixer`."""

    def __init__(
        self,
        tokens: list[str],
        experts: list[nn.Module],
        width: int,
        *,
        init: RouterInit = "trainable",
        d_key: int | None = None,
        d_key_local: int | None = None,
        temperature: float = 1.0,
        local_temperature: float = 1.0,
        top_k: int | None = None,
        sqrt_scale: bool = True,
        center: bool = True,
        refine: float = 0.1,
    ) -> None:
        super().__init__(tokens, experts)
        self.refine, count = refine, len(experts)
        self.boundary_norm = nn.RMSNorm(width, eps=RMS_EPS)
        self.e_mixer = Mixer(count, width, d_key or width)
        self.router = Router(count, width, d_key or width, temperature, top_k, sqrt_scale, init)
        self.refiner = Refiner(count, width, d_key_local or width, local_temperature, center) if refine else None
        self.head = Head(width)
        self.alpha_main, self.alpha_col = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        u = self.boundary_norm(x)
        ys, state = self._run_experts(u, state, resets)
        D = torch.stack(ys, dim=-2) - u.unsqueeze(-2)  # [B, T, E, H]
        logits = self.router()
        if self.refiner is not None:
            logits = logits + self.refine * self.refiner(u)
        alpha = torch.softmax(logits, dim=-1).expand(*u.shape[:-1], -1)
        rho = (alpha.unsqueeze(-1) * D).sum(-2) + self.e_mixer(u, D, alpha) + u - x
        return x + self.alpha_main * rho + self.alpha_col * self.head(rho), state


class Mixer(nn.Module):
    """Attention among the experts' contributions: what it adds to their sum weighted with alpha.

    Since alpha weighs a sum of linear maps, neither the E keys and values nor the E results are formed: Q_e . W_k D_f =
    (W_k' Q_e) . D_f, and sum_e alpha_e W_out sum_f s_ef W_v D_f = W_out W_v sum_f (sum_e alpha_e s_ef) D_f. The pairs
    of matrices that meet in there are multiplied once for all rows.
    """

    def __init__(self, count: int, width: int, d_key: int) -> None:
        super().__init__()
        self.d_key = d_key
        self.Wq, self.Wk = Linear(width, d_key, bias=False), Linear(width, d_key, bias=False)
        self.Wv, self.out = Linear(width, width, bias=False), Linear(width, width, bias=False)
        self.q_bias = nn.Parameter(torch.empty(count, d_key))
        for parameter in (self.Wq.weight, self.Wk.weight, self.Wv.weight, self.q_bias):
            nn.init.uniform_(parameter, -TINY, TINY)
        nn.init.zeros_(self.out.weight)

    def forward(self, u: Tensor, D: Tensor, alpha: Tensor) -> Tensor:
        """u `[B, T, H]`, D `[B, T, E, H]`, alpha `[B, T, E]` -> `[B, T, H]`."""
        query = linear(u, self.Wk.weight.t() @ self.Wq.weight)
        shared = (query.unsqueeze(-2) * D).sum(-1)  # [B, T, f], the same for every e
        own = D @ (self.q_bias @ self.Wk.weight).t()  # [B, T, f, e]
        attention = torch.softmax((own + shared.unsqueeze(-1)) / math.sqrt(self.d_key), dim=-2)
        weights = (attention * alpha.unsqueeze(-2)).sum(-1)  # [B, T, f]
        return linear((weights.unsqueeze(-1) * D).sum(-2), self.out.weight @ self.Wv.weight)


class Router(nn.Module):
    """G `[E]`, which experts count more, regardless of the step.

    The published initialisation has W_q = W_k = 0, where all four gradients vanish for ever. `trainable` starts with a
    small random preference instead. With `top_k` the choice passes no gradient, as published.
    """

    def __init__(
        self,
        count: int,
        width: int,
        d_key: int,
        temperature: float,
        top_k: int | None,
        sqrt_scale: bool,
        init: RouterInit,
    ) -> None:
        super().__init__()
        self.temperature, self.top_k = temperature, top_k
        self.scale = 1 / math.sqrt(d_key) if sqrt_scale else 1 / d_key
        self.context, self.keys = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(count, d_key))
        self.Wq, self.Wk = Linear(width, d_key, bias=False), Linear(d_key, d_key, bias=False)
        if init == "published":
            nn.init.uniform_(self.context, -TINY, TINY)
            nn.init.uniform_(self.keys, -TINY, TINY)
            nn.init.zeros_(self.Wq.weight)
            nn.init.zeros_(self.Wk.weight)

    def forward(self) -> Tensor:
        G = self.Wk(self.keys) @ self.Wq(self.context) * self.scale
        if self.top_k is not None and self.top_k < len(G):
            chosen = G.detach().topk(self.top_k).indices
            G = torch.full_like(G, -torch.inf).scatter(0, chosen, G.detach()[chosen])
        return G / self.temperature


class Refiner(nn.Module):
    """p `[B, T, E]`, how well each expert suits this step's input."""

    def __init__(self, count: int, width: int, d_key: int, temperature: float, center: bool) -> None:
        super().__init__()
        self.scale, self.center = 1 / (temperature * math.sqrt(d_key)), center
        self.Wq_tok = Linear(width, d_key, bias=False)
        self.k_loc = nn.Parameter(torch.empty(count, d_key))
        nn.init.uniform_(self.Wq_tok.weight, -TINY, TINY)
        nn.init.uniform_(self.k_loc, -TINY, TINY)

    def forward(self, u: Tensor) -> Tensor:
        p = linear(u, self.k_loc @ self.Wq_tok.weight) * self.scale
        return p - p.mean(-1, keepdim=True) if self.center else p


class Head(nn.Module):
    """W_2 gelu(W_1 rho + b_1) + b_2, twice as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(width, 2 * width), Linear(2 * width, width)

    def forward(self, rho: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(rho)))
