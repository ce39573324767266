"""The arrays of many environments in one block of memory on any device, so that one call copies all of them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memexp.envs.grid.cuda import RECORD_HEAD, Memory, Plan, cuda
from memexp.envs.grid.state import COMMON, Sizes, State, allocate

ALIGNMENT = 256
"""Every array starts at a multiple of this many bytes."""
OUTCOMES = ("final_obs", "rewards", "terminated")
"""Arrays that belong to the previous step, not to the running episode."""
FINAL = ("world", "objects", "agent_stats", "game_stats", "milestones")
"""Arrays that hold the final state of an episode."""


class Block:
    """`num_worlds` environments of `sizes` in one block of memory, as tensors and as arrays for kernels."""

    def __init__(self, sizes: Sizes, num_worlds: int, device: torch.device, pinned: bool = False) -> None:
        fresh = allocate(1, sizes)._asdict()
        mine = {name: array for name, array in fresh.items() if name not in COMMON}
        self.begins, end = {}, 0
        for name, array in mine.items():
            self.begins[name] = end
            end += -(-num_worlds * array.nbytes // ALIGNMENT) * ALIGNMENT
        self.memory = torch.zeros(end, dtype=torch.uint8, device=device, pin_memory=pinned)
        self.tensors: dict[str, Tensor] = {}
        for name, array in mine.items():
            begin = self.begins[name]
            kind = torch.from_numpy(np.zeros(0, _signed(array.dtype))).dtype
            room = self.memory[begin : begin + num_worlds * array.nbytes].view(kind)
            self.tensors[name] = room.view(num_worlds, *array.shape[1:])
            self.tensors[name].copy_(torch.from_numpy(array.view(_signed(array.dtype))).expand_as(self.tensors[name]))
        common = {name: torch.from_numpy(fresh[name]).to(device) for name in COMMON}
        arrays = {name: shared(tensor) for name, tensor in {**self.tensors, **common}.items()}
        self.state = State(**{**arrays, "rng": arrays["rng"].view(np.uint64)})
        """The environments as NumPy arrays, or as arrays on the device."""
        self.shared = Memory(shared(self.memory.view(torch.int32)), shared(self.memory.view(torch.int16)))

    def row_bytes(self, name: str) -> int:
        """Bytes of one environment in an array."""
        return self.tensors[name][0].nbytes

    def host(self) -> dict[str, np.ndarray]:
        """Copies of all arrays in the memory of the host, by name."""
        copied = {name: tensor.cpu().numpy().copy() for name, tensor in self.tensors.items()}
        return copied | {"rng": copied["rng"].view(np.uint64)}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy arrays from the memory of the host."""
        for name, array in arrays.items():
            self.tensors[name].copy_(torch.from_numpy(array.view(_signed(array.dtype))))


class Log:
    """Memory for `length` records of finished episodes. The record before them holds counters."""

    def __init__(self, of: Block, length: int) -> None:
        self.length, self._fields, size = length, {}, RECORD_HEAD
        for name in FINAL:
            words = of.row_bytes(name) // 4
            self._fields[name] = (size, words, of.tensors[name])
            size += words
        self.record = size
        self.memory = torch.zeros(length + 1, size, dtype=torch.int32, device=of.memory.device)
        self.counters = self.memory[0]
        self.shared = Memory(shared(self.memory[1:].reshape(-1)), of.shared.halves)

    def plan(self, of: Block) -> Plan:
        """What the kernel `renew` copies into a record."""
        lines = [
            (begin, self.record, of.begins[name] // 4, words, words) for name, (begin, words, _) in self._fields.items()
        ]
        return _plan(lines, [], of.memory.device)

    def read(self, count: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Counters, heads [count, RECORD_HEAD] and arrays [count, ...] of the first records, in one transfer.

        Resets the counters.
        """
        words = self.memory[: count + 1].cpu().numpy().copy()
        self.counters.zero_()
        arrays = {}
        for name, (begin, size, tensor) in self._fields.items():
            rows = np.ascontiguousarray(words[1:, begin : begin + size])
            kind = np.dtype(str(tensor.dtype).removeprefix("torch."))
            arrays[name] = rows.view(kind).reshape(count, *tensor.shape[1:])
        return words[0], words[1:, :RECORD_HEAD], arrays


def copying(to: Block, of: Block, names: Iterable[str] | None = None) -> Plan:
    """The plan to copy rows of `of` to rows of `to`: all arrays of an episode, or those in `names`."""
    words, halves = [], []
    for name in names or [name for name in to.tensors if name not in OUTCOMES]:
        size = to.row_bytes(name)
        lines, unit = (words, 4) if size % 4 == 0 else (halves, 2)
        lines.append((to.begins[name] // unit, size // unit, of.begins[name] // unit, size // unit, size // unit))
    return _plan(words, halves, to.memory.device)


def keeping_last(live: Block) -> Plan:
    """The plan to copy observations to `final_obs`."""
    size = live.row_bytes("obs") // 4
    line = (live.begins["final_obs"] // 4, size, live.begins["obs"] // 4, size, size)
    return _plan([line], [], live.memory.device)


def shared(tensor: Tensor) -> Any:
    """The tensor's memory as an array for kernels (on a GPU) or as a NumPy array."""
    return cuda.as_cuda_array(tensor) if tensor.is_cuda else tensor.numpy()


def stream_of(tensor: Tensor) -> Any:
    """Torch's current stream on the tensor's device."""
    handle = torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else 0
    return cuda.external_stream(handle) if handle else 0


def _plan(words: list[tuple[int, ...]], halves: list[tuple[int, ...]], device: torch.device) -> Plan:
    nothing = [(0, 0, 0, 0, 0)]
    tables = (torch.tensor(lines or nothing, dtype=torch.int64).to(device) for lines in (words, halves))
    return Plan(*(shared(table) for table in tables))


def _signed(kind: np.dtype) -> np.dtype:
    """The dtype of a tensor that holds numbers of this dtype: torch lacks uint64 arithmetic."""
    return np.dtype(np.int64) if kind == np.uint64 else kind
