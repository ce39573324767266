"""A run's metrics, read as they grow: each look reads only what was appended since the last one."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from memexp.launch.status.state import records

STEPS, WALL, RETURN, COUNT, EVAL = "agent_steps", "wall_s", "episode/return", "episode/count", "eval/return"
GAP = "consistency/max_logprob_gap"
COLUMNS = (STEPS, WALL, RETURN, COUNT, EVAL, GAP)
"""What is kept of every line; of the other metrics only the last lines' are."""
RECENT = 20
"""Lines that stand for 'now'."""
MARK = 256
"""Bytes before the place read last that must still be the same."""
MANY = 50
"""From so many lines on a parser that starts slowly and reads fast pays."""


class Metrics:
    """metrics.jsonl of one run. `look` brings it up to date."""

    def __init__(self, file: Path):
        self.file = file
        self.changed = 0.0
        """When the file was written last, seconds since the epoch; 0 where there is none."""
        self._forget()

    def _forget(self) -> None:
        self._offset, self._mark = 0, b""
        self._blocks: list[np.ndarray] = []
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
        """The last lines, oldest first."""
        self.scored: deque[dict[str, Any]] = deque(maxlen=RECENT)
        """The last lines in which an episode ended, oldest first."""

    def look(self) -> bool:
        """Read what was appended: a rewound file anew, a torn last line not yet. Returns whether anything changed."""
        try:
            with open(self.file, "rb") as file:
                self.changed = self.file.stat().st_mtime
                file.seek(self._offset - len(self._mark))
                data = file.read()
                if not data.startswith(self._mark):
                    self._forget()
                    file.seek(0)
                    data = file.read()
        except OSError:
            self.changed = 0.0
            self._forget()
            return True
        new = data[len(self._mark) : data.rfind(b"\n") + 1]
        if new:
            self._offset += len(new)
            self._mark = (self._mark + new)[-MARK:]
            self._add(new)
        return bool(new)

    def _add(self, data: bytes) -> None:
        lines = data.splitlines()
        block = _columns_fast(data) if len(lines) >= MANY else None
        if block is None or len(block) != len(lines):
            found = records(lines)
            block = _columns(found)
        else:  # what is not kept of every line is taken from the last ones alone
            scored = np.flatnonzero(~np.isnan(block[:, COLUMNS.index(RETURN)]))[-RECENT:]
            wanted = sorted({*scored.tolist(), *range(max(0, len(lines) - RECENT), len(lines))})
            found = records(lines[number] for number in wanted)
        self._blocks.append(block)
        self.recent.extend(found[-RECENT:])
        self.scored.extend(record for record in found if record.get(RETURN) is not None)

    def column(self, name: str) -> np.ndarray:
        """One of COLUMNS over all lines, float64 [lines]; NaN where a line lacks it."""
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0][:, COLUMNS.index(name)] if self._blocks else np.zeros(0)

    def latest(self, name: str) -> Any:
        """The newest value of any metric within the last lines; None where they do not have it."""
        return next((line[name] for line in reversed(self.recent) if line.get(name) is not None), None)


def _columns_fast(data: bytes) -> np.ndarray | None:
    """[lines, len(COLUMNS)]; None where a line is damaged or is more than JSON (NaN)."""
    import polars as pl

    try:
        return pl.read_ndjson(data, schema=dict.fromkeys(COLUMNS, pl.Float64)).to_numpy()
    except pl.exceptions.PolarsError:
        return None


def _columns(found: Iterable[dict[str, Any]]) -> np.ndarray:
    rows = [[_number(record.get(name)) for name in COLUMNS] for record in found]
    return np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
