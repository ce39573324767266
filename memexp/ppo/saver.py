"""Saving without stopping the training: a checkpoint is copied, then another process writes it."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from memexp.ppo import checkpoint as checkpoints
from memexp.ppo.checkpoint import Checkpoint
from memexp.ppo.distributed import Ranks
from memexp.runs.writer import Answer, Writer

STUCK_S = 60.0
"""Seconds without an answer from the disk before a warning is printed; the next ones come after twice as long each."""


class UnwritableError(OSError):
    """Nothing more can be written for the run."""


class DiskFullError(UnwritableError):
    """No space is left for the run; the message names the file, the bytes that it needs and those that are free."""


class GoneError(UnwritableError):
    """The run's directory was deleted or moved, or another process writes it."""


class Pending(NamedTuple):
    """A checkpoint that is being written."""

    agent_steps: int
    group: str  # of its orders to the writer
    last: int  # number of the last order
    began: float  # monotonic seconds


class Saver:
    """Saves one rank's checkpoints, and handles the answers to everything else that `writer` writes.

    `print_line` shows a line to the user.
    """

    def __init__(self, folder: Path, ranks: Ranks, writer: Writer, print_line: Callable[[str], None]):
        self._folder, self._ranks, self._writer, self._print_line = folder, ranks, writer, print_line
        self.saved: int | None = None
        """Agent steps of the newest checkpoint on the disk."""
        self.duration_s = 0.0
        """Seconds from the start of copying the latest checkpoint to its last byte on the disk."""
        self.failed = 0
        """Failed attempts to write anything since that checkpoint."""
        self._saved_at = time.monotonic()
        self._pending: Pending | None = None
        self._kept: list[str] = []
        self._warn_after_s = STUCK_S

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is still being written."""
        return self._pending is not None

    def resume_from(self, agent_steps: int) -> None:
        """Note that a checkpoint of `agent_steps` is on the disk."""
        self.saved, self._kept = agent_steps, [checkpoints.name_of(agent_steps)]

    def begin(self, checkpoint: Checkpoint) -> None:
        """Copy `checkpoint` and order its files. Every rank calls this at the same moment, while none is `busy`."""
        began = time.monotonic()
        group, last = checkpoints.write(self._folder, checkpoint, self._kept, self._ranks, self._writer)
        self._pending = Pending(checkpoint.agent_steps, group, last, began)

    def poll(self) -> None:
        """Handle the answers that have come. Raises UnwritableError."""
        self._handle(self._writer.poll())

    def wait(self, seconds: float) -> bool:
        """Wait for all orders, at most `seconds`; returns whether none is left. Raises UnwritableError."""
        self._handle(self._writer.finish(seconds))
        return self._writer.idle

    def remove_unfinished(self) -> None:
        """Free the space of the checkpoint that is being written."""
        if self._pending:
            self._writer.order("remove", self._folder / checkpoints.name_of(self._pending.agent_steps))
            self._pending = None

    def metrics(self) -> dict[str, float]:
        """checkpoint/age_minutes: of the newest one, or since the start; checkpoint/failed: failures since then."""
        age = (time.monotonic() - self._saved_at) / 60
        return {"checkpoint/age_minutes": age, "checkpoint/failed": float(self.failed)}

    def _handle(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            if answer.error is None:
                self._note_done(answer)
            elif answer.full or answer.gone:
                raise (DiskFullError if answer.full else GoneError)(answer.error)
            else:
                self._note_failure(answer)
        waiting = self._writer.waiting_s
        if waiting > self._warn_after_s:
            self._warn_after_s *= 2
            self._print_line(f"the disk of {self._folder} has not answered for {waiting:.0f} s; training goes on")
        elif waiting < STUCK_S:
            self._warn_after_s = STUCK_S

    def _note_done(self, answer: Answer) -> None:
        if self._pending is None or self._pending.last != answer.number:
            return
        self.saved, began = self._pending.agent_steps, self._pending.began
        if self.failed:
            self._print_line(f"the checkpoint of {self.saved} agent steps is written, after {self.failed} failures")
        self.duration_s, self._saved_at, self.failed = answer.at - began, began, 0
        self._kept = [*self._kept, checkpoints.name_of(self.saved)][-(checkpoints.KEEP - 1) :]
        self._pending = None

    def _note_failure(self, answer: Answer) -> None:
        self.failed += 1
        if self.failed & (self.failed - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
            ending = "it is tried again" if answer.retried else "given up"
            self._print_line(f"cannot write: {answer.error}; {ending}, training goes on")
        if self._pending and answer.group == self._pending.group and not answer.retried:
            self._pending = None
