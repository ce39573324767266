"""What was submitted from here: $MEMEXP_HOME/launches.jsonl, one line for each submission.

The line is written before SkyPilot is asked. It names runs that have no directory yet, and their expected hours and
dollars. Whether a run was really submitted is known only from SkyPilot's queue.
"""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from memexp.runs import home
from memexp.runs.provenance import utc_now
from memexp.runs.reading import read_bytes
from memexp.runs.scribe import private
from memexp.runs.status import known


class Submission(BaseModel):
    """One run as it was submitted."""

    run: str
    matrix: str | None = None
    env: str
    arm: str
    seed: int
    total_timesteps: int
    hours: float | None = None
    """Expected; None where not known."""
    dollars: list[float] | None = None
    """Expected: [low, high], at spot prices (where spot is allowed) and on demand."""
    prices: dict[str, dict[str, float]] = {}
    """Kind of GPU -> market -> dollars per hour of all nodes."""
    time: str = ""


def path() -> Path:
    return home() / "launches.jsonl"


def record(submissions: Iterable[Submission]) -> None:
    """Add lines for `submissions`, with the time. Only the owner may read the file."""
    time = utc_now()
    lines = "".join(one.model_copy(update={"time": time}).model_dump_json() + "\n" for one in submissions)
    path().parent.mkdir(parents=True, exist_ok=True)
    with open(path(), "a", encoding="utf-8", opener=private) as file:
        file.write(lines)


def read() -> dict[str, Submission]:
    """Run -> its newest submission; a damaged line is left out."""
    found: dict[str, Submission] = {}
    for line in (known(lambda: read_bytes(path())) or b"").decode(errors="replace").splitlines():
        try:
            one = Submission.model_validate_json(line)
        except ValidationError:
            continue
        found[one.run] = one
    return found
