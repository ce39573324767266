"""Runs on this machine: each run is a process of its own (torchrun for several ranks), `jobs` runs at a time.

A run that another process trains is left to that process. Ctrl-C, SIGTERM and SIGHUP are passed on: the runs write a
checkpoint and stop as preempted, and the same command resumes them.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from memexp.config import CORES, RANK_VARIABLES, cores_left
from memexp.console import Console
from memexp.credentials import mask
from memexp.formatting import duration, number
from memexp.launch import handled_by, killed_by
from memexp.launch.plan.run_spec import RunSpec
from memexp.launch.status.notify import notify
from memexp.launch.waiting import Waiting
from memexp.machine import cores, free_memory, visible_gpus
from memexp.project import variables
from memexp.runs import Run
from memexp.runs.scribe import Lock, end_with, take
from memexp.runs.status import State, end_of, is_locked, last_metrics, log_lines, reached, state_of

POLL_S = 0.1
"""Seconds between two looks at the processes."""
SHOW_S = 1.0
"""Seconds between two looks at the metrics."""
SAY_S = 30.0
"""Seconds between two lines of progress where there is no terminal."""
ORPHAN_S = 15.0
"""Seconds that the trainers of a launch that was killed have to end, after the start of the next launch."""
MEMORY = 1 << 30
"""Bytes that a process of a run takes at least; small runs were measured to take 0.6 GB."""


@dataclass
class Job:
    """One running process, and the progress of its run."""

    spec: RunSpec
    run: Run
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    slot: int
    task: TaskID
    steps_before: int
    """Agent steps that the run had at the start of the process, or at the checkpoint from which it resumed."""
    steps: int
    lock: Lock
    """Held by this launch until the process has ended."""
    started: float = field(default_factory=time.monotonic)


@dataclass
class Outcome:
    """How the runs of a local launch ended: their names."""

    done: list[str] = field(default_factory=list[str])
    stopped: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    """Not started: another process trains them, they were cancelled, or the launch was told to stop."""
    failed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(name, last line of its log)."""

    @property
    def ok(self) -> bool:
        return not (self.failed or self.stopped or self.left)

    @property
    def lines(self) -> list[str]:
        """What a user is told at the end."""
        numbers = {"done": self.done, "failed": self.failed, "stopped": self.stopped, "not started": self.left}
        first = ", ".join(f"{len(runs)} {how}" for how, runs in numbers.items() if runs)
        failed = [f"failed: {name}: {reason}" for name, reason in self.failed]
        return [first, *failed, *(["the same command carries on"] if self.stopped or self.left else [])]


