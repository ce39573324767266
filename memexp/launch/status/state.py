"""How a run stands, from its directory: new, running, done, failed, or started and waiting to be resumed."""

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from memexp.runs import Exit, Run

State = Literal[
    "new", "pending", "running", "recovering", "done", "failed", "preempted", "cancelled", "interrupted"
]  # fmt: skip
"""'pending' and 'recovering' are SkyPilot's word. 'interrupted': started, but no process works on it and nothing says
how it ended (killed, or the machine died)."""

TAIL = 1 << 16
"""Bytes read from the end of metrics.jsonl: the last lines."""


def state_of(run: Run) -> State:
    """The run's state; touches nothing."""
    if is_locked(run):
        return "running"
    outcome = end_of(run)
    if outcome is None:
        return "interrupted" if run.exists() else "new"
    return "done" if outcome.status == "completed" else outcome.status


def end_of(run: Run) -> Exit | None:
    """How the run ended; None while it runs, and where exit.json is damaged."""
    try:
        return run.exit
    except (OSError, ValueError):
        return None


def is_locked(run: Run) -> bool:
    """Whether a living process holds the run's lock."""
    try:
        descriptor = os.open(run.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def reached(run: Run) -> int:
    """Agent steps that the run has behind it, by its last line of metrics."""
    lines = last_metrics(run)
    return lines[-1].get("agent_steps", 0) if lines else 0


def last_metrics(run: Run) -> list[dict[str, Any]]:
    """The last lines of metrics.jsonl, oldest first; the file may be long and is not read whole."""
    return records(tail(run.path / "metrics.jsonl", TAIL).splitlines())


def records(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The lines that are JSON objects; one that was cut, or torn by a crash, is left out."""
    parsed = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            parsed.append(record)
    return parsed


def log_lines(run: Run, size: int = 4096) -> list[str]:
    """The lines of the log's last `size` bytes that are not blank; none where it cannot be read."""
    try:
        text = tail(run.path / "log.txt", size).decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def tail(path: Path, size: int) -> bytes:
    """The last `size` bytes of a file, which is not read whole; nothing where it is not there."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read()
    except FileNotFoundError:
        return b""
