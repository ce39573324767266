"""The loggers of a run: copies of its metrics where people look. metrics.jsonl remains the record that counts.

Each logger is a process of its own, which runs this module. So no library, disk or server can stop or slow the
training, and none outlives the trainer. It begins with the whole metrics.jsonl, and then gets each new line: whatever
happened before, the logger has the same curve as the file.
"""

import json
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from memexp.config import UsageError
from memexp.console import say
from memexp.credentials import mask, masked_output
from memexp.machine import Activity
from memexp.runs import scribe
from memexp.runs.directory import RESTART, ExitStatus, Run
from memexp.runs.metrics import STEPS, each_record, record_of
from memexp.runs.sinks import Csv, Mlflow, TensorBoard
from memexp.runs.wandb_sink import WandbSink, resolve_mode
from memexp.runs.writer import feed

Row = dict[str, Any]


class Sink(Protocol):
    """Where one run's metrics go. Any method may raise any error."""

    def begin(self, rows: Iterable[Row], start: float) -> None:
        """Hold exactly these rows, whatever was there before. Rows after `start` agent steps are measured anew."""
        ...

    def log(self, row: Row) -> None: ...

    def end(self, code: int) -> None:
        """code: that of the trainer: 0 completed, RESTART preempted, else failed."""
        ...


class Kind(NamedTuple):
    """A logger that a config can name."""

    title: str
    sink: Callable[[Run, dict[str, Any]], Sink]
    library: str = ""
    """The module that it needs."""
    packages: tuple[str, ...] = ()
    """What memexp's extra of this name installs."""


LOGGERS = {
    "wandb": Kind("W&B", WandbSink, "wandb"),
    "tensorboard": Kind("TensorBoard", TensorBoard, "tensorboard", ("tensorboard",)),
    "csv": Kind("CSV", Csv),
    "mlflow": Kind("MLflow", Mlflow, "mlflow", ("mlflow-skinny", "sqlalchemy", "alembic")),
}
COMMAND = (sys.executable, "-P", "-m", "memexp.runs.loggers")
FINISH_S, LONGEST_FINISH_S = 60.0, 600.0
"""Seconds for which loggers may do nothing at the end of a run, or take if the run was stopped (its next start gives
them what they lack); and seconds that they may take in all. Then their processes are killed."""
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 600.0
"""Seconds between two attempts to begin. The wait doubles from the first to the longest."""
CODES: dict[ExitStatus, int] = {"completed": 0, "preempted": RESTART}
MOST_WAITING = 100_000
"""Lines that may wait for a logger that takes none."""


def check(names: Sequence[str], wandb_mode: str) -> None:
    """Raises UsageError if one of the loggers lacks its library, or has no such mode."""
    for name in names:
        if (kind := LOGGERS[name]).library and not is_installed(kind.library):
            package = f"memexp[{name}]" if kind.packages else kind.library
            raise UsageError(f"loggers: {name} needs {kind.library}: pip install '{package}'")
        if name == "wandb":
            resolve_mode(wandb_mode)


def is_installed(library: str) -> bool:
    """Whether there is such a module. A mere folder of this name, such as one with event files, is none."""
    try:
        found = find_spec(library)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None


# In the trainer.


class Loggers:
    """Sends the metrics of `run` to its loggers, without ever waiting for them. Enter it around the training.

    options: those of W&B. start: agent steps after which metrics are measured in this session.
    """

    def __init__(self, run: Run, names: Sequence[str], options: dict[str, Any], start: int):
        is_off = "wandb" in names and resolve_mode(options["mode"]) == "disabled"
        self._names = [name for name in names if not (is_off and name == "wandb")]
        self._run, self._options, self._start = run, options, start
        self._feeds: list[_Feed] = []
        self.status: ExitStatus = "completed"
        """How the run ends, if nothing is raised."""

    def __enter__(self) -> "Loggers":
        terms = {"parent": os.getpid(), "run": str(self._run.path.absolute()), "start": self._start}
        self._feeds = [_Feed(name, {**terms, "name": name, "options": self._options}) for name in self._names]
        return self

    def log(self, metrics: dict[str, Any]) -> None:
        line = json.dumps(metrics).encode() + b"\n"
        for one in self._feeds:
            one.send(line)

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        end = json.dumps({"end": 1 if kind else CODES.get(self.status, 1)}).encode() + b"\n"
        for one in self._feeds:
            one.send(end)
            one.orders.put(None)
        activity = Activity([one.process.pid for one in self._feeds])
        deadline = time.monotonic() + (LONGEST_FINISH_S if self.status == "completed" and kind is None else FINISH_S)
        for one in self._feeds:
            while not one.has_ended() and activity.idle_s() < FINISH_S and time.monotonic() < deadline:
                pass
            one.leave()


