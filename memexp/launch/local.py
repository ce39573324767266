"""Runs on this machine: each a process of its own, some at a time, with live progress.

A run that is done is skipped, one that was started is resumed, one that another process works on is left to it. Ctrl-C,
SIGTERM and SIGHUP are handed on: the runs write a checkpoint and end as preempted, and the same command resumes them.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from memexp.config import CORES, cores_left
from memexp.formatting import duration
from memexp.launch.plan.run_spec import RunSpec
from memexp.launch.status.notify import notify
from memexp.runs import Run
from memexp.runs.status import end_of, is_locked, last_metrics, log_lines, reached

POLL_S = 0.1
"""Seconds between two looks at the processes."""
SHOW_S = 1.0
"""Seconds between two looks at the metrics."""
SAY_S = 30.0
"""Seconds between two lines of progress where there is no terminal."""


@dataclass
class Job:
    """One running process and what it has reached."""

    cell: RunSpec
    run: Run
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    slot: int
    task: TaskID
    started: float = field(default_factory=time.monotonic)
    steps_before: int = 0
    steps: int = 0


@dataclass
class Outcome:
    """How the runs of a local launch ended: names, and (name, last words) of those that failed."""

    done: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Not started: another process works on them, or the launch was told to stop."""
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.failed or self.stopped or self.left)


def default_jobs(processes: int) -> int:
    """How many runs at a time: half the cores' worth, or as many as the GPUs can hold; at least one."""
    gpus = len(visible_gpus())
    return max(1, (gpus or (os.cpu_count() or 1) // 2) // processes)


def visible_gpus() -> list[str]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name and name != "-1"]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    return [str(number) for number, _ in enumerate(listed.stdout.splitlines())] if listed.returncode == 0 else []


def run_here(cells: Sequence[RunSpec], jobs: int, processes: int, console: Console) -> Outcome:
    """Train every cell, `jobs` at a time with `processes` ranks each (torchrun where more than one)."""
    launch = _Launch(jobs, processes, console)
    waiting = list(cells)
    with launch.progress, _signals(launch):
        launch.expect(cells)
        try:
            while (waiting and not launch.asked) or launch.jobs:
                while waiting and launch.slots and not launch.asked:
                    launch.start(waiting.pop(0))
                time.sleep(POLL_S)
                launch.stop()
                launch.collect()
                launch.show()
        finally:  # an error here (a full disk, a closed pipe) leaves no process behind
            for job in launch.jobs:
                job.process.terminate()
        launch.progress.update(launch.overall, completed=launch.finished, note="")
    launch.outcome.left += [cell.run for cell in waiting]
    return launch.outcome


class _Launch:
    """The processes of one `run_here`, and its display."""

    def __init__(self, jobs: int, processes: int, console: Console):
        self.processes, self.console = processes, console
        self.jobs: list[Job] = []
        self.slots = list(range(jobs))
        self.environments = [_environment(slot, jobs, processes) for slot in range(jobs)]
        self.outcome = Outcome()
        self.asked = self.stopping = 0  # signals received, and handed on
        self.started = time.monotonic()
        self.shown = self.said = 0.0
        self.gained = self.total = self.finished = 0
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.overall = self.progress.add_task("runs", total=0, note="")

    def expect(self, cells: Sequence[RunSpec]) -> None:
        self.count = len(cells)
        self.total = sum(cell.agent_steps - reached(Run.named(cell.run)) for cell in cells)
        self.progress.update(self.overall, total=len(cells))

    def start(self, cell: RunSpec) -> None:
        run = Run.named(cell.run)
        if is_locked(run):
            self.outcome.left.append(cell.run)
            self.say(f"{cell.run}: another process works on it")
            return
        run.path.mkdir(parents=True, exist_ok=True)
        (run.path / "exit.json").unlink(missing_ok=True)  # how an earlier start ended
        command = _command(cell, self.processes)
        log = open(run.path / "log.txt", "ab")  # noqa: SIM115 (the process writes into it; closed in `collect`)
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        slot = self.slots.pop(0)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environments[slot],
            start_new_session=True,  # Ctrl-C reaches the run through us alone
        )
        task = self.progress.add_task(cell.run, total=cell.agent_steps, note="")
        before = reached(run)
        self.jobs.append(Job(cell, run, process, log, slot, task, steps_before=before, steps=before))

    def collect(self) -> None:
        """Take note of the processes that ended."""
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            self.slots.append(job.slot)
            job.log.close()
            self.gained += min(reached(job.run), job.cell.agent_steps) - job.steps_before
            self.finished += 1
            self.progress.remove_task(job.task)
            took = duration(time.monotonic() - job.started)
            self.say(f"{job.cell.run}: {self._note(job)} after {took}")

    def _note(self, job: Job) -> str:
        name, outcome = job.cell.run, end_of(job.run)
        if job.process.returncode == 0:
            self.outcome.done.append(name)
            notify("done", name, tell=self.say)
            return "done"
        if self.stopping or (outcome and outcome.status in ("preempted", "cancelled")):
            self.outcome.stopped.append(name)
            return "stopped"
        self.outcome.failed.append((name, last_line(job.run)))
        notify("failed", name, last_line(job.run), self.say)
        return f"failed (exit code {job.process.returncode})"

    def show(self) -> None:
        """Bring the display up to date."""
        now = time.monotonic()
        if now - self.shown < SHOW_S:
            return
        self.shown = now
        for job in self.jobs:
            lines = last_metrics(job.run)
            if lines:
                job.steps = min(lines[-1].get("agent_steps", job.steps), job.cell.agent_steps)
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
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Hand on what was asked: the runs write a checkpoint and end; asked twice, they are killed."""
        if self.asked == self.stopping:
            return
        self.stopping = self.asked
        for job in self.jobs:
            if self.stopping == 1:
                job.process.terminate()
            else:
                kill_tree(job.process.pid)
        if self.stopping == 1:
            self.say(f"stopping {len(self.jobs)} runs after a checkpoint; once more kills them")


def kill_tree(pid: int) -> None:
    """Kill a process and all that descend from it, also those in sessions of their own (torchrun's ranks)."""
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


@contextmanager
def _signals(launch: _Launch) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal ask the launch to stop; twice, at once."""

    def handle(number: int, frame: Any) -> None:
        launch.asked += 1

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks to outlive the terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _command(cell: RunSpec, processes: int) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *(torchrun if processes > 1 else []), "-m", "memexp", "train", *cell.arguments]


def _environment(slot: int, jobs: int, processes: int) -> dict[str, str]:
    """The environment of the job in `slot`: its share of the cores and of the GPUs."""
    cores = max(1, (os.cpu_count() or 1) // jobs)
    threads = str(max(1, cores // processes))
    environment = {"OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads, **os.environ, "PYTHONUNBUFFERED": "1"}
    environment[CORES] = str(cores_left(cores))
    if gpus := visible_gpus():
        own = [gpus[(slot * processes + rank) % len(gpus)] for rank in range(processes)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
    return environment


def _describe(line: dict[str, Any]) -> str:
    score = line.get("episode/return")
    return f"{line.get('sps', 0):,.0f} steps/s" + ("" if score is None else f", return {score:.3f}")


def last_line(run: Run) -> str:
    """The last words of the run's log, or its own reason where those say nothing."""
    lines = log_lines(run)
    if lines and set(lines[-1]) <= {"=", "\n"}:  # of several processes: torchrun's summary, which knows no reason
        ended = end_of(run)
        if ended and ended.status == "failed":
            return ended.reason
        lines = [line for line in lines if any(map(str.isalpha, line))]
    return lines[-1].strip() if lines else "it left no word"
