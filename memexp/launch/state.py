"""How a run stands, from its directory: new, running, done, failed, or started and waiting to be resumed."""

import fcntl
import os
from typing import Literal

from memexp.runs import Exit, Run

State = Literal["new", "running", "done", "failed", "preempted", "cancelled", "interrupted"]
"""'interrupted': started, but no process works on it and nothing says how it ended (killed, or the machine died)."""


def state_of(run: Run) -> State:
    """The run's state; touches nothing."""
    if is_locked(run):
        return "running"
    outcome = end_of(run)
    if outcome is None:
        return "interrupted" if run.exists() else "new"
    return "done" if outcome.status == "completed" else outcome.status


def end_of(run: Run) -> Exit | None:
    """How the run ended; None while it runs, and where exit.json is damaged."""
    try:
        return run.exit
    except (OSError, ValueError):
        return None


def is_locked(run: Run) -> bool:
    """Whether a living process holds the run's lock."""
    try:
        descriptor = os.open(run.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
