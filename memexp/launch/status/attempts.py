"""The starts of a run on cloud nodes: when, on which machine, at what price, for how long, and how each ended.

    starts/000.json      Start, written by the node before it trains
    starts/000.seconds   seconds since the node began, rewritten by watch.sh while it trains
    starts/000.end.json  End, written by the node afterwards (absent if the node was taken away)

A recovery is another start. The cost of a run is the sum over its starts.
"""

import math
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from memexp.runs import Run
from memexp.runs.directory import write_atomically
from memexp.runs.provenance import utc_now
from memexp.runs.reading import MAX_BYTES, read_bytes, read_model
from memexp.runs.status import known, log_lines

Market = Literal["spot", "on_demand"]
Word = Literal["done", "time is up", "wrong usage", "preempted", "cancelled", "hung", "error", "failed"]
"""How a start ended. After an 'error' another start may succeed; 'failed' is final."""


class Start(BaseModel):
    """One start of a run."""

    number: int
    time: str
    """UTC, ISO 8601."""
    agent_steps: int
    """Agent steps that the run had completed before this start."""
    hardware: str | None = None
    market: Market | None = None
    price_per_hour: float | None = None
    """Dollars per hour of all its nodes; None if not known."""
    place: str | None = None
    """Cloud and region."""


class End(BaseModel):
    """How a start ended."""

    code: int
    """Exit code for SkyPilot."""
    word: Word
    agent_steps: int
    reason: str = ""


def folder(run: Run) -> Path:
    return run.path / "starts"


def starts_of(run: Run) -> list[Start]:
    """All starts in order. A damaged record is left out."""
    files = sorted(folder(run).glob("[0-9][0-9][0-9].json"))
    return [one for file in files if (one := known(lambda file=file: read_model(Start, file)))]


def end_of_start(run: Run, number: int) -> End | None:
    return known(lambda: read_model(End, folder(run) / f"{number:03d}.end.json"))


def add_start(run: Run, agent_steps: int, **known: Any) -> Start:
    """Record a new start of the run; `known`: further fields of Start."""
    files = [int(file.name[:3]) for file in folder(run).glob("[0-9][0-9][0-9].json")]
    start = Start(number=max(files, default=-1) + 1, time=utc_now(), agent_steps=agent_steps, **known)
    write_atomically(folder(run) / f"{start.number:03d}.json", start.model_dump_json(indent=2).encode())
    return start


def add_end(run: Run, number: int, end: End) -> None:
    write_atomically(folder(run) / f"{number:03d}.end.json", end.model_dump_json(indent=2).encode())


def seconds_of(run: Run, number: int) -> float:
    """Seconds that a start has lasted; 0 if watch.sh wrote nothing."""
    try:
        seconds = float(read_bytes(folder(run) / f"{number:03d}.seconds", MAX_BYTES))
    except (OSError, ValueError):
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def spent(run: Run) -> tuple[float, float | None]:
    """(hours, dollars) of all starts; dollars are None if the price of one start is not known."""
    starts = [(seconds_of(run, start.number) / 3600, start.price_per_hour) for start in starts_of(run)]
    costs = [hours * price for hours, price in starts if price is not None]
    return sum(hours for hours, _ in starts), sum(costs) if len(costs) == len(starts) else None


_ERROR = r"\s*(memexp: |preflight: (?!warning)|[\w.]*(Error|Exception)\b)"
"""Beginning of a line that names an error."""


def last_error(run: Run) -> str:
    """The last line of the run's log that names an error; '' if there is none."""
    named = [line.strip() for line in log_lines(run, 65536) if re.match(_ERROR, line)]
    return named[-1][:500] if named else ""
