"""The starts of a run on nodes: when, on what, at which price, for how long, and how each ended.

    starts/000.json      Start, written by the node before it trains
    starts/000.seconds   seconds since the node was there, rewritten by watch.sh while it trains
    starts/000.end.json  End, written by the node afterwards (absent where the node was taken away)

A recovery is another start; what a run has cost is the sum over all of them.
"""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from memexp.launch.status.state import log_lines
from memexp.runs import Run
from memexp.runs.directory import write_atomically
from memexp.runs.provenance import utc_now

Market = Literal["spot", "on_demand"]
Word = Literal["done", "time is up", "wrong usage", "preempted", "cancelled", "hung", "error", "failed"]
"""How a start ended; 'error' is one that another start may not meet, 'failed' is for good."""


class Start(BaseModel):
    """One start of a run."""

    number: int
    time: str
    """UTC, ISO 8601."""
    agent_steps: int
    """Reached before it."""
    hardware: str | None = None
    market: Market | None = None
    price_per_hour: float | None = None
    """Dollars per hour of all its nodes; None where not known."""
    place: str | None = None
    """Cloud and region."""


class End(BaseModel):
    """How a start ended."""

    code: int
    """Exit code that SkyPilot is given."""
    word: Word
    agent_steps: int
    reason: str = ""


def folder(run: Run) -> Path:
    return run.path / "starts"


def starts_of(run: Run) -> list[Start]:
    """Every start in order; a damaged record is left out."""
    return [one for file in sorted(folder(run).glob("[0-9]*.json")) if (one := _read(Start, file))]


def end_of_start(run: Run, number: int) -> End | None:
    return _read(End, folder(run) / f"{number:03d}.end.json")


def add_start(run: Run, agent_steps: int, **known: str | float | None) -> Start:
    """Record that the run starts once more."""
    time = utc_now()
    files = [int(file.name[:3]) for file in folder(run).glob("[0-9][0-9][0-9].json")]
    start = Start(number=max(files, default=-1) + 1, time=time, agent_steps=agent_steps, **known)  # type: ignore[arg-type]
    write_atomically(folder(run) / f"{start.number:03d}.json", start.model_dump_json(indent=2).encode())
    return start


def add_end(run: Run, number: int, end: End) -> None:
    write_atomically(folder(run) / f"{number:03d}.end.json", end.model_dump_json(indent=2).encode())


def seconds_of(run: Run, number: int) -> float:
    """Seconds that a start has lasted; 0 where the watch wrote none."""
    try:
        return float((folder(run) / f"{number:03d}.seconds").read_text())
    except (OSError, ValueError):
        return 0.0


def spent(run: Run) -> tuple[float, float | None]:
    """(hours, dollars) of all starts; dollars are None where the price of one is not known."""
    hours, dollars = 0.0, 0.0
    unknown = False
    for start in starts_of(run):
        lasted = seconds_of(run, start.number) / 3600
        hours += lasted
        unknown |= start.price_per_hour is None
        dollars += lasted * (start.price_per_hour or 0.0)
    return hours, None if unknown else dollars


_ERROR = r"\s*(memexp: |preflight: (?!warning)|[\w.]*(Error|Exception)\b)"
"""How a line that names an error begins."""


def last_error(run: Run) -> str:
    """The last line of the run's log that names an error; else nothing."""
    named = [line.strip() for line in log_lines(run, 65536) if re.match(_ERROR, line)]
    return named[-1][:500] if named else ""


def _read(kind: type, file: Path):
    try:
        return kind.model_validate_json(file.read_text())
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
