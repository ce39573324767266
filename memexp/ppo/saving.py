"""Saving while training goes on: checkpoints are copied, then written by another process; an alarm when that fails."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from memexp.ppo import checkpoint as checkpoints
from memexp.ppo.checkpoint import Checkpoint
from memexp.ppo.distributed import Ranks
from memexp.runs.writer import Answer, Writer

STUCK_S = 60.0
"""Seconds without an answer from the disk after which the terminal says so; then after twice as long, and so on."""


class DiskFullError(OSError):
    """No space is left for the run; the message names the file, the bytes that it needs and those that are free."""


class Pending(NamedTuple):
    """A checkpoint that is being written."""

    agent_steps: int
    group: str
    """Of its orders."""
    last: int
    """Number of the last of them."""
    began: float
    """Monotonic seconds."""


class Saver:
    """One rank's checkpoints and what the disk says about them, and about everything else that `writer` writes."""

    def __init__(self, folder: Path, ranks: Ranks, writer: Writer, say: Callable[[str], None]):
        self._folder, self._ranks, self._writer, self._say = folder, ranks, writer, say
        self.saved: int | None = None
        """Agent steps of the newest checkpoint that is on the disk."""
        self.took_s = 0.0
        """Seconds that the latest one took from the first byte copied to the last one written."""
        self.failed = 0
        """Attempts to write something that failed since then."""
        self._saved_at = time.monotonic()
        self._pending: Pending | None = None
        self._kept: list[str] = []
        self._next_alarm = STUCK_S

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is still being written."""
        return self._pending is not None

    def resume_from(self, agent_steps: int) -> None:
        """A checkpoint of `agent_steps` is there already."""
        self.saved, self._kept = agent_steps, [checkpoints.name_of(agent_steps)]

    def begin(self, point: Checkpoint) -> None:
        """Copy `point` and have it written; every rank calls this at the same moment, none while one is `busy`."""
        began = time.monotonic()
        made = checkpoints.image(point, self._ranks)
        group, last = checkpoints.write(self._folder, made, self._kept, self._ranks, self._writer)
        self._pending = Pending(point.agent_steps, group, last, began)

    def look(self) -> None:
        """Take note of what became of orders. Raises DiskFullError."""
        self._hear(self._writer.poll())

    def wait(self, seconds: float) -> bool:
        """Wait for everything ordered, at most so long; returns whether nothing is left. Raises DiskFullError."""
        self._hear(self._writer.finish(seconds))
        return self._writer.idle

    def remove_unfinished(self) -> None:
        """Free the space that the checkpoint under way takes."""
        if self._pending:
            self._writer.order("remove", self._folder / checkpoints.name_of(self._pending.agent_steps))
            self._pending = None

    def metrics(self) -> dict[str, float]:
        """checkpoint/age_minutes: of the newest one, or since the start; checkpoint/failed: errors since then."""
        age = (time.monotonic() - self._saved_at) / 60
        return {"checkpoint/age_minutes": age, "checkpoint/failed": float(self.failed)}

    def _hear(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            if answer.error is None:
                self._note_done(answer)
            elif answer.full:
                raise DiskFullError(answer.error)
            else:
                self._note_failure(answer)
        waiting = self._writer.waiting_s
        if waiting > self._next_alarm:
            self._next_alarm *= 2
            self._say(f"the disk of {self._folder} has not answered for {waiting:.0f} s; training goes on")
        elif waiting < STUCK_S:
            self._next_alarm = STUCK_S

    def _note_done(self, answer: Answer) -> None:
        if self._pending is None or self._pending.last != answer.number:
            return
        self.saved, began = self._pending.agent_steps, self._pending.began
        if self.failed:
            self._say(f"the checkpoint of {self.saved} agent steps is written, after {self.failed} failures")
        self.took_s, self._saved_at, self.failed = answer.at - began, began, 0
        self._kept = [*self._kept, checkpoints.name_of(self.saved)][-(checkpoints.KEEP - 1) :]
        self._pending = None

    def _note_failure(self, answer: Answer) -> None:
        self.failed += 1
        if self.failed & (self.failed - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            ending = "it is tried again" if answer.retried else "given up"
            self._say(f"cannot write: {answer.error}; {ending}, training goes on")
        if self._pending and answer.group == self._pending.group and not answer.retried:
            self._pending = None