def default_jobs(processes: int) -> int:
    """Number of runs at a time: as many as the GPUs (without GPUs the cores) and the memory have room for."""
    room = min(len(visible_gpus()) or cores(), free_memory() // MEMORY)
    return max(1, room // processes)


def run_here(specs: Sequence[RunSpec], jobs: int, processes: int, console: Console) -> Outcome:
    """Train every run, `jobs` at a time with `processes` ranks each (torchrun where more than one)."""
    launch = _Launch(specs, jobs, processes, console)
    waiting = list(specs)
    with launch.progress, _signals(launch), Waiting(specs) as queue:
        try:
            while (waiting and not launch.asked) or launch.jobs:
                while waiting and launch.slots and not launch.asked:
                    spec = waiting.pop(0)
                    if queue.begin(spec.run):
                        launch.start(spec)
                    else:
                        launch.outcome.left.append(spec.run)
                        launch.say(f"{spec.run}: cancelled before it started")
                time.sleep(POLL_S)
                launch.stop()
                launch.collect()
                launch.show()
        finally:  # an error here (a full disk, a closed pipe) leaves no process behind
            for job in launch.jobs:
                job.process.terminate()
        launch.progress.update(launch.overall, completed=launch.finished, note="")
    outcome = launch.outcome
    elsewhere = [name for name in outcome.left if state_of(Run.named(name)) is State.COMPLETED]
    outcome.done += elsewhere
    outcome.left = [name for name in outcome.left if name not in elsewhere] + [spec.run for spec in waiting]
    return outcome


class _Launch:
    """The processes of one `run_here`, and its display."""

    def __init__(self, specs: Sequence[RunSpec], jobs: int, processes: int, console: Console):
        self.processes, self.console = processes, console
        self.jobs: list[Job] = []
        self.slots = list(range(jobs))
        self.environments = [environment_of(slot, jobs, processes) for slot in range(jobs)]
        self.outcome = Outcome()
        self.asked = self.stopping = 0  # signals received, and passed on
        self.started = time.monotonic()
        self.shown = self.said = 0.0
        self.count, self.gained, self.finished = len(specs), 0, 0
        self.total = sum(spec.agent_steps - reached(Run.named(spec.run)) for spec in specs)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.overall = self.progress.add_task("runs", total=self.count, note="")

    def start(self, spec: RunSpec) -> None:
        """Start the run's process, unless another one works on the run or has completed it."""
        run = Run.named(spec.run)
        if (lock := take(run.path / "launch.lock")) is None:
            self.outcome.left.append(spec.run)
            return self.say(f"{spec.run}: another launch is running it")
        while is_locked(run) and not self.asked and time.monotonic() < self.started + ORPHAN_S:
            time.sleep(POLL_S)  # the trainer of a launch that was killed ends after a checkpoint
        ended = end_of(run)
        is_done = ended is not None and ended.status == "completed"
        if is_locked(run) or is_done:
            lock.release()
            (self.outcome.done if is_done else self.outcome.left).append(spec.run)
            return self.say(f"{spec.run}: {'done by another launch' if is_done else 'another process trains it'}")
        if ended:  # how an earlier start ended
            (run.path / "exit.json").unlink(missing_ok=True)
        command = _command(spec, self.processes)
        log = run.open_log()  # closed in `collect`
        log.write(f"$ {mask(shlex.join(command))}\n".encode())
        log.flush()
        slot = self.slots.pop(0)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environments[slot],
            start_new_session=True,  # Ctrl-C reaches the run only through `stop`
            preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),  # a launch that is killed leaves no run behind
        )
        task = self.progress.add_task(spec.run, total=spec.agent_steps, note="")
        steps = reached(run)
        self.jobs.append(Job(spec, run, process, log, slot, task, steps_before=steps, steps=steps, lock=lock))
        return None

    def collect(self) -> None:
        """Record the processes that ended."""
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            self.slots.append(job.slot)
            if how := killed_by(job.process.returncode):
                job.log.write(f"{how}\n".encode())
            job.log.close()
            if self._was_told(job) and set(os.listdir(job.run.path)) <= {"launch.lock", "log.txt"}:
                shutil.rmtree(job.run.path)  # it was stopped before it began
            job.lock.release()
            self.gained += min(reached(job.run), job.spec.agent_steps) - job.steps_before
            self.finished += 1
            self.progress.remove_task(job.task)
            self.say(f"{job.spec.run}: {self._record(job)} after {duration(time.monotonic() - job.started)}")

    def _record(self, job: Job) -> str:
        """Add the run to the outcome; returns how it ended."""
        name, ended = job.spec.run, end_of(job.run)
        if job.process.returncode == 0 and ended and ended.status == "completed":
            self.outcome.done.append(name)
            notify("done", name, tell=self.say)
            return "done"
        if self._was_told(job) or (ended and ended.status in ("preempted", "cancelled")):
            self.outcome.stopped.append(name)
            return "stopped"
        self.outcome.failed.append((name, last_line(job.run)))
        notify("failed", name, last_line(job.run), self.say)
        return f"failed (exit code {job.process.returncode})"

    def _was_told(self, job: Job) -> bool:
        """Whether a process that has ended was told to stop."""
        return self.stopping > 0 or job.process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)

    def show(self) -> None:
        """Update the display."""
        now = time.monotonic()
        if now - self.shown < SHOW_S:
            return
        self.shown = now
        for job in self.jobs:
            if lines := last_metrics(job.run):
                job.steps = min(lines[-1].get("agent_steps", job.steps), job.spec.agent_steps)
                job.steps_before = min(job.steps_before, job.steps)
                self.progress.update(job.task, completed=job.steps, note=_describe(lines[-1]))
        gained = self.gained + sum(job.steps - job.steps_before for job in self.jobs)
        rate = gained / (now - self.started)
        left = duration(max(0, self.total - gained) / rate) if rate > 0 else "?"
        note = f"{rate:,.0f} agent steps/s, {left} left"
        self.progress.update(self.overall, completed=self.finished, note=note)
        if not self.console.is_terminal and now - max(self.said, self.started) >= SAY_S:
            self.said = now
            self.say(f"{self.finished} of {self.count} runs, {note}")

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def stop(self) -> None:
        """Pass signals on: at the first the runs write a checkpoint and stop, at the second they are killed."""
        if self.asked == self.stopping:
            return
        self.stopping = self.asked
        for job in self.jobs:
            if self.stopping == 1:
                job.process.terminate()
            else:
                kill_tree(job.process.pid)
        if self.stopping == 1:
            self.say(f"stopping {len(self.jobs)} runs after a checkpoint; the same signal again kills them")


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants, also those in sessions of their own (torchrun's ranks)."""
    lines: list[str] = []
    with suppress(FileNotFoundError):  # without `ps` the process alone is killed
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
        lines = listed.stdout.splitlines()
    children: dict[int, list[int]] = {}
    for line in lines:
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    tree = [pid]
    for member in tree:
        tree += children.get(member, [])
    for member in tree:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def _signals(launch: _Launch) -> AbstractContextManager[None]:
    """Ctrl-C, SIGTERM and a closed terminal ask the launch to stop."""

    def ask(number: int, frame: Any) -> None:
        launch.asked += 1

    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]  # ignored under nohup
    return handled_by(ask, signal.SIGINT, signal.SIGTERM, *hangup)


