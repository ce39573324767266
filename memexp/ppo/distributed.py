"""The ranks of one run: this process's number, and the reductions over ranks. With one rank they do nothing."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from memexp.config import UsageError

START_S = 6 * 3600.0
"""Seconds that the ranks wait for the first one, which measures reference levels before the first update."""


class RankLostError(RuntimeError):
    """The ranks could not do something together: one of them failed, was killed or does not answer."""


@dataclass(frozen=True)
class Ranks:
    """The number of this process among the run's processes, and the device that it trains on.

    Everything that ranks do together raises RankLostError if one of them is missing.
    """

    rank: int
    world_size: int
    device: torch.device
    store: Store | None = None
    """Where ranks leave messages for each other, also while a reduction hangs; None for one rank."""

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the run directory."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` added up over ranks, in place."""
        if self.world_size > 1:
            with _together():
                dist.all_reduce(tensor)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """The elementwise maximum over ranks, in place."""
        if self.world_size > 1:
            with _together():
                dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """The `value` of every rank, in rank order, on every rank; for small Python objects."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _together():
            dist.all_gather_object(values, value)
        return values

    def wait_for_first(self) -> None:
        """Wait until the first rank calls this, at most START_S. Signals interrupt the wait."""
        if self.store is None:
            return
        end = time.monotonic() + START_S
        with _together():
            if self.is_first:
                self.store.set("begun", "")
            while not self.store.check(["begun"]):
                if time.monotonic() > end:
                    raise RuntimeError("timed out waiting for the first rank to begin the run")
                time.sleep(0.1)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch has no closer class for gloo
        raise RankLostError(" ".join(str(error).split())) from error


def join(device: str = "auto", timeout_s: float = 600.0) -> Ranks:
    """Join the ranks that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK); alone without torchrun.

    NCCL reduces on GPUs, gloo on CPUs. device: "auto" takes a GPU if there is one. timeout_s: seconds after which what
    ranks do together fails, if a rank does not take part. Raises UsageError for a device that is not here, and for
    variables that torchrun did not set.
    """
    _refuse_stale_ranks()
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    target = _device(device)
    if target.type == "cuda":
        torch.cuda.set_device(target)
    if world_size == 1:
        return Ranks(rank, world_size, target)
    # NCCL's own watchdog ends a process whose collective fails or takes too long, rather than let it spin.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    store, _, _ = next(rendezvous("env://"))
    if not dist.is_initialized():
        backend = "nccl" if target.type == "cuda" else "gloo"
        timeout = timedelta(seconds=timeout_s)
        own = PrefixStore("torch", store)
        dist.init_process_group(backend, store=own, rank=rank, world_size=world_size, timeout=timeout)
    return Ranks(rank, world_size, target, PrefixStore("memexp", store))


def _refuse_stale_ranks() -> None:
    """Raise UsageError if the shell still has the variables of ranks that torchrun started earlier."""
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    stale = [name for name, value in alone.items() if os.environ.get(name, value) != value]
    started = {"TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", *alone} <= os.environ.keys()
    if stale and not started:
        given = ", ".join(f"{name}={os.environ[name]}" for name in stale)
        raise UsageError(
            f"{given}: this shell has variables of torchrun, but torchrun did not start this process; go on with "
            f"`unset {' '.join(stale)}`, or start it with torchrun"
        )


def _device(name: str) -> torch.device:
    """The device of this name. Raises UsageError if torch cannot train on it here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        target = torch.device(name)
    except RuntimeError:
        target = None
    if target is None or target.type not in ("cpu", "cuda"):
        raise UsageError(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:0, ...")
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device '{name}' is asked for, but torch can use {torch.cuda.device_count()} GPUs here")
    return target


def leave() -> None:
    """Leave the ranks; the process may join again."""
    if dist.is_initialized():
        dist.destroy_process_group()
