"""How a run stands: one record and one vocabulary of states for launch, status, monitor, report and cancel."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from memexp.runs import scribe
from memexp.runs.directory import Exit, Run, RunInfo
from memexp.runs.metrics import STEPS, last_records, latest, tail

T = TypeVar("T")


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
    """Mean over the last episodes: see `recent_means`."""
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
    """Machine hours so far, over all starts; of a run that was not launched in the cloud, those of its training."""
    spent: float | None = None
    """Dollars so far, over all starts; None if one of the prices is not known."""
    projected: float | None = None
    """Dollars when it is completed: those spent, and the steps left at the measured rate and the present price."""
    problems: tuple[str, ...] = ()
    """Files of the run that cannot be read, and why."""

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


def known(read: Callable[[], T], problems: list[str] | None = None) -> T | None:
    """What `read` returns; None if its file is missing or cannot be read. Adds to `problems` why it cannot."""
    try:
        return read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if problems is not None:
            problems.append(str(error))
        return None


def end_of(run: Run, problems: list[str] | None = None) -> Exit | None:
    """How the run ended; None while it runs, and if exit.json is damaged."""
    return known(lambda: run.exit, problems)


def info_of(run: Run, problems: list[str] | None = None) -> RunInfo | None:
    """What the run is; None if run.json is missing or damaged."""
    return known(lambda: run.info, problems)


def matrix_of(run: Run) -> str | None:
    """The run's matrix, from run.json or, if that is damaged, from config.yaml; None if it has none, or unknown."""
    if (info := info_of(run)) or not run.exists():
        return info.matrix if info else None
    return known(lambda: run.setting("labels", "matrix"))


def is_locked(run: Run) -> bool:
    """Whether a living process holds the run's lock."""
    return scribe.is_held(run.lock)


def last_metrics(run: Run, problems: list[str] | None = None) -> list[dict[str, Any]]:
    """The last lines of the run's metrics, oldest first; none if they cannot be read."""
    return known(lambda: last_records(run.path / "metrics.jsonl"), problems) or []


def reached(run: Run) -> int:
    """Agent steps that the run has completed, by its last line of metrics."""
    return int(latest(last_metrics(run), STEPS) or 0)


def lost_metrics(outcome: Exit | None, steps: float) -> list[str]:
    """What to say if metrics.jsonl ends at agent step `steps`, before the run did; [] if it does not."""
    if outcome is None or steps >= outcome.agent_steps:
        return []
    return [f"metrics.jsonl ends at {steps:,.0f} of {outcome.agent_steps:,} agent steps"]


def log_lines(run: Run, size: int = 4096) -> list[str]:
    """The lines of the log's last `size` bytes, without blank ones and commands; none if it cannot be read."""
    text = known(lambda: tail(run.path / "log.txt", size).decode(errors="replace")) or ""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("$ ")]