def _command(spec: RunSpec, processes: int) -> list[str]:
    return command_of(["train", *spec.arguments], processes)


def command_of(words: Sequence[str], processes: int) -> list[str]:
    """`memexp words...` as processes of this machine: Python, or torchrun for several."""
    python = [sys.executable, "-P"]  # without the current folder: a file there would take the place of a package
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--no-python"]
    return [*([*python, *torchrun] if processes > 1 else []), *python, "-m", "memexp", *words]


def environment_of(slot: int, jobs: int, processes: int) -> dict[str, str]:
    """The environment variables of the job in `slot`: its share of the cores and of the GPUs."""
    share = max(1, cores() // jobs)
    threads = str(max(1, share // processes))
    environment = {
        "OMP_NUM_THREADS": threads,
        "NUMBA_NUM_THREADS": threads,
        **os.environ,
        **variables(),
        "PYTHONUNBUFFERED": "1",
    }
    environment = {name: value for name, value in environment.items() if not RANK_VARIABLES.fullmatch(name)}
    environment[CORES] = str(cores_left(share))
    if gpus := visible_gpus():
        own = [gpus[(slot * processes + rank) % len(gpus)] for rank in range(processes)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
    return environment


def _describe(line: dict[str, Any]) -> str:
    score = line.get("episode/return")
    return f"{line.get('sps', 0):,.0f} steps/s" + ("" if score is None else f", return {number(score)}")


def last_line(run: Run) -> str:
    """The last line of the run's log; of several processes, the reason that the run itself recorded."""
    if not run.path.exists():
        return f"{run.path} was deleted or moved"
    lines = log_lines(run)
    if lines and set(lines[-1]) <= {"=", "\n"}:  # torchrun's summary, which knows no reason
        ended = end_of(run)
        if ended and ended.status == "failed":
            return ended.reason
        lines = [line for line in lines if any(map(str.isalpha, line))]
        if lines and (number := re.search(r"Signal (\d+) \(SIG", lines[-1])):
            return killed_by(-int(number[1])) or lines[-1].strip()
    return lines[-1].strip() if lines else "its process ended without a word: its log is empty"
