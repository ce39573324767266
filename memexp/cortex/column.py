"""Columns: one expert is the block itself; several experts read the same input, and a router mixes their outputs.

Per step, with E experts and the normed input u (source: SPEC of the published implementation, section 4):

    u = RMS(x)        D_e = expert_e(u) - u
    Q_e = W_q u + q_e,  K_e = W_k D_e,  V_e = W_v D_e                      (mixer)
    D_e += W_out sum_f softmax_f(Q_e . K_f / sqrt(d_key)) V_f
    alpha = softmax_e(G + 0.1 p)             G: the same for all steps (Router), p: from u (Refiner)
    rho = sum_e alpha_e D_e + u - x
    y = x + alpha_main rho + alpha_col head(rho)
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from memexp.cortex.cells.shared import ParameterCache, State, join_states, split_state
from memexp.cortex.kernels.expert_mixture import mix_experts
from memexp.cortex.kernels.linear import Linear, activated_linear, linear
from memexp.cortex.kernels.norm import rms_norm

RMS_EPS = 1.1920929e-07
"""The float32 machine epsilon."""
TINY = 1e-3
"""Published half-width of the initial values of router, mixer and refiner."""

RouterInit = Literal["trainable", "published"]


class Column(nn.Module):
    """A column of a single expert. An expert's part of the state has keys `<index>.<token>.<leaf>`."""

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
        """Compile each expert in place with torch.compile, as one graph. Names of parameters do not change.

        The first call with a new number of steps, dtype or gradient mode makes a graph for any number of rows above 1.
        Each expert has its own graphs, up to torch's limit of 8.
        """
        for expert in self.experts:
            expert.compile(fullgraph=True, dynamic=False, isolate_recompiles=True, backend=backend)
        self.compiled = True


class RoutedColumn(Column):
    """Several experts and their router. `router` holds the options of `Router`, `Refiner` and `Mixer`."""

    def __init__(
        self, tokens: list[str], experts: list[nn.Module], width: int, *, init: RouterInit = "trainable",
        d_key: int | None = None, d_key_local: int | None = None, temperature: float = 1.0,
        local_temperature: float = 1.0, top_k: int | None = None, sqrt_scale: bool = True, center: bool = True,
        refine: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__(tokens, experts)
        self.refine, count = refine, len(experts)
        self.boundary_norm = nn.RMSNorm(width, eps=RMS_EPS)
        self.e_mixer = Mixer(count, width, d_key or width)
        self.router = Router(count, width, d_key or width, temperature, top_k, sqrt_scale, init)
        self.refiner = Refiner(count, width, d_key_local or width, local_temperature, center) if refine else None
        self.head, self.constants = Head(width), ParameterCache()
        self.alpha_main, self.alpha_col = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        u = rms_norm(x, self.boundary_norm.weight, RMS_EPS)
        ys, state = self._run_experts(u, state, resets)
        # The constants depend on the parameters of mixer, router and refiner, but not on rows or steps.
        parts = (self.e_mixer, self.router, self.refiner)
        parameters = (p for part in parts if part is not None for p in part.parameters())
        query, q_bias, out, gate_b, gate_w = self.constants(self._constants, *parameters)
        total, mixed = mix_experts(
            x, u, torch.stack(ys), linear(u, query), q_bias, gate_w, gate_b, 1 / math.sqrt(self.e_mixer.d_key)
        )
        rho = total + linear(mixed, out)
        return torch.addcmul(torch.addcmul(x, self.alpha_main, rho), self.alpha_col, self.head(rho)), state

    def _constants(self, *_: Tensor) -> tuple[Tensor, ...]:
        query, q_bias, out = self.e_mixer()
        gate_w = torch.zeros_like(q_bias) if self.refiner is None else self.refine * self.refiner()
        return query, q_bias, out, self.router(), gate_w


class Mixer(nn.Module):
    """Attention among the experts' contributions D_e, which adds to their sum weighted with alpha.

    The E keys, values and results are never formed: Q_e . W_k D_f = (W_k' Q_e) . D_f, and
    sum_e alpha_e W_out sum_f s_ef W_v D_f = W_out W_v sum_f (sum_e alpha_e s_ef) D_f. The products of two matrices are
    computed once for all rows; `kernels/expert_mixture` computes the rest.
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

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """W_k' W_q `[H, H]`, W_k' q_e `[E, H]` and W_out W_v `[H, H]`."""
        w_k = self.Wk.weight
        return w_k.t() @ self.Wq.weight, self.q_bias @ w_k, self.out.weight @ self.Wv.weight


class Router(nn.Module):
    """G `[E]`, the preference for each expert, the same for all steps.

    The published initialisation has W_q = W_k = 0, where all four gradients stay zero for ever. "trainable" starts with
    a small random preference instead. With `top_k` the choice passes no gradient, as published.
    """

    def __init__(
        self, count: int, width: int, d_key: int, temperature: float, top_k: int | None, sqrt_scale: bool,
        init: RouterInit,
    ) -> None:  # fmt: skip
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
    """A matrix `[E, H]`; its product with a step's input is p, how well each expert suits this input."""

    def __init__(self, count: int, width: int, d_key: int, temperature: float, center: bool) -> None:
        super().__init__()
        self.scale, self.center = 1 / (temperature * math.sqrt(d_key)), center
        self.Wq_tok = Linear(width, d_key, bias=False)
        self.k_loc = nn.Parameter(torch.empty(count, d_key))
        nn.init.uniform_(self.Wq_tok.weight, -TINY, TINY)
        nn.init.uniform_(self.k_loc, -TINY, TINY)

    def forward(self) -> Tensor:
        weight = self.k_loc @ self.Wq_tok.weight * self.scale
        return weight - weight.mean(0) if self.center else weight


class Head(nn.Module):
    """W_2 gelu(W_1 rho + b_1) + b_2, twice as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(width, 2 * width), Linear(2 * width, width)

    def forward(self, rho: Tensor) -> Tensor:
        return self.fc2(activated_linear(rho, self.fc1, "gelu"))
