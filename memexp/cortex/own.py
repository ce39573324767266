"""A cell of one's own (docs/your-cell.md): a class that a pattern names as MODULE:CLASS, behind our interface."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map, tree_unflatten

from memexp.config import UsageError, did_you_mean
from memexp.cortex.blocks import Block, PassThrough, PostUpGated, PreUpGated
from memexp.cortex.cells.shared import State, accumulator_dtype, full_precision, with_zero_gradient
from memexp.cortex.config import CortexConfig
from memexp.cortex.cost import Cost, post_up_gated, pre_up_gated
from memexp.modules import call, find
from memexp.project import entries

BLOCKS: dict[str, type[Block]] = {block.__name__: block for block in (PostUpGated, PreUpGated, PassThrough)}
ROWS = 7
"""Rows of the state that a new cell is asked for. Few sizes are 7, so another one shows that rows do not come first."""


class OwnCell(nn.Module):
    """`cell` with a flat dict of tensors as its state, and without memory if the state is None.

    Every call checks what the cell returns. Raises UsageError for a state that is not made of tensors `[B, ...]`, and
    for an output or a state of another shape, type or device than before.
    """

    def __init__(self, name: str, cell: nn.Module) -> None:
        super().__init__()
        self.name, self.cell = name, cell
        given = (ROWS, torch.device("cpu"), torch.float32)
        state = call(partial(cell.init_state, *given), {}, f"{name}: its state")  # type: ignore[arg-type]
        named, tree = tree_flatten_with_path(state)
        self.keys = [keystr(path) for path, _ in named]
        self.places = tree_unflatten(self.keys, tree)
        """The state of the cell, with the key of each tensor in its place."""
        self._flat(state, ROWS, "init_state")

    def init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> State:
        return self._flat(self.cell.init_state(batch, device, dtype), batch, "init_state")  # type: ignore[operator]

    def forward(self, x: Tensor, state: State | None, resets: Tensor | None) -> tuple[Tensor, State]:
        if state is None:
            return with_zero_gradient(self._without_memory(x), self.cell.parameters()), {}
        if resets is None:
            resets = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        return self._call(x, state, resets)

    def _without_memory(self, x: Tensor) -> Tensor:
        """y of steps that are all the first of an episode: the cell's own `without_memory`, or rows of one step."""
        if hasattr(self.cell, "without_memory"):
            return self._checked(self.cell.without_memory(x), x, "without_memory")  # type: ignore[operator]
        rows = x.flatten(0, 1)[:, None]
        resets = torch.ones(rows.shape[:2], dtype=torch.bool, device=x.device)
        y, _ = self._call(rows, self.init_state(rows.shape[0], x.device, accumulator_dtype(x)), resets)
        return y.view_as(x)

    def _call(self, x: Tensor, state: State, resets: Tensor) -> tuple[Tensor, State]:
        """The cell in the type of its parameters, whatever autocast says: so acting and learning agree."""
        dtype = next((p.dtype for p in self.cell.parameters()), accumulator_dtype(x))
        given = {key: leaf.to(dtype) if leaf.is_floating_point() else leaf for key, leaf in state.items()}
        with full_precision(x):
            answer = self.cell(x.to(dtype), tree_map(given.__getitem__, self.places), resets)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise UsageError(f"{self.name}: forward returns a {type(answer).__name__}, not (y, state)")
        y, after = self._checked(answer[0], x.to(dtype), "forward"), self._flat(answer[1], x.shape[0], "forward")
        for key, leaf in after.items():
            if not _alike(leaf, given[key]):
                raise UsageError(
                    f"{self.name}: forward returns state{key} as {_kind(leaf)}, but it was given {_kind(given[key])}"
                )
        return y.to(x.dtype), {key: leaf.to(state[key].dtype) for key, leaf in after.items()}

    def _checked(self, y: Any, x: Tensor, what: str) -> Tensor:
        if not _alike(y, x):
            raise UsageError(f"{self.name}: {what} returns y as {_kind(y)}; x is {_kind(x)}, and so must y be")
        return y

    def _flat(self, state: Any, batch: int, what: str) -> State:
        """The tensors of a state by their place in it, such as "['h']" or "[0]"; "" is a state that is one tensor."""
        leaves = {keystr(path): leaf for path, leaf in tree_flatten_with_path(state)[0]}
        if leaves.keys() != set(self.keys):
            raise UsageError(
                f"{self.name}: {what} returns a state with the parts {_parts(leaves)}; the first one had "
                f"{_parts(self.keys)}"
            )
        for key, leaf in leaves.items():
            if not isinstance(leaf, Tensor):
                raise UsageError(
                    f"{self.name}: {what} returns state{key} as a {type(leaf).__name__}: a state is a tensor, or a "
                    "tuple, list or dict of tensors, nested as you like"
                )
            if leaf.shape[:1] != (batch,):
                raise UsageError(
                    f"{self.name}: {what} returns state{key} as {_kind(leaf)} for {batch} rows: rows come first, "
                    "[batch, ...]"
                )
        return {key: leaves[key] for key in self.keys}


