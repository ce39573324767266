"""State trees as bytes and back, and their division among another number of ranks."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_bytes(value: Any) -> bytes:
    """A tree of tensors, arrays and plain values: a copy, whatever happens to them later."""
    buffer = io.BytesIO()
    torch.save(pack(value), buffer)
    return buffer.getvalue()


def from_bytes(data: bytes, device: torch.device) -> Any:
    """The tree that `to_bytes` was given, its tensors on `device`."""
    return unpack(torch.load(io.BytesIO(data), map_location=device, weights_only=True))


def pack(value: Any) -> Any:
    """Numpy arrays as marked tensors, so that files hold tensors and plain values only (`weights_only` loading)."""
    if isinstance(value, np.ndarray):
        return {"__ndarray__": torch.from_numpy(np.array(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(pack(item) for item in value)
    return value


def unpack(value: Any) -> Any:
    """The opposite of `pack`."""
    if isinstance(value, dict):
        if value.keys() == {"__ndarray__"}:
            return value["__ndarray__"].cpu().numpy()
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(unpack(item) for item in value)
    return value


def overlapping(rank: int, world_size: int, parts: int) -> range:
    """Which of `parts` equal shares of the worlds hold something of the share of `rank` among `world_size`."""
    return range(rank * parts // world_size, -(-(rank + 1) * parts // world_size))


def share(trees: Sequence[Any], rank: int, world_size: int, parts: int) -> Any:
    """What `rank` of `world_size` ranks goes on with. trees: of those that `parts` ranks wrote, the `overlapping` ones.

    Leaves have worlds or agents as first dimension, in the order of their numbers; they are joined and cut anew. Raises
    ValueError for trees that hold anything else.
    """
    # In units of which a part has `world_size` and a share has `parts`.
    offset = rank * parts - overlapping(rank, world_size, parts).start * world_size
    return _cut(trees, offset, parts, len(trees) * world_size)


def _cut(trees: Sequence[Any], offset: int, length: int, span: int) -> Any:
    """Of the joined trees, which are `span` long: `length` from `offset` on."""
    one = trees[0]
    if isinstance(one, dict):
        return {key: _cut([tree[key] for tree in trees], offset, length, span) for key in one}
    if isinstance(one, Tensor | np.ndarray) and one.ndim:
        rows = sum(map(len, trees))
        mine = slice(rows * offset // span, rows * (offset + length) // span)
        return torch.cat(list(trees))[mine].clone() if isinstance(one, Tensor) else np.concatenate(trees)[mine]
    if isinstance(one, list | tuple) and not any(map(len, trees)):
        return one
    raise ValueError(f"it holds a {type(one).__name__} that cannot be divided among another number of ranks")
