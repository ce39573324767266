"""How a run stands: one record and one vocabulary of states for launch, status, monitor, report and cancel."""

import fcntl
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from memexp.runs.directory import Exit, Run, RunInfo
from memexp.runs.metrics import STEPS, last_records, tail


class State(StrEnum):
    """How a run stands. Four states are those of exit.json; 'pending' and 'recovering' come from SkyPilot's queue."""

    NEW = "new"
    """Nothing of it exists yet."""
    PENDING = "pending"
    """It waits for a machine."""
    STARTING = "starting"
    """A process works on it and has not finished an update yet."""
    RUNNING = "running"
    """A process works on it."""
    STALLED = "stalled"
    """A process works on it and has been silent for much longer than usual."""
    RECOVERING = "recovering"
    """It moves to another machine."""
    COMPLETED = "completed"
    FAILED = "failed"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """It began, no process works on it, and nothing says how it ended: it was killed, or its machine died."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunStatus:
    """How one run stands; None where not known."""

    run: str
    state: State
    matrix: str | None = None
    env: str | None = None
    arm: str | None = None
    seed: int | None = None
    agent_steps: int = 0
    total_timesteps: int | None = None
    episode_return: float | None = None
    """Mean over the episodes of the last updates in which one ended."""
    sps: float | None = None
    """Agent steps per second over the last updates, evaluations and checkpoints included."""
    eta_s: float | None = None
    """Seconds left at this rate, of a run that a process works on."""
    reason: str | None = None
    """Why it ended; of a failed run without a reason, the last line of its log that names an error."""
    job: int | None = None
    """Number of its managed job."""
    recoveries: int | None = None
    """How often SkyPilot has moved it to another machine."""
    hours: float | None = None
    """Machine hours so far, over all starts."""
    spent: float | None = None
    """Dollars so far, over all starts; None if one of the prices is not known."""
    projected: float | None = None
    """Dollars when it is completed: those spent, and the steps left at the measured rate and the present price."""

    @property
    def share(self) -> float:
        """Share of its agent steps that are done, at most 1."""
        return min(1.0, self.agent_steps / self.total_timesteps) if self.total_timesteps else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return asdict(self)


def state_of(run: Run) -> State:
    """The state of a run as its directory tells it. Changes nothing."""
    if is_locked(run):
        return State.RUNNING
    outcome = end_of(run)
    if outcome is None:
        return State.INTERRUPTED if run.exists() else State.NEW
    return State(outcome.status)


def end_of(run: Run) -> Exit | None:
    """How the run ended; None while it runs, and if exit.json is damaged."""
    try:
        return run.exit
    except (OSError, ValueError):
        return None


def info_of(run: Run) -> RunInfo | None:
    """What the run is; None if run.json is missing or damaged."""
    try:
        return run.info
    except (OSError, ValueError):
        return None


def matrix_of(run: Run) -> str | None:
    """The run's matrix; None if it has none, or if run.json is missing or damaged."""
    info = info_of(run)
    return info.matrix if info else None


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


def last_metrics(run: Run) -> list[dict[str, Any]]:
    """The last lines of the run's metrics, oldest first."""
    return last_records(run.path / "metrics.jsonl")


def reached(run: Run) -> int:
    """Agent steps that the run has completed, by its last line of metrics."""
    lines = last_metrics(run)
    return lines[-1].get(STEPS, 0) if lines else 0


def log_lines(run: Run, size: int = 4096) -> list[str]:
    """The lines of the log's last `size` bytes that are not blank; none if it cannot be read."""
    try:
        text = tail(run.path / "log.txt", size).decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]
