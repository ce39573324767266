"""Ranks that look after each other: who failed, who does not answer, and an end for those that wait in vain.

A rank that waits for another one waits inside NCCL or gloo, where no Python runs. So each rank has a thread that asks
the store (torchrun's, which outlives the ranks) every second, and ends the process where the main thread cannot.
"""

import threading
import time
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

from memexp.ppo.distributed import Ranks
from memexp.runs.directory import ExitStatus

LOOK_S = 1.0
"""Seconds between two looks at the store."""
ROLL_CALL_S = 5.0
"""Seconds in which a rank that lives answers."""
GRACE_S = 10.0
"""Seconds in which a main thread that can still act ends by itself when another rank has failed."""
STORE_FAILURES = 3
"""Looks in a row that fail before the store counts as gone."""

End = Callable[[ExitStatus, str, bool], None]
"""(status, reason, whether this rank speaks for all): ends the process."""


def report_failure(ranks: Ranks, message: str) -> None:
    """Leave word for the other ranks that this one fails; the first word counts."""
    if ranks.store is not None:
        _try(lambda store: store.compare_set("failed", "", f"rank {ranks.rank}: {message}"), ranks.store)
        say_here(ranks, ranks.store)


def failure(ranks: Ranks, store: Store | None) -> str | None:
    """The word that a failing rank has left."""
    return store.get("failed").decode() if store is not None and store.check(["failed"]) else None


def say_here(ranks: Ranks, store: Store | None) -> None:
    """Answer a roll call, or be ahead of it: the rank lives, or ends of its own will."""
    if store is not None:
        _try(lambda store: store.set(f"here/{ranks.rank}", ""), store)


def missing(ranks: Ranks, store: Store | None) -> list[int]:
    """Call the roll: the ranks that do not answer within ROLL_CALL_S."""
    if store is None:
        return []
    store.set("roll", "")
    say_here(ranks, store)
    end = time.monotonic() + ROLL_CALL_S
    silent = list(range(ranks.world_size))
    while silent and time.monotonic() < end:
        silent = [rank for rank in silent if not store.check([f"here/{rank}"])]
        time.sleep(0.1)
    return silent


def explain(ranks: Ranks, error: Exception, told_to_stop: bool) -> tuple[ExitStatus, str]:
    """How the run ends, and why, when the ranks could no longer do something together (`error`)."""
    timed_out = "timed out" in str(error).lower() or "timeout" in str(error).lower()
    try:
        if word := failure(ranks, ranks.store):
            return "failed", word
        silent = missing(ranks, ranks.store)
    except RuntimeError:
        return "preempted", f"torchrun is gone; {error}"
    if timed_out:
        return "preempted", f"{_names(silent)} kept the others waiting too long ({error})"
    if silent:
        return "failed", f"{_names(silent)} ended without a word: killed? ({error})"
    return ("preempted", "told to stop by a signal") if told_to_stop else ("failed", str(error))


class Watch:
    """The thread. `timeout_s`: how much longer than the longest turn so far a turn of the loop may take."""

    def __init__(self, ranks: Ranks, timeout_s: float, end: End):
        self._ranks, self._timeout, self._end = ranks, timeout_s, end
        self._longest = 0.0
        self._beat: float | None = None  # None: the first turn has not ended (it may compile for minutes)
        self._quit = threading.Event()
        self._store: Store | None = None if ranks.store is None else ranks.store.clone()  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def __enter__(self) -> "Watch":
        if self._store is not None:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._quit.set()

    def beat(self) -> None:
        """The main thread has ended a turn, together with all ranks."""
        now = time.monotonic()
        if self._beat is not None:
            self._longest = max(self._longest, now - self._beat)
        self._beat = now

    def _run(self) -> None:
        failures = 0
        while not self._quit.wait(LOOK_S):
            try:
                self._look()
                failures = 0
            except RuntimeError:
                failures += 1
                if failures >= STORE_FAILURES:
                    self._end("preempted", "torchrun is gone", self._ranks.is_first)

    def _look(self) -> None:
        store = self._store
        assert store is not None
        if store.check(["roll"]):
            say_here(self._ranks, store)
        if (word := failure(self._ranks, store)) and not self._quit.wait(GRACE_S):
            self._end("failed", word, self._ranks.is_first)
        silence = 0.0 if self._beat is None else time.monotonic() - self._beat
        if silence > self._timeout + self._longest:
            silent = missing(self._ranks, store)
            first = min(rank for rank in range(self._ranks.world_size) if rank not in silent)
            reason = f"{_names(silent)} kept the others waiting for {silence:.0f} s"
            if not self._quit.is_set():
                self._end("preempted", reason, first == self._ranks.rank)


def _names(ranks: list[int]) -> str:
    if not ranks:
        return "all ranks answer, but something"
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _try(act: Callable[[Store], object], store: Store) -> None:
    """Where the store is gone there is nobody to tell."""
    try:
        act(store)
    except RuntimeError:
        return
