"""Ranks that look after each other: who failed, who does not answer, and an end for those that wait in vain.

A rank that waits for another one waits inside NCCL or gloo, where no Python runs. So each rank has a thread that shows
every second in the store (torchrun's, which outlives the ranks) that it lives, reads there whether another has failed,
and ends the process where the main thread cannot.
"""

import threading
import time
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

from memexp.ppo.distributed import Ranks
from memexp.runs.directory import ExitStatus

LOOK_S = 1.0
"""Seconds between two looks at the store, and two signs of life."""
ROLL_CALL_S = 6.0
"""Seconds without a sign of life after which a rank is missing."""
GRACE_S = 10.0
"""Seconds in which a main thread that can still act ends by itself when another rank has failed."""
STORE_FAILURES = 3
"""Looks in a row that fail before the store counts as gone."""

End = Callable[[ExitStatus, str, bool], None]
"""(status, reason, whether this rank speaks for all): ends the process."""


def report_failure(ranks: Ranks, message: str) -> None:
    """Leave word for the other ranks that this one fails; the first word counts."""
    _try(lambda store: store.compare_set("failed", "", f"rank {ranks.rank}: {message}"), ranks.store)
    report_leaving(ranks)


def report_leaving(ranks: Ranks) -> None:
    """Leave word that this rank ends of its own will."""
    _try(lambda store: store.set(f"left/{ranks.rank}", ""), ranks.store)


def explain(ranks: Ranks, error: Exception, told_to_stop: bool) -> tuple[ExitStatus, str, bool]:
    """(status, reason, whether this rank speaks for all) when the ranks could no longer do something together."""
    try:
        silent, status, reason = _explain(ranks, error, told_to_stop)
        return status, reason, ranks.rank == _speaker(ranks, silent)
    except RuntimeError:
        return "preempted", f"torchrun is gone ({error})", ranks.is_first


def _explain(ranks: Ranks, error: Exception, told_to_stop: bool) -> tuple[list[int], ExitStatus, str]:
    """Ranks that are missing, status, reason."""
    store, timed_out = ranks.store, "timed out" in str(error).lower()
    assert store is not None
    silent = [] if _failure(store) else missing(ranks, store)
    if word := _failure(store):
        return silent, "failed", word
    if silent and not timed_out:
        return silent, "failed", f"{_names(silent)} ended without a word: killed? ({error})"
    if silent:
        return silent, "preempted", f"{_names(silent)} kept the others waiting too long"
    if told_to_stop or any(_has_left(store, rank) for rank in range(ranks.world_size)):
        return silent, "preempted", "told to stop by a signal"
    return silent, "preempted" if timed_out else "failed", f"the ranks cannot go on together: {error}"


def missing(ranks: Ranks, store: Store) -> list[int]:
    """Ranks that give no sign of life for ROLL_CALL_S and have not said that they leave."""
    end = time.monotonic() + ROLL_CALL_S
    silent = {rank: _signs(store, rank) for rank in range(ranks.world_size) if rank != ranks.rank}
    while silent and time.monotonic() < end:
        time.sleep(0.2)
        _live(ranks, store)
        silent = {r: signs for r, signs in silent.items() if _signs(store, r) == signs and not _has_left(store, r)}
    return list(silent)


class Watch:
    """The thread. `timeout_s`: how much longer than the longest turn so far a turn of the loop may take."""

    def __init__(self, ranks: Ranks, timeout_s: float, end: End):
        self._ranks, self._timeout, self._end = ranks, timeout_s, end
        self._longest = 0.0
        self._beat: float | None = None  # None: nothing is timed
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
        """The main thread has ended a turn, together with all ranks. (The first one may take minutes: it compiles.)"""
        now = time.monotonic()
        if self._beat is not None:
            self._longest = max(self._longest, now - self._beat)
        self._beat = now

    def rest(self) -> None:
        """The last turn has ended."""
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
                    self._end("preempted", "torchrun is gone", self._ranks.is_first)

    def _look(self) -> None:
        store = self._store
        assert store is not None
        _live(self._ranks, store)
        if (word := _failure(store)) and not self._quit.wait(GRACE_S):
            self._end("failed", word, self._ranks.is_first)
        beat = self._beat
        if beat is not None and time.monotonic() - beat > self._timeout + self._longest:
            self._call_the_roll(store, beat)

    def _call_the_roll(self, store: Store, beat: float) -> None:
        """End the process if a rank is missing. A turn that is only slow goes on: NCCL and gloo have a limit too."""
        silent = missing(self._ranks, store)
        if silent and self._beat == beat and not self._quit.is_set():
            waited = time.monotonic() - beat
            reason = f"{_names(silent)} kept the others waiting for {waited:.0f} s"
            self._end("preempted", reason, self._ranks.rank == _speaker(self._ranks, silent))


def _speaker(ranks: Ranks, silent: list[int]) -> int:
    """The first rank that is not missing: it writes exit.json."""
    return min(rank for rank in range(ranks.world_size) if rank not in silent)


def _live(ranks: Ranks, store: Store) -> None:
    """A sign of life."""
    store.add(f"signs/{ranks.rank}", 1)


def _signs(store: Store, rank: int) -> int:
    return store.add(f"signs/{rank}", 0)


def _has_left(store: Store, rank: int) -> bool:
    return store.check([f"left/{rank}"])


def _failure(store: Store) -> str | None:
    """The word that a failing rank has left."""
    return store.get("failed").decode() if store.check(["failed"]) else None


def _names(ranks: list[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _try(act: Callable[[Store], object], store: Store | None) -> None:
    """Tell those who are there: one rank has nobody to tell, nor have ranks whose torchrun is gone."""
    if store is None:
        return
    try:
        act(store)
    except RuntimeError:
        return
