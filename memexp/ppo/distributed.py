"""The ranks of one run: who am I, and the few reductions that the trainer needs. All are no-ops for one rank."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from memexp.config import UsageError


@dataclass(frozen=True)
class Ranks:
    """This process among all of the run, and the device it trains on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the run directory."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` added up over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """The elementwise largest over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in rank order (on every rank); for small Python objects."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()


def join(device: str = "auto") -> Ranks:
    """Join the ranks that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK); alone without torchrun.

    NCCL on GPUs, gloo on CPUs. device: "auto" takes a GPU where there is one.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        target = torch.device(device)
    except RuntimeError:
        target = None
    if target is None or target.type not in ("cpu", "cuda"):
        raise UsageError(f"unknown device '{device}'; known: auto, cpu, cuda, cuda:0, ...")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device '{device}' is asked for, but torch can use {torch.cuda.device_count()} GPUs here")
    if target.type == "cuda":
        torch.cuda.set_device(target)
    if world_size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if target.type == "cuda" else "gloo", timeout=timedelta(minutes=10))
    return Ranks(rank, world_size, target)


def leave() -> None:
    """Leave the ranks; the process may join again."""
    if dist.is_initialized():
        dist.destroy_process_group()