class _Feed:
    """The process of one logger, and the lines that wait for it."""

    def __init__(self, name: str, terms: dict[str, Any]):
        self._title, self._said = LOGGERS[name].title, False
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self.process.stdin
        self.orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=feed, args=(self.process.stdin, self.orders), daemon=True, name=name).start()
        self.send(json.dumps(terms).encode() + b"\n")

    def send(self, line: bytes) -> None:
        if (code := self.process.poll()) is not None:
            self._give_up(f"its process ended with exit code {code}")
        elif self.orders.qsize() >= MOST_WAITING:
            self._give_up(f"{MOST_WAITING:,} lines wait for it")
        else:
            self.orders.put(line)

    def has_ended(self) -> bool:
        """Whether the process has ended, after at most a second."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        return self.process.returncode is not None

    def leave(self) -> None:
        """Kill the process if it goes on."""
        if (code := self.process.poll()) is None:
            self._give_up("it does not end")
        elif code:
            self._give_up(f"its process ended with exit code {code}")

    def _give_up(self, why: str) -> None:
        if not self._said:
            self._said = True
            if not self._has_said():
                say(f"going on without {self._title}: {why}", error=True)
            self.process.kill()
            self.orders.put(None)

    def _has_said(self) -> bool:
        """Whether the process itself has said that it failed."""
        assert self.process.stdout
        os.set_blocking(self.process.stdout.fileno(), False)
        return bool(self.process.stdout.read(1))


# In the logger's process.


class Follower:
    """Keeps a sink in line with the metrics of `run`. What it could not take, it gets later.

    on_failure: called after the first failure, the only one that it prints.
    """

    def __init__(
        self, run: Run, name: str, options: dict[str, Any], start: float, on_failure: Callable[[], Any] = lambda: None
    ):
        self._run, self._kind, self._options, self._start = run, LOGGERS[name], options, start
        self._sink: Sink | None = None
        self._waiting: list[Row] = []
        self._has = -1  # agent steps of the last row that the sink has
        self._due, self._wait = 0.0, FIRST_WAIT_S
        self._said, self._on_failure = False, on_failure

    def take(self, row: Row) -> None:
        """Pass a new row on, if the sink works or it is time to try again."""
        self._waiting.append(row)
        if self._sink or time.monotonic() >= self._due:
            self.catch_up()

    def catch_up(self) -> None:
        """Pass on every row that the sink does not have. If that fails, say so once."""
        try:
            if self._sink is None:
                sink = self._kind.sink(self._run, self._options)
                sink.begin(self._recorded(), self._start)
                self._sink, self._start = sink, math.inf
            for row in self._waiting:
                if row[STEPS] > self._has:
                    self._sink.log(row)
                    self._has = row[STEPS]
            self._waiting, self._wait = [], FIRST_WAIT_S
        except Exception as error:
            self._fail(error)

    def end(self, code: int) -> None:
        if self._sink is None or self._waiting:
            self.catch_up()
        if self._sink:
            try:
                self._sink.end(code)
            except Exception as error:
                self._fail(error)

    def _recorded(self) -> Iterator[Row]:
        self._has = -1
        for row in each_record(self._run.path / "metrics.jsonl"):
            if row.get(STEPS, -1) > self._has:
                self._has = row[STEPS]
                yield row

    def _fail(self, error: Exception) -> None:
        self._sink, self._due = None, time.monotonic() + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT_S)
        if not self._said:
            self._said = True
            why = " ".join(mask(str(error)).split())
            say(f"going on without {self._kind.title}: {type(error).__name__}: {why}", error=True)
            self._on_failure()


def follow(lines: Iterator[bytes], follower: Follower) -> None:
    """Pass on what a trainer sends until its last line, {"end": EXIT CODE}, or until it is gone."""
    follower.catch_up()
    for line in lines:
        row = record_of(line) or {}
        if "end" in row:
            return follower.end(row["end"])
        follower.take(row)
    return follower.end(1)


def main() -> None:
    """Serve one trainer. The first line of stdin is {"parent", "run", "name", "options", "start"}.

    It gets a byte on stdout when the logger has said that it failed.
    """
    terms = json.loads(sys.stdin.buffer.readline())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the trainer handles them and still logs
        signal.signal(number, signal.SIG_IGN)
    scribe.end_with(terms["parent"], signal.SIGKILL)
    logging.disable(logging.WARNING)  # libraries report what they do
    warnings.simplefilter("ignore")
    stdout = os.dup(1)  # for the trainer alone, not for what libraries print
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with masked_output(), suppress(BrokenPipeError):  # nobody reads the trainer's output any more
        run, on_failure = Run(Path(terms["run"])), lambda: os.write(stdout, b"!")
        follow(sys.stdin.buffer, Follower(run, terms["name"], terms["options"], terms["start"], on_failure))


if __name__ == "__main__":
    main()
