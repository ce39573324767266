"""Ending runs and reading what they print, wherever they are: SkyPilot's jobs, and processes of this machine."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from memexp.config import UsageError
from memexp.launch import LaunchError
from memexp.launch.cloud import submissions
from memexp.launch.cloud.job_queue import ask, connect, read_queue, settle
from memexp.launch.status.state import is_locked
from memexp.launch.status.status import find_targets
from memexp.runs import Run, scribe

LOCKS = Path("/proc/locks")
"""Locks that processes of this machine hold (Linux)."""
FOLLOW_S = 0.5
"""Seconds between two looks of --follow."""
END_S = 120.0
"""Seconds that a run of this machine has for its last checkpoint."""


def cancel(targets: Sequence[str], told: Callable[[str], None]) -> int:
    """End the runs of `targets`, after a checkpoint; returns how many were ended. What is done stays as it is.

    Raises UsageError for a target that does not exist, LaunchError where SkyPilot, or a run, does not do as it is told.
    """
    runs = find_targets(targets)
    submitted = submissions.read()
    names = [run.name for run in runs if run.name in submitted]
    jobs = _cancel_jobs(names, told) if names else []
    # A managed job is not ended behind SkyPilot's back, even where its trainer runs on this machine: it would recover.
    here = [run for run in runs if run.name not in jobs and is_locked(run) and trainer_of(run)]
    for run in here:
        _cancel_here(run)
        told(f"{run.name}: cancelled after a checkpoint")
    return len(jobs) + len(here)


def _cancel_jobs(names: Sequence[str], told: Callable[[str], None]) -> list[str]:
    """Cancel the managed jobs of these names that have not ended; returns their names."""
    sky = connect()
    settle(sky, told)
    queue = read_queue(sky)
    jobs = [job for name in names if (job := queue.get(name)) and not job.ended]
    if jobs:
        numbers = [job.number for job in jobs]
        ask(sky, "cancel the jobs", lambda: sky.jobs.cancel(job_ids=numbers))
    for job in jobs:
        told(f"{job.name}: cancelled (job {job.number})")
    return [job.name for job in jobs]


def _cancel_here(run: Run) -> None:
    """Tell the run's trainer to stop, and wait for it."""
    if (trainer := trainer_of(run)) is None:
        return
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(trainer, signal.SIGTERM)
    end = time.monotonic() + END_S
    while is_locked(run):
        if time.monotonic() > end:
            raise LaunchError(f"{run.name}: process {trainer} was told to stop and has not ended within {END_S:.0f} s")
        time.sleep(FOLLOW_S)
    outcome = run.exit
    if outcome and outcome.status == "preempted":
        run.finish(outcome.model_copy(update={"status": "cancelled", "reason": "cancelled by `memexp cancel`"}))


def trainer_of(run: Run) -> int | None:
    """The process of this machine that trains the run; None where none does, or it is another user's (Linux).

    It holds the run's lock itself, or the process that writes for it does.
    """
    import psutil

    try:
        inode = str(os.stat(run.lock).st_ino)
        lines = [line.split() for line in LOCKS.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    # 1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF
    pids = [int(words[4]) for words in lines if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode]
    with suppress(psutil.Error):
        for holder in [psutil.Process(pid) for pid in pids if pid > 0 and _has_open(pid, run.lock)]:
            return holder.ppid() if str(scribe.__file__) in holder.cmdline() else holder.pid
    return None


def _has_open(pid: int, file: Path) -> bool:
    """Whether a process has this very file open: files of other file systems may have its number."""
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            if descriptor.samefile(file):
                return True
    return False


def print_logs(target: str, follow: bool, write: Callable[[str], object]) -> None:
    """What a run printed: from its directory where that has a log, else from SkyPilot; with `follow`, until it ends.

    Raises UsageError for what is no run, or has no log.
    """
    found = find_targets([target])
    if [one.name for one in found] != [target]:
        raise UsageError(f"'{target}' is a matrix: name one of its runs, such as {found[0].name}")
    run = found[0]
    if target in submissions.read() and (follow or not (run.path / "log.txt").exists()):
        sky = connect()
        job = read_queue(sky).get(target)
        if job is not None and not (job.ended and (run.path / "log.txt").exists()):
            sky.jobs.tail_logs(job_id=job.number, follow=follow)
            return
    for line in log_lines(run, follow):
        write(line)


def log_lines(run: Run, follow: bool) -> Iterator[str]:
    """The lines of the run's log; with `follow`, more as they come, until no process works on the run.

    Raises UsageError where there is no log.
    """
    path = run.path / "log.txt"
    if not path.exists():
        raise UsageError(f"run '{run.name}' has no log: it was not started by `memexp launch --local`")
    with open(path, encoding="utf-8", errors="replace") as file:
        while True:
            running = is_locked(run)  # asked before reading: what was written until then is read
            yield from file
            if not (follow and running):
                return
            time.sleep(FOLLOW_S)
