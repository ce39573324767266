"""Submits tasks to SkyPilot as managed jobs: some at a time, and none twice. It may be interrupted at any moment.

SkyPilot's queue decides what was submitted. A launch first waits for submissions that the server still works on (an
interrupted launch leaves them behind), then submits the runs for which there is no job.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from memexp.launch import LaunchError, handled_by
from memexp.launch.cloud.job_queue import read_queue, reason_of, settle
from memexp.launch.cloud.sky_task import Task, to_sky
from memexp.launch.plan.resources import SECRETS
from memexp.runs import home, scribe

AT_ONCE = 8
"""Submissions that the server works on at a time."""


@dataclass
class Outcome:
    """How a submission ended: names of runs."""

    sent: list[str] = field(default_factory=list[str])
    known: dict[str, str] = field(default_factory=dict[str, str])
    """Run that has a job already -> the job's status."""
    failed: list[str] = field(default_factory=list[str])
    """Their job has failed. Only --retry-failed submits them again."""
    left: list[str] = field(default_factory=list[str])
    """Not submitted: interrupted."""

    @property
    def summary(self) -> str:
        """'2 of 6 runs submitted; 4 there already'."""
        total = len(self.sent) + len(self.known) + len(self.failed) + len(self.left)
        parts = [f"{len(self.sent)} of {total} runs submitted"]
        parts += [f"{len(self.known)} there already"] * bool(self.known)
        parts += [f"{len(self.failed)} failed (--retry-failed submits them again)"] * bool(self.failed)
        parts += [f"{len(self.left)} not submitted (the same command carries on)"] * bool(self.left)
        return "; ".join(parts)


def submit(
    sky: Any,
    tasks: Sequence[Task],
    told: Callable[[str], None],
    retry_failed: bool = False,
    at_once: int = AT_ONCE,
    before: Callable[[Sequence[str]], None] = lambda names: None,
) -> Outcome:
    """Submit each task as a managed job, unless a job of its name waits, runs, is done or has failed.

    With `retry_failed` failed ones are submitted again. `sky` comes from `connect`. `told` gets one line a task, and
    `before` the names that are about to be submitted. After Ctrl-C the answers to open submissions are waited for;
    a second Ctrl-C raises KeyboardInterrupt. Raises LaunchError when SkyPilot refuses a task; those before it stay
    submitted, and are counted.
    """
    secrets = {name: value for name in SECRETS if (value := os.environ.get(name))}
    jobs = {task["name"]: to_sky(sky, task, secrets) for task in tasks}
    with _alone(), _interrupts() as interrupted:
        settle(sky, told)
        outcome, due = Outcome(), deque[str]()
        queue = read_queue(sky)
        for name in jobs:
            job = queue.get(name)
            if job is None or job.status == "CANCELLED" or (job.failed and retry_failed):
                due.append(name)
            elif job.failed:
                outcome.failed.append(name)
                told(f"{name}: has failed as a managed job{f' ({job.reason})' if job.reason else ''}")
            else:
                outcome.known[name] = job.status
                told(f"{name}: already {job.status.lower()} as a managed job")
        before(list(due))
        number, requests = len(due), deque[tuple[str, Any]]()
        while (due and not interrupted) or requests:
            while due and len(requests) < at_once and not interrupted:
                name = due.popleft()
                with _refusals(sky, name, outcome, number):
                    requests.append((name, sky.jobs.launch(jobs[name], name=name)))
            if requests:
                _wait_for_first(sky, requests, outcome, number, told)
        outcome.left = list(due)
    return outcome


def _wait_for_first(
    sky: Any, requests: deque[tuple[str, Any]], outcome: Outcome, number: int, told: Callable[[str], None]
) -> None:
    """Wait for the server's answer to the oldest submission."""
    name, request = requests.popleft()
    with _refusals(sky, name, outcome, number):
        try:
            sky.get(request)
        except Exception:
            for other, pending in requests:  # these are under way: their answers count too
                try:
                    sky.get(pending)
                    outcome.sent.append(other)
                except Exception as error:
                    told(f"{other}: {reason_of(error)}")
            raise
    outcome.sent.append(name)
    told(f"{name}: submitted ({len(outcome.sent)} of {number})")


@contextmanager
def _refusals(sky: Any, name: str, outcome: Outcome, number: int) -> Generator[None]:
    """Raises SkyPilot's error as LaunchError, with the reason that the queue gives for the job: the error often has
    none."""
    try:
        yield
    except Exception as error:
        try:
            job = read_queue(sky).get(name)
        except LaunchError:
            job = None
        reason = job.reason if job and job.failed and job.reason else reason_of(error)
        before = f" ({len(outcome.sent)} of {number} were submitted)" if outcome.sent else ""
        raise LaunchError(f"SkyPilot could not submit {name}: {reason}{before}") from None


@contextmanager
def _interrupts() -> Generator[list[int]]:
    """The signals that asked to stop, as they arrive. The second raises KeyboardInterrupt."""
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)
        if len(heard) > 1:
            raise KeyboardInterrupt

    with handled_by(hear, signal.SIGINT, signal.SIGTERM):
        yield heard


@contextmanager
def _alone() -> Generator[None]:
    """One submission at a time: two that read the queue together would submit the same runs."""
    if (lock := scribe.take(home() / "launch.lock")) is None:
        raise LaunchError("another `memexp launch` is submitting from here: wait until it has ended")
    try:
        yield
    finally:
        lock.release()