def _alike(value: Any, tensor: Tensor) -> bool:
    """Whether shape, type and device are the same."""
    kind = tensor.shape, tensor.dtype, tensor.device
    return isinstance(value, Tensor) and (value.shape, value.dtype, value.device) == kind


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    where = "" if value.device.type == "cpu" else f" on {value.device}"
    return f"{value.dtype} {list(value.shape)}{where}"


def _parts(keys: Any) -> str:
    return ", ".join(f"state{key}" for key in keys) or "none"


def own_class(token: str) -> Any:
    """The class that a token names: MODULE:CLASS, or an entry point. Raises UsageError if there is none."""
    return find(entries("cells").get(token, token), f"pattern {token}", "cells")


def own_block(token: str, width: int) -> Block:
    """The block of a cell of one's own, for a stack of this width. Raises UsageError if it cannot be made."""
    found = own_class(token)
    for method in ("init_state", "forward"):
        if not callable(getattr(found, method, None)):
            raise UsageError(f"pattern {token}: {getattr(found, '__name__', token)} has no method {method}")
    if getattr(found, "block", PostUpGated.__name__) not in BLOCKS:
        raise UsageError(f"pattern {token}: block = {found.block!r} is none{did_you_mean(str(found.block), BLOCKS)}")
    kind = BLOCKS[getattr(found, "block", PostUpGated.__name__)]
    if kind is PreUpGated:
        return PreUpGated(own_cell(token, found, PreUpGated.cell_width(width)), width)
    cell = own_cell(token, found, width)
    return PassThrough(cell) if kind is PassThrough else PostUpGated(cell, width)


def own_cell(token: str, found: Any, width: int) -> OwnCell:
    cell = call(partial(found, width), {}, token)
    if not isinstance(cell, nn.Module):
        raise UsageError(f"{token} is a {type(cell).__name__}, not a torch.nn.Module")
    return OwnCell(token, cell)


def counted_cost(token: str, sizes: CortexConfig) -> Cost:
    """The cost of the block of a cell of one's own: formulas for what is around the cell, and torch counts the cell.

    FLOPs are those of one step of one row that FlopCounterMode sees, or the cell's `step_flops`, where it has that.
    """
    block = own_block(token, sizes.d_hidden)
    cell, H = block.cell, sizes.d_hidden
    assert isinstance(cell, OwnCell)
    state = cell.init_state(1, torch.device("cpu"), torch.float32).values()
    flops = getattr(cell.cell, "step_flops", None)
    if flops is None:
        width = PreUpGated.cell_width(H) if isinstance(block, PreUpGated) else H
        flops = call(partial(_flops_seen, cell, width), {}, f"{token}: a step")
    own = Cost(
        parameters=sum(p.numel() for p in cell.parameters() if p.requires_grad),
        state_bytes=sum(leaf.nbytes for leaf in state),
        step_flops=int(flops),
    )
    around = {PostUpGated: post_up_gated, PreUpGated: pre_up_gated}.get(type(block))
    return around(own, H) if around else own


def _flops_seen(cell: OwnCell, width: int) -> int:
    """FLOPs of one more row: what a call needs only once is not in the difference.

    Counted on meta tensors, which hold no data, or on real ones if the cell looks at its data.
    """
    try:
        return _flops_of_a_row(copy.deepcopy(cell).to("meta"), width, torch.device("meta"))
    except Exception:
        return _flops_of_a_row(cell, width, torch.device("cpu"))


def _flops_of_a_row(cell: OwnCell, width: int, device: torch.device) -> int:
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton, which takes most of a second

    counted: list[int] = []
    for rows in (2, 3):
        x, resets = torch.zeros(rows, 1, width, device=device), torch.zeros(rows, 1, dtype=torch.bool, device=device)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            cell(x, cell.init_state(rows, device, x.dtype), resets)
        counted.append(counter.get_total_flops())
    return counted[1] - counted[0]
