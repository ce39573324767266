"""The status of runs in the cloud: SkyPilot's queue and the run directories as one table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from memexp.launch import LaunchError
from memexp.launch.cloud import submissions
from memexp.launch.cloud.job_queue import Job, connect, read_queue
from memexp.launch.cloud.submissions import Submission
from memexp.launch.status.attempts import starts_of
from memexp.launch.status.status import status_of, status_view
from memexp.launch.status.targets import find_targets
from memexp.runs import Run
from memexp.runs.status import RunStatus, State

WATCH_S = 2.0
"""With --watch: seconds between two readings of the run directories."""
QUEUE_S = 10.0
"""With --watch: seconds between two readings of SkyPilot's queue."""

_WAITING = ("PENDING", "SUBMITTED", "STARTING")
_STATES = {
    "RUNNING": State.RUNNING,
    "WINDING_DOWN": State.RUNNING,
    "RECOVERING": State.RECOVERING,
    "CANCELLING": State.CANCELLED,
    "CANCELLED": State.CANCELLED,
    "SUCCEEDED": State.COMPLETED,
}


@dataclass
class StatusReader:
    """Reads the status of runs again and again; asks SkyPilot only if something was submitted, and not every time."""

    problem: str | None = None
    """Why SkyPilot's queue is not known."""
    _queue: dict[str, Job] = field(default_factory=dict[str, Job])
    _asked: float | None = None

    def read(self, targets: Sequence[str]) -> list[RunStatus]:
        """The status of the runs of `targets`. Raises UsageError for a target that does not exist."""
        submitted = submissions.read()
        found = [status_of(run) for run in find_targets(targets, unknown=True)]
        if any(one.run in submitted and one.state is not State.COMPLETED for one in found):
            self._ask()
        return [merged(one, self._queue.get(one.run), submitted.get(one.run)) for one in found]

    def _ask(self) -> None:
        if self._asked is not None and time.monotonic() - self._asked < QUEUE_S:
            return
        try:
            self._queue = read_queue(connect())
            self.problem = None
        except LaunchError as error:
            self.problem = str(error)
        self._asked = time.monotonic()


def merged(status: RunStatus, job: Job | None, submission: Submission | None) -> RunStatus:
    """`status` from the run's directory, completed by what SkyPilot and the launch know."""
    if submission and status.total_timesteps is None:
        known = submission.model_dump(include={"matrix", "env", "arm", "seed", "total_timesteps"})
        status = replace(status, **known)
    status = _with_costs(status, job, submission)
    if job is None:
        return status
    status = replace(status, job=job.number, recoveries=job.recoveries)
    if status.state in (State.COMPLETED, State.RUNNING):  # the directory is newer: a process holds its lock
        return status
    state = state_in_queue(job)
    left = (status.total_timesteps or 0) - status.agent_steps
    eta = left / status.sps if state is State.RUNNING and status.sps and left > 0 else None
    reason = status.reason or job.reason if state is State.FAILED else None
    return replace(status, state=state, reason=reason, eta_s=eta)


def state_in_queue(job: Job) -> State:
    """SkyPilot's state of a job as one of ours."""
    if job.failed:
        return State.FAILED
    if job.status in _WAITING:
        return State.RECOVERING if job.recoveries else State.PENDING
    return _STATES.get(job.status, State.PENDING)


def _with_costs(status: RunStatus, job: Job | None, submission: Submission | None) -> RunStatus:
    """Hours and dollars that the run directory does not know: the job's time at the price of its submission."""
    hours, spent, projected = status.hours, status.spent, status.projected
    price = price_of(job, submission.prices) if submission else None
    if job and (hours is None or not starts_of(Run.named(status.run))):
        hours = job.duration_s / 3600
        spent = hours * price if price is not None else None
    if projected is None and submission and submission.dollars and status.state is not State.COMPLETED:
        share = 1 - status.agent_steps / max(1, submission.total_timesteps)
        projected = (spent or 0.0) + submission.dollars[0] * share
    return replace(status, hours=hours, spent=spent, projected=projected)


def price_of(job: Job | None, prices: Mapping[str, Mapping[str, float]]) -> float | None:
    """Dollars per hour of a job's machine, from {kind of GPU: {market: dollars}}.

    If the machine does not say its kind or its market, it is the highest price that fits.
    """
    machine = (job.machine if job else None) or ""
    fitting = [markets for kind, markets in prices.items() if kind in machine] or list(prices.values())
    market = "spot" if "spot" in machine.lower() else "on_demand"
    known = [markets.get(market, max(markets.values(), default=0.0)) for markets in fitting if markets]
    return max(known, default=None)


def watch_table(targets: Sequence[str], console: Console) -> None:
    """Show the table of `targets` until Ctrl-C."""
    reader = StatusReader()
    with Live(Text(), console=console, refresh_per_second=4) as live:
        try:
            while True:
                view = status_view(reader.read(targets))
                unknown = [Text(f"SkyPilot's queue is not known: {reader.problem}")] if reader.problem else []
                live.update(Group(view, *unknown))
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return
