"""Ranks that watch each other: which one failed or does not answer, and an end for those that would wait for ever.

A rank that waits for another waits inside NCCL or gloo, where no Python runs. So each rank has a thread. Every second
it writes a sign of life into the store (torchrun's, which outlives the ranks) and reads there whether another rank has
failed. It ends the process if the main thread cannot.
"""

import threading
import time
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

from memexp.ppo.distributed import Ranks
from memexp.runs.directory import ExitStatus

LOOK_S = 1.0
"""Seconds between two readings of the store, and two signs of life."""
SILENCE_S = 6.0
"""Seconds without a sign of life after which a rank is missing."""
GRACE_S = 10.0
"""Seconds in which the main thread may end the process itself after another rank has failed."""
STORE_FAILURES = 3
"""Failed readings in a row after which torchrun counts as gone."""

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
