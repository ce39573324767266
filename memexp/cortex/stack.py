"""The memory of a policy: columns in sequence, built from a pattern string.

`TOKEN_BLOCKS` gives each token of a pattern its block and cell; `own.py` those of a cell of one's own.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from memexp.config import UsageError, did_you_mean
from memexp.cortex.blocks import PassThrough, PostUpGated, PreUpGated
from memexp.cortex.cells.agalite import AGaLiTe
from memexp.cortex.cells.axon import Axon
from memexp.cortex.cells.conv import CausalConv
from memexp.cortex.cells.delta import GatedDeltaNet
from memexp.cortex.cells.frames import Frames
from memexp.cortex.cells.gru import GRU
from memexp.cortex.cells.lru import LRU
from memexp.cortex.cells.lstm import LSTM
from memexp.cortex.cells.mamba import Mamba2
from memexp.cortex.cells.min_gru import MinGRU
from memexp.cortex.cells.mlstm import MLSTM
from memexp.cortex.cells.s5 import S5
from memexp.cortex.cells.shared import State, accumulator_dtype, join_states, split_state
from memexp.cortex.cells.slstm import SLSTM
from memexp.cortex.cells.xl import XL
from memexp.cortex.cells.xl_axon import XLAxon
from memexp.cortex.column import Column, RoutedColumn, RouterInit
from memexp.cortex.config import AGALITE_HEADS
from memexp.cortex.own import own_block
from memexp.pattern import Pattern, parse_pattern


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a stack's cells."""

    d_hidden: int
    n_heads: int = 4
    """Heads of X, S, M and D."""
    agalite_heads: int = AGALITE_HEADS
    """Heads of Ag."""
    mem_len: int = 128
    """Steps that X attends to, besides the current one."""
    conv_kernel: int = 4
    """Steps that the causal convolution of C, S, M, B and D reads."""
    published_xl: bool = False
    """X as published, for parity tests: it also attends to older steps of the same call, and to empty slots."""
    router_init: RouterInit = "trainable"
    """Initial weights of the router; with "published" its gradients stay zero for ever."""
    router: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further options of `RoutedColumn`, such as top_k or temperature."""


def mlstm(o: Options, axon: bool) -> nn.Module:
    cell = MLSTM(PreUpGated.cell_width(o.d_hidden), o.n_heads, o.conv_kernel, axon=axon)
    return PreUpGated(cell, o.d_hidden, activate=axon)


TOKEN_BLOCKS: dict[str, Callable[[Options], nn.Module]] = {
    "A": lambda o: PostUpGated(Axon(o.d_hidden), o.d_hidden),
    "Ag": lambda o: PostUpGated(AGaLiTe(o.d_hidden, o.agalite_heads), o.d_hidden),
    "X": lambda o: PostUpGated(XL(o.d_hidden, o.n_heads, o.mem_len, o.published_xl), o.d_hidden),
    "X^": lambda o: PostUpGated(XLAxon(o.d_hidden, o.n_heads, o.mem_len, o.published_xl), o.d_hidden),
    "M": lambda o: mlstm(o, axon=False),
    "M^": lambda o: mlstm(o, axon=True),
    "S": lambda o: PostUpGated(SLSTM(o.d_hidden, o.n_heads, o.conv_kernel), o.d_hidden),
    "S^": lambda o: PostUpGated(SLSTM(o.d_hidden, o.n_heads, o.conv_kernel, axon=True), o.d_hidden),
    "L": lambda o: PassThrough(LSTM(o.d_hidden)),
    "G": lambda o: PassThrough(GRU(o.d_hidden)),
    "G-": lambda o: PostUpGated(MinGRU(o.d_hidden), o.d_hidden),
    "R": lambda o: PostUpGated(LRU(o.d_hidden), o.d_hidden),
    "S5": lambda o: PostUpGated(S5(o.d_hidden), o.d_hidden),
    "B": lambda o: PostUpGated(Mamba2(o.d_hidden, o.conv_kernel), o.d_hidden),
    "D": lambda o: PostUpGated(GatedDeltaNet(o.d_hidden, o.n_heads, o.conv_kernel), o.d_hidden),
    "C": lambda o: PassThrough(CausalConv(o.d_hidden, o.conv_kernel)),
    "W": lambda o: PassThrough(Frames(o.d_hidden)),
}


class Stack(nn.Module):
    """Columns in sequence, then a layer norm. The state is a flat dict of tensors `[batch, ...]` that the caller owns.

    T calls with one step and one call with T steps give the same output and state. With `memory="off"` every step
    starts from a fresh state, and the state that `init_state` returns is empty.
    """

    def __init__(
        self, columns: list[Column], width: int, memory: Literal["on", "off"] = "on", post_norm: bool = True
    ) -> None:
        super().__init__()
        self.width, self.memory = width, memory
        self.prefixes = [f"{layer}." for layer in range(len(columns))]
        self.blocks = nn.ModuleList(columns)
        self.norm = nn.LayerNorm(width) if post_norm else nn.Identity()

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state of `batch` rows at the start of an episode, by default on the parameters' device.

        The default dtype is that of the parameters, but float32 for half precision: with rounding after each call, the
        result would depend on how a sequence is cut into calls.
        """
        if self.memory == "off":
            return {}
        parameter = next(self.parameters())
        device, dtype = torch.device(device or parameter.device), dtype or accumulator_dtype(parameter)
        return join_states(self.prefixes, [column.init_state(batch, device, dtype) for column in self.blocks])  # type: ignore[operator]

    def forward(self, x: Tensor, state: State | None = None, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """One step or a sequence.

        Args:
            x: `[B, T, H]`, or `[B, H]` for one step.
            state: from `init_state` or an earlier call; None is a fresh one.
            resets: `[B, T]` (or `[B]`) bool, True where step t starts a new episode: the state is cleared before it.

        Returns:
            y of x's shape, and the state after the last step. Gradients flow through the returned state into this call,
            except through the states of X, Ag and Axon layers. To truncate, detach it.

        Raises:
            ValueError: the shapes do not fit.
        """
        if x.dim() == 2:
            y, after = self(x[:, None], state, None if resets is None else resets[:, None])
            return y[:, 0], after
        if x.dim() != 3 or x.shape[2] != self.width:
            raise ValueError(f"x has shape {list(x.shape)}; expected [B, T, {self.width}] or [B, {self.width}]")
        if not x.shape[1]:
            raise ValueError("x has no steps: its shape is [B, T, H] with T of at least 1")
        if resets is not None and resets.shape != x.shape[:2]:
            raise ValueError(f"resets have shape {list(resets.shape)}; x asks for {list(x.shape[:2])}")
        if self.memory == "off":
            state, resets = None, None
        else:
            state = self.init_state(len(x), x.device, accumulator_dtype(x)) if state is None else state
            resets = None if resets is None else resets.bool()
        x = x.contiguous()  # linear maps in half precision round once more where it is not
        states: list[State] = []
        for column, part in zip(self.blocks, split_state(self.prefixes, state), strict=True):
            x, new = column(x, part, resets)
            states.append(new)
        return self.norm(x), join_states(self.prefixes, states)


def build_stack(
    pattern: Pattern,
    d_hidden: int,
    num_layers: int,
    mem_len: int = 128,
    n_heads: int = 4,
    memory: Literal["on", "off"] = "on",
    compile: bool = False,
    **cell_options: Any,
) -> Stack:
    """A stack of `num_layers` columns of `pattern`; a list has one pattern per layer.

    `memory="off"` is the memory-ablated twin: the same parameters and initialisation, but every step starts from a
    fresh state, in both passes. `cell_options` are the other fields of `Options`, and `post_norm` (default True).

    `compile` makes one graph of each block with torch.compile. The kernels of recurrences do not change, but the graph
    uses neither oneDNN nor our gradients of gates and attention. On one CPU core (AgSA, 3 layers, width 128, 512 rows
    acting, 32 x 64 steps learning) the speed is 0.75 of that without, and 1.06 where `kernels/linear.py` does not use
    oneDNN, after a minute of compilation (bf16: two). It has not been measured on a GPU.

    Raises:
        UsageError: an unknown token, option or cell of one's own, sizes that do not fit, or `compile` with a torch
            below 2.13.
    """
    post_norm = cell_options.pop("post_norm", True)
    router = cell_options.get("router", {})
    for kind, given, what in (("cell", cell_options, Options), ("router", router, RoutedColumn)):
        known = inspect.signature(what).parameters
        for name in given:
            if name not in known:
                raise UsageError(f"unknown {kind} option '{name}'{did_you_mean(name, known)}")
    if memory not in ("on", "off"):
        raise UsageError(f"memory='{memory}'{did_you_mean(memory, ['on', 'off'])}")
    patterns = [pattern] * num_layers if isinstance(pattern, str) else pattern
    if len(patterns) != num_layers:
        raise UsageError(f"pattern lists {len(patterns)} layers but num_layers={num_layers}")
    options = Options(d_hidden=d_hidden, n_heads=n_heads, mem_len=mem_len, **cell_options)
    try:
        columns = [build_column(one, options) for one in patterns]
    except ValueError as error:
        raise UsageError(str(error)) from None
    if compile:
        if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
            raise UsageError(f"compile=true needs torch 2.13; this is {torch.__version__}")
        for column in columns:
            column.compile_experts()
    return Stack(columns, d_hidden, memory, post_norm)


def build_block(token: str, options: Options) -> nn.Module:
    """The block of one token: ours, or that of a cell of one's own."""
    return TOKEN_BLOCKS[token](options) if token in TOKEN_BLOCKS else own_block(token, options.d_hidden)


def build_column(pattern: str, options: Options) -> Column:
    """The column of one pattern."""
    tokens = parse_pattern(pattern)
    experts = [build_block(token, options) for token in tokens]
    if len(experts) == 1:
        return Column(tokens, experts)
    return RoutedColumn(tokens, experts, options.d_hidden, init=options.router_init, **options.router)
