"""Where runs stand in the cloud: SkyPilot's queue and the run directories as one table."""

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
from memexp.launch.status.state import State
from memexp.launch.status.status import Status, find_targets, status_of, status_view

WATCH_S = 2.0
"""Seconds between two looks of --watch at the run directories."""
QUEUE_S = 10.0
"""Seconds between two looks of --watch at SkyPilot's queue."""

_WAITING = ("PENDING", "SUBMITTED", "STARTING")
_STATES: dict[str, State] = {
    "RUNNING": "running",
    "WINDING_DOWN": "running",
    "RECOVERING": "recovering",
    "CANCELLING": "cancelled",
    "CANCELLED": "cancelled",
    "SUCCEEDED": "done",
}


@dataclass
class Look:
    """Looks at where runs stand, asks SkyPilot where something was submitted and not every time."""

    problem: str | None = None
    """Why SkyPilot's queue is not known."""
    _queue: dict[str, Job] = field(default_factory=dict)
    _asked: float | None = None

    def at(self, targets: Sequence[str]) -> list[Status]:
        """The runs of `targets`. Raises UsageError for a target that does not exist."""
        submitted = submissions.read()
        runs = find_targets(targets)
        found = [status_of(run) for run in runs]
        if any(one.run in submitted and one.state != "done" for one in found):
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


def merged(status: Status, job: Job | None, submission: Submission | None) -> Status:
    """`status` as the run's directory has it, with what SkyPilot and the launch know besides."""
    if submission and status.total_timesteps is None:
        words = submission.model_dump(include={"matrix", "env", "arm", "seed", "total_timesteps"})
        status = replace(status, **words)
    status = _with_costs(status, job, submission)
    if job is None:
        return status
    status = replace(status, job=job.number, recoveries=job.recoveries)
    if status.state in ("done", "running"):  # the directory knows it sooner: a process holds its lock
        return status
    state = state_in_queue(job)
    left = (status.total_timesteps or 0) - status.agent_steps
    eta = left / status.sps if state == "running" and status.sps and left > 0 else None
    reason = status.reason or job.reason if state == "failed" else None
    return replace(status, state=state, reason=reason, eta_s=eta)


def state_in_queue(job: Job) -> State:
    """SkyPilot's word as one of ours."""
    if job.failed:
        return "failed"
    if job.status in _WAITING:
        return "recovering" if job.recoveries else "pending"
    return _STATES.get(job.status, "pending")


def _with_costs(status: Status, job: Job | None, submission: Submission | None) -> Status:
    """Dollars where the run directory tells none: the job's time at the price that it was submitted with."""
    hours, spent, projected = status.hours, status.spent, status.projected
    price = price_of(job, submission.prices) if submission else None
    if hours is None and job:
        hours = job.duration_s / 3600
        spent = hours * price if price is not None else None
    if projected is None and submission and submission.dollars and status.state != "done":
        share = 1 - status.agent_steps / max(1, submission.total_timesteps)
        projected = (spent or 0.0) + submission.dollars[0] * share
    return replace(status, hours=hours, spent=spent, projected=projected)


def price_of(job: Job | None, prices: Mapping[str, Mapping[str, float]]) -> float | None:
    """Dollars per hour of the machine that a job runs on, by kind of GPU and market; the dearest where that is open."""
    machine = (job.machine if job else None) or ""
    fitting = [markets for kind, markets in prices.items() if kind in machine] or list(prices.values())
    market = "spot" if "spot" in machine.lower() else "on_demand"
    known = [markets.get(market, max(markets.values(), default=0.0)) for markets in fitting if markets]
    return max(known, default=None)


def watch_table(targets: Sequence[str], console: Console) -> None:
    """Show the table of `targets` until Ctrl-C."""
    look = Look()
    with Live(Text(), console=console, refresh_per_second=4) as live:
        try:
            while True:
                view = status_view(look.at(targets))
                unknown = [Text(f"SkyPilot's queue is not known: {look.problem}")] if look.problem else []
                live.update(Group(view, *unknown))
                time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return
