"""The ranks (processes) that train one run: they reduce tensors together and watch each other.

A rank that waits for another waits inside NCCL or gloo, where no Python runs. So each rank has a thread. Every second
it writes a sign of life into the store (torchrun's, which outlives the ranks) and reads there whether another rank has
failed. It ends the process if the main thread cannot.

With one rank all of this does nothing.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
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
from memexp.runs.directory import ExitStatus

START_S = 6 * 3600.0
"""Seconds that the ranks wait for the first one, which measures reference levels before the first update."""
LOOK_S = 1.0
"""Seconds between two readings of the store, and two signs of life."""
SILENCE_S = 6.0
"""Seconds without a sign of life after which a rank is missing."""
GRACE_S = 10.0
"""Seconds in which the main thread may end the process itself after another rank has failed."""
STORE_FAILURES = 3
"""Failed readings in a row after which torchrun counts as gone."""


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


EndProcess = Callable[[ExitStatus, str, bool], None]
"""(status, reason, whether this rank writes exit.json): ends the process."""


def report_failure(ranks: Ranks, message: str) -> None:
    """Tell the other ranks that this one fails. The first message of all ranks counts."""
    _try(lambda store: store.compare_set("failed", "", f"rank {ranks.rank}: {message}"), ranks.store)
    report_leaving(ranks)


def report_leaving(ranks: Ranks) -> None:
    """Tell the other ranks that this one ends as it was asked to."""
    _try(lambda store: store.set(f"left/{ranks.rank}", ""), ranks.store)


def explain(ranks: Ranks, error: Exception, stop_requested: bool) -> tuple[ExitStatus, str, bool]:
    """Why the ranks could not do something together: (status, reason, whether this rank writes exit.json)."""
    try:
        silent, status, reason = _explain(ranks, error, stop_requested)
        return status, reason, ranks.rank == _first_of_the_rest(ranks, silent)
    except RuntimeError:
        return "preempted", f"torchrun is gone ({error})", ranks.is_first


def _explain(ranks: Ranks, error: Exception, stop_requested: bool) -> tuple[list[int], ExitStatus, str]:
    """Missing ranks, status, reason."""
    store, timed_out = ranks.store, "timed out" in str(error).lower()
    assert store is not None
    silent = [] if _failure(store) else missing(ranks, store)
    if message := _failure(store):
        return silent, "failed", message
    if silent and not timed_out:
        return silent, "failed", f"{_names(silent)} ended without a word: killed? ({error})"
    if silent:
        return silent, "preempted", f"{_names(silent)} kept the others waiting too long"
    if stop_requested or any(_has_left(store, rank) for rank in range(ranks.world_size)):
        return silent, "preempted", "told to stop by a signal"
    return silent, "preempted" if timed_out else "failed", f"the ranks cannot go on together: {error}"


def missing(ranks: Ranks, store: Store) -> list[int]:
    """Ranks that give no sign of life for SILENCE_S and have not said that they leave."""
    end = time.monotonic() + SILENCE_S
    silent = {rank: _signs(store, rank) for rank in range(ranks.world_size) if rank != ranks.rank}
    while silent and time.monotonic() < end:
        time.sleep(0.2)
        _signs(store, ranks.rank, new=1)
        silent = {r: signs for r, signs in silent.items() if _signs(store, r) == signs and not _has_left(store, r)}
    return list(silent)


class RankWatchdog:
    """The thread of one rank. Enter it around the run; with one rank it does nothing.

    timeout_s: how much longer than the longest iteration so far an iteration of the loop may take.
    """

    def __init__(self, ranks: Ranks, timeout_s: float, end_process: EndProcess):
        self._ranks, self._timeout, self._end_process = ranks, timeout_s, end_process
        self._longest_s = 0.0
        self._beat: float | None = None  # monotonic seconds; None: nothing is timed
        self._quit = threading.Event()
        self._store: Store | None = None if ranks.store is None else ranks.store.clone()  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._run, daemon=True, name="rank-watchdog")

    def __enter__(self) -> "RankWatchdog":
        if self._store is not None:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._quit.set()

    def beat(self) -> None:
        """All ranks have ended an iteration. Timing begins with the first call: the first iteration compiles."""
        now = time.monotonic()
        if self._beat is not None:
            self._longest_s = max(self._longest_s, now - self._beat)
        self._beat = now

    def rest(self) -> None:
        """The last iteration has ended: stop timing."""
        self._beat = None

    def _run(self) -> None:
        failures = 0
        while not self._quit.wait(LOOK_S):
            try:
                self._look()
                failures = 0
            except RuntimeError:
                failures += 1
                if failures >= STORE_FAILURES:
                    self._end_process("preempted", "torchrun is gone", self._ranks.is_first)

    def _look(self) -> None:
        store = self._store
        assert store is not None
        _signs(store, self._ranks.rank, new=1)
        if (message := _failure(store)) and not self._quit.wait(GRACE_S):
            self._end_process("failed", message, self._ranks.is_first)
        beat = self._beat
        if beat is None or time.monotonic() - beat <= self._timeout + self._longest_s:
            return
        silent = missing(self._ranks, store)
        if silent and self._beat == beat and not self._quit.is_set():  # else it is slow: NCCL and gloo have limits too
            reason = f"{_names(silent)} kept the others waiting for {time.monotonic() - beat:.0f} s"
            self._end_process("preempted", reason, self._ranks.rank == _first_of_the_rest(self._ranks, silent))


def _first_of_the_rest(ranks: Ranks, silent: list[int]) -> int:
    """The first rank that is not missing, which writes exit.json."""
    return min(rank for rank in range(ranks.world_size) if rank not in silent)


def _signs(store: Store, rank: int, new: int = 0) -> int:
    """Number of signs of life of `rank`, after `new` ones."""
    return store.add(f"signs/{rank}", new)


def _has_left(store: Store, rank: int) -> bool:
    return store.check([f"left/{rank}"])


def _failure(store: Store) -> str | None:
    """The message of the rank that failed first."""
    return store.get("failed").decode() if store.check(["failed"]) else None


def _names(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _try(act: Callable[[Store], object], store: Store | None) -> None:
    """Call `act` on the store, if there are other ranks and torchrun still runs."""
    if store is None:
        return
    try:
        act(store)
    except RuntimeError:
        return
