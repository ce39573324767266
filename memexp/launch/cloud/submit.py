"""Handing tasks to SkyPilot as managed jobs: some at a time, none twice, interruptible at any moment.

SkyPilot's queue is the truth. A launch first waits for submissions that the server still works on (an interrupted
launch leaves them behind), then submits what no job of that name stands for.
"""

import fcntl
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from memexp.launch import LaunchError
from memexp.launch.cloud.job_queue import Job, read_queue, reason_of, settle
from memexp.launch.cloud.sky_task import to_sky
from memexp.launch.plan.resources import SECRETS
from memexp.runs import home

AT_ONCE = 8
"""Submissions that the server works on at a time."""


@dataclass
class Sent:
    """What came of a submission: names of runs."""

    sent: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    """A job of that name stands for them: its status."""
    failed: list[str] = field(default_factory=list)
    """Their job failed; only --retry-failed submits them again."""
    left: list[str] = field(default_factory=list)
    """Not submitted: interrupted."""


def submit(
    sky: Any,
    tasks: Sequence[dict[str, Any]],
    told: Callable[[str], None],
    retry_failed: bool = False,
    at_once: int = AT_ONCE,
    before: Callable[[Sequence[str]], None] = lambda names: None,
) -> Sent:
    """Submit each task as a managed job, unless a job of its name is queued, running, done or (without `retry_failed`)
    has failed.

    `sky` comes from `connect`; `told` is given one line a task; `before` hears the names that are to be submitted.
    Ctrl-C ends it once the server has answered what it was asked; twice, at once. Raises LaunchError when SkyPilot
    refuses a task: those before it stay submitted, and are counted.
    """
    secrets = {name: value for name in SECRETS if (value := os.environ.get(name))}
    jobs = [(task["name"], to_sky(sky, task, secrets)) for task in tasks]
    with _alone(), _interrupts() as interrupted:
        settle(sky, told)
        outcome, due = _missing(jobs, read_queue(sky), retry_failed, told)
        before([name for name, _ in due])
        waiting, asked = deque(due), deque[tuple[str, Any]]()
        while (waiting and not interrupted) or asked:
            while waiting and len(asked) < at_once and not interrupted:
                name, job = waiting.popleft()
                asked.append((name, _begin(sky, name, job, outcome, len(due))))
            _settle_first(sky, asked, outcome, len(due), told)
        outcome.left = [name for name, _ in waiting]
    return outcome


def _missing(
    jobs: Sequence[tuple[str, Any]], queue: Mapping[str, Job], retry_failed: bool, told: Callable[[str], None]
) -> tuple[Sent, list[tuple[str, Any]]]:
    """What is there already, and the jobs that are to be submitted."""
    outcome = Sent()
    due = []
    for name, job in jobs:
        there = queue.get(name)
        if there is None or there.status == "CANCELLED" or (there.failed and retry_failed):
            due.append((name, job))
        elif there.failed:
            outcome.failed.append(name)
            told(f"{name}: has failed as a managed job{f' ({there.reason})' if there.reason else ''}")
        else:
            outcome.known[name] = there.status
            told(f"{name}: already {there.status.lower()} as a managed job")
    return outcome, due


def _begin(sky: Any, name: str, job: Any, outcome: Sent, number: int) -> Any:
    try:
        return sky.jobs.launch(job, name=name)
    except Exception as error:
        raise _refusal(sky, name, error, outcome, number) from None


def _settle_first(
    sky: Any, asked: deque[tuple[str, Any]], outcome: Sent, number: int, told: Callable[[str], None]
) -> None:
    """Wait for the server's answer to the oldest submission."""
    if not asked:
        return
    name, request = asked.popleft()
    try:
        sky.get(request)
    except Exception as error:
        for other, pending in asked:  # they are under way: what becomes of them is told too
            try:
                sky.get(pending)
                outcome.sent.append(other)
            except Exception as another:
                told(f"{other}: {reason_of(another)}")
        raise _refusal(sky, name, error, outcome, number) from None
    outcome.sent.append(name)
    told(f"{name}: submitted ({len(outcome.sent)} of {number})")


def _refusal(sky: Any, name: str, error: Exception, outcome: Sent, number: int) -> LaunchError:
    """SkyPilot's error as one line: the reason that the queue gives for the job, which the error often lacks."""
    try:
        job = read_queue(sky).get(name)
    except LaunchError:
        job = None
    reason = job.reason if job and job.failed and job.reason else reason_of(error)
    before = f" ({len(outcome.sent)} of {number} were submitted)" if outcome.sent else ""
    return LaunchError(f"SkyPilot could not submit {name}: {reason}{before}")


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The signals that asked for an end, as they come. The second raises KeyboardInterrupt."""
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)
        if len(heard) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _alone() -> Iterator[None]:
    """One submission of this home at a time: two that look at the queue together would submit the same runs."""
    home().mkdir(parents=True, exist_ok=True)
    with open(home() / "launch.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError("another `memexp launch` is submitting from here: wait for it to end") from None
        yield
