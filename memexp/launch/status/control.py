"""Cancels runs and shows their logs, both SkyPilot's jobs and processes of this machine."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import TextIOBase, TextIOWrapper
from pathlib import Path
from typing import Any

from memexp.config import UsageError
from memexp.launch import LaunchError, waiting
from memexp.launch.cloud import submissions
from memexp.launch.cloud.job_queue import Job, ask, connect, read_queue, settle
from memexp.launch.status.targets import find_targets
from memexp.runs import Run, scribe
from memexp.runs.reading import open_file
from memexp.runs.status import end_of, is_locked

LOCKS = Path("/proc/locks")
"""Linux lists here the locks that processes of this machine hold."""
POLL_S = 0.5
"""Seconds between two checks for new lines, or for the end of a run."""
END_S = 120.0
"""Seconds that a run on this machine has to write its last checkpoint."""
QUEUE_POLL_S = 3.0
"""Seconds between two looks at SkyPilot's queue."""
AGAIN_S, GIVE_UP_S = 60.0, 300.0
"""Seconds after which SkyPilot is asked again to cancel a job, and after which it has failed. It looks for such
requests every 15 seconds; one that arrives while it recovers a job can get lost (SkyPilot 0.14.1)."""


def cancel(targets: Sequence[str], say: Callable[[str], None]) -> tuple[int, int]:
    """Cancel the runs of `targets` after a checkpoint, and keep local launches from starting those that wait.

    Returns how many of each. Runs that have ended are not changed.
    Raises UsageError for a target that does not exist, LaunchError if SkyPilot refuses or a run does not end in time.
    """
    runs = find_targets(targets)
    dropped = waiting.drop(run.name for run in runs)
    submitted = submissions.read()
    names = [run.name for run in runs if run.name in submitted]
    jobs = _cancel_jobs(names, say) if names else []
    end = time.monotonic() + END_S
    while any(scribe.is_held(run.path / "launch.lock") and not is_locked(run) for run in runs):
        if time.monotonic() > end:  # it starts, or ends, on another machine
            break
        time.sleep(POLL_S)
    # Only SkyPilot ends its managed jobs, even if the trainer runs on this machine: else it would recover them.
    here = [run for run in runs if run.name not in jobs and is_locked(run) and trainer_of(run)]
    for run in here:
        _cancel_here(run)
        say(f"{run.name}: cancelled after a checkpoint")
    return len(jobs) + len(here), len(dropped)


def _cancel_jobs(names: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Cancel the managed jobs of these names that have not ended, and wait until SkyPilot does; returns their names.

    Raises LaunchError if SkyPilot refuses, or if a job is not cancelled GIVE_UP_S seconds after the first request.
    """
    sky = connect()
    settle(sky, say)
    jobs = left = _going_on(sky, names)
    end = time.monotonic() + GIVE_UP_S
    while left:
        numbers = [job.number for job in left]
        ask(sky, "cancel the jobs", lambda numbers=numbers: sky.jobs.cancel(job_ids=numbers))
        again = time.monotonic() + AGAIN_S
        while (still := _going_on(sky, [job.name for job in left])) and time.monotonic() < again:
            time.sleep(QUEUE_POLL_S)
        for job in left:
            if job.name not in {one.name for one in still}:
                say(f"{job.name}: cancelled (job {job.number})")
        left = still
        if left and time.monotonic() > end:
            named = ", ".join(f"{job.name} (job {job.number}, {job.status})" for job in left)
            raise LaunchError(f"SkyPilot was asked to cancel these jobs and goes on with them: {named}")
    return [job.name for job in jobs]


def _going_on(sky: Any, names: Sequence[str]) -> list[Job]:
    """The newest jobs of these names, if they have not ended and are not being cancelled."""
    queue = read_queue(sky)
    return [job for name in names if (job := queue.get(name)) and not (job.ended or job.status == "CANCELLING")]


def _cancel_here(run: Run) -> None:
    """Tell the run's trainer to stop, and wait until it has ended."""
    if (trainer := trainer_of(run)) is None:
        return
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(trainer, signal.SIGTERM)
    end = time.monotonic() + END_S
    while is_locked(run):
        if time.monotonic() > end:
            raise LaunchError(f"{run.name}: process {trainer} was told to stop and has not ended within {END_S:.0f} s")
        time.sleep(POLL_S)
    outcome = end_of(run)
    if outcome and outcome.status == "preempted":
        run.finish(outcome.model_copy(update={"status": "cancelled", "reason": "cancelled by `memexp cancel`"}))


def trainer_of(run: Run) -> int | None:
    """Process ID of this machine's trainer of the run; None if there is none, or if it is another user's (Linux only).

    Either the trainer holds the run's lock or its lease, or its child process that writes files does.
    """
    import psutil

    try:
        inode = str(os.stat(run.lock).st_ino)
        lines = [line.split() for line in LOCKS.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    # 1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF
    pids = [int(fields[4]) for fields in lines if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode]
    pids += scribe.lease_holders(run.lock)
    with suppress(psutil.Error):
        for holder in [psutil.Process(pid) for pid in pids if pid > 0 and _has_open(pid, run.lock)]:
            return holder.ppid() if str(scribe.__file__) in holder.cmdline() else holder.pid
    return None


def _has_open(pid: int, file: Path) -> bool:
    """Whether a process has this file open. The inode is not enough: other file systems may use it, too."""
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            if descriptor.samefile(file):
                return True
    return False


def print_logs(target: str, follow: bool, out: TextIOBase) -> None:
    """Write what a run printed to `out`, from its directory or from SkyPilot; with `follow`, until the run ends.

    Raises UsageError if `target` is not a run, or has no log.
    """
    found = find_targets([target])
    if [one.name for one in found] != [target]:
        raise UsageError(f"'{target}' is a matrix: name one of its runs, such as {found[0].name}")
    run = found[0]
    if target in submissions.read() and (follow or not (run.path / "log.txt").exists()):
        sky = connect()
        job = read_queue(sky).get(target)
        if job is not None and not (job.ended and (run.path / "log.txt").exists()):
            sky.jobs.tail_logs(job_id=job.number, follow=follow, output_stream=out)
            return
    for line in _log(run, follow):
        out.write(line)
        out.flush()


def _log(run: Run, follow: bool) -> Iterator[str]:
    """The lines of the run's log; with `follow`, also new lines, until no process works on the run.

    Raises UsageError if there is no log.
    """
    try:
        log = open_file(run.path / "log.txt")
    except FileNotFoundError:
        raise UsageError(f"run '{run.name}' has no log: it was not started by `memexp launch --local`") from None
    with TextIOWrapper(log, encoding="utf-8", errors="replace") as file:
        while True:
            running = is_locked(run)  # before reading, so that the last lines are read
            yield from file
            if not (follow and running):
                return
            time.sleep(POLL_S)
