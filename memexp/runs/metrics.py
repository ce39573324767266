"""Reads metrics.jsonl (one JSON object an update) as records, as columns, or while a trainer appends to it."""

import json
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from memexp.runs.reading import open_file, read_bytes

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

STEPS, WALL, RETURN, COUNT, EVAL = "agent_steps", "wall_s", "episode/return", "episode/count", "eval/return"
GAP = "consistency/max_logprob_gap"
LACKING = "lacking/"
"""lacking/NAME: how many episodes of an update do not have the statistic env/NAME, of which the others are the mean."""
MAX_BYTES = 1 << 30
"""Largest metrics.jsonl that is read whole: about a million updates."""
TAIL_BYTES = 1 << 16
"""Bytes that `last_records` reads from the end of the file."""
RECENT = 20
"""Number of last lines that describe a run as it is now."""
OVERLAP_BYTES = 256
"""Bytes before the place that was read last. If they have changed, the file was rewritten."""
LARGEST = 2**63
"""No run makes so many agent steps."""
MOST = 1e300
"""Larger numbers count as damage: their sums would be infinite."""
FAST_LINES = 50
"""From this many lines on, polars is faster than the standard library, although it starts slowly."""


def records_of(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The lines that are JSON objects, in order. A line that a crash tore is left out."""
    parsed = (record_of(line) for line in lines)
    return [record for record in parsed if record is not None]


def record_of(line: bytes) -> dict[str, Any] | None:
    """The numbers of a line; None if the line is no JSON object. What is no number, or a wrong one, is left out."""
    try:
        record = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    fields = cast(dict[str, Any], record).items()
    return {name: value for name, value in fields if _is_number(value) and (name != STEPS or 0 <= value < LARGEST)}


def read_metrics(file: Path) -> bytes:
    """The whole file; nothing if it does not exist. Raises DamagedError."""
    try:
        return read_bytes(file, MAX_BYTES)
    except FileNotFoundError:
        return b""


def each_record(file: Path) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects, one by one; nothing if the file does not exist. Raises DamagedError."""
    with suppress(FileNotFoundError), open_file(file) as lines:
        yield from (record for line in lines if (record := record_of(line)) is not None)


def last_records(file: Path) -> list[dict[str, Any]]:
    """The last lines of the file as records, oldest first; the whole file may be too long to read."""
    return records_of(tail(file, TAIL_BYTES).splitlines())


def scored_records(file: Path) -> list[dict[str, Any]]:
    """The last RECENT records in which an episode ended, oldest first, of at most the last 32 MiB."""
    scored: list[dict[str, Any]] = []
    for size in (TAIL_BYTES << shift for shift in (0, 3, 6, 9)):
        data = tail(file, size)
        scored = [record for record in records_of(data.splitlines()) if record.get(RETURN) is not None]
        if len(scored) >= RECENT or len(data) < size:
            break
    return scored[-RECENT:]


def tail(file: Path, size: int) -> bytes:
    """The last `size` bytes of a file; nothing if it does not exist. Raises DamagedError."""
    try:
        with open_file(file) as opened:
            opened.seek(max(0, file.stat().st_size - size))
            return opened.read(2 * size)
    except FileNotFoundError:
        return b""


def columns_of_text(text: bytes, names: Sequence[str], prefix: str | None = None) -> dict[str, "Array"]:
    """Columns `names`, and all whose name begins with `prefix`, of JSON lines.

    Rows are sorted by agent_steps. If several lines have the same agent_steps, the last one counts; lines without
    agent_steps are left out. A value that is not a finite number is NaN.
    """
    whole = text.rfind(b"\n") + 1
    if record_of(text[whole:]) is None:
        text = text[:whole]
    found = re.findall(rb'"(' + re.escape(prefix).encode() + rb'[^"\\]*)"\s*:', text) if prefix else []
    names = _with_prefix(names, prefix, {name.decode(errors="replace") for name in found})
    table = _fast_table(text, names)
    return _in_order(names, _table(records_of(text.splitlines()), names) if table is None else table)


def columns_of_records(
    records: Sequence[dict[str, Any]], names: Sequence[str], prefix: str | None = None
) -> dict[str, "Array"]:
    """The same columns of records."""
    names = _with_prefix(names, prefix, {name for record in records for name in record})
    return _in_order(names, _table(records, names))


def episode_means(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Mean over the episodes (not over the updates) of the return and of every env/ statistic in `records`."""
    sums: dict[str, tuple[float, float]] = {}
    for record in records:
        for name, value in record.items():
            weight = (record.get(COUNT) or 1.0) - record.get(LACKING + name.removeprefix("env/"), 0.0)
            if (name == RETURN or name.startswith("env/")) and _is_number(value) and weight > 0:
                total, episodes = sums.get(name, (0.0, 0.0))
                sums[name] = total + weight * value, episodes + weight
    return {name: total / episodes for name, (total, episodes) in sums.items()}


def recent_means(scored: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`episode_means` of a run as it is now: over those of its last RECENT records in which an episode ended, that are
    of the last tenth of its agent steps. An empty dict if there are none."""
    first = 0.9 * scored[-1].get(STEPS, 0) if scored else 0
    return episode_means(record for record in scored if record.get(STEPS, first) >= first)


def lacks_metric(metric: str, lacking: float, episodes: float) -> str:
    """Why no verdict can rest on a metric that some episodes lack."""
    said = f"metric: {lacking:,.0f} of {episodes:,.0f} episodes have no '{metric}' at their end"
    return f"{said}, and a mean over the others would mislead: let every episode tell it, or judge the return"


def rate_over(records: Sequence[dict[str, Any]]) -> float | None:
    """Agent steps per second over `records`, pauses for evaluations and checkpoints included.

    If it is not known (one line, or lines without a time): the newest `sps`, or None if there is none.
    """
    known = [(s, w) for r in records if _is_number(s := r.get(STEPS)) and _is_number(w := r.get(WALL))]
    if len(known) == len(records) >= 2 and known[-1][1] > known[0][1]:
        return float((known[-1][0] - known[0][0]) / (known[-1][1] - known[0][1]))
    return latest(records, "sps")


def latest(records: Sequence[dict[str, Any]], name: str) -> Any:
    """The newest value of a metric in `records`; None if no record has it."""
    return next((record[name] for record in reversed(records) if record.get(name) is not None), None)


class MetricsTail:
    """A metrics.jsonl that another process appends to. Each `update` reads only what is new."""

    columns = (STEPS, WALL, RETURN, COUNT, EVAL, GAP)
    """Metrics that are kept of every line. Of the others only the last lines are kept."""

    def __init__(self, file: Path):
        self.file = file
        self.changed = 0.0
        """When the file was written last, in seconds since the epoch; 0 if it does not exist."""
        self._forget()

    def _forget(self) -> None:
        self._offset, self._overlap = 0, b""
        self._blocks: list[Array] = []
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
        """The last lines, oldest first."""
        self.scored: deque[dict[str, Any]] = deque(maxlen=RECENT)
        """The last lines in which an episode ended, oldest first."""

    def update(self) -> bool:
        """Read what was appended, and return whether anything changed.

        A file that a resumed run has cut is read anew. An unfinished last line is left for the next call. Raises
        DamagedError.
        """
        try:
            with open_file(self.file, MAX_BYTES) as file:
                self.changed = self.file.stat().st_mtime
                file.seek(self._offset - len(self._overlap))
                data = file.read()
                if not data.startswith(self._overlap):
                    self._forget()
                    file.seek(0)
                    data = file.read()
        except OSError:
            self.changed = 0.0
            self._forget()
            return True
        new = data[len(self._overlap) : data.rfind(b"\n") + 1]
        if new:
            self._offset += len(new)
            self._overlap = (self._overlap + new)[-OVERLAP_BYTES:]
            self._add(new)
        return bool(new)

    def _add(self, data: bytes) -> None:
        import numpy as np

        lines = data.splitlines()
        block = _fast_table(data, self.columns) if len(lines) >= FAST_LINES else None
        if block is None or len(block) != len(lines):
            records = records_of(lines)
            block = _table(records, self.columns)
        else:  # only the last lines are needed as records
            scored = np.flatnonzero(~np.isnan(block[:, self.columns.index(RETURN)]))[-RECENT:]
            wanted = {*scored.tolist(), *range(max(0, len(lines) - RECENT), len(lines))}
            records = records_of(lines[row] for row in sorted(wanted))
        self._blocks.append(block)
        self.recent.extend(records[-RECENT:])
        self.scored.extend(record for record in records if record.get(RETURN) is not None)

    def column(self, name: str) -> "Array":
        """One of `columns` over all lines, float64 [lines]; NaN where a line lacks it."""
        import numpy as np

        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0][:, self.columns.index(name)] if self._blocks else np.zeros(0)


def _is_number(value: object) -> TypeGuard[int | float]:
    """True for a number, which may be NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > MOST


def _with_prefix(names: Sequence[str], prefix: str | None, known: set[str]) -> list[str]:
    more = sorted(name for name in known if prefix and name.startswith(prefix))
    return list(dict.fromkeys([STEPS, *names, *more]))


def _fast_table(data: bytes, names: Sequence[str]) -> "Array | None":
    """[lines, names]; None if there is a damaged line or a value that polars does not take (NaN, text)."""
    import numpy as np
    import polars as pl

    try:
        table = pl.read_ndjson(data, schema=dict.fromkeys(names, pl.Float64)).to_numpy()
    except pl.exceptions.PolarsError:
        return None
    numbers = abs(table) <= MOST
    numbers[:, 0] &= (table[:, 0] >= 0) & (table[:, 0] < LARGEST)  # agent_steps
    return np.where(numbers, table, math.nan)


def _table(records: Sequence[dict[str, Any]], names: Sequence[str]) -> "Array":
    """[records, names]; NaN for what is missing or not a number."""
    import numpy as np

    rows = [[float(v) if _is_number(v := record.get(name)) else math.nan for name in names] for record in records]
    return np.array(rows, dtype=np.float64).reshape(-1, len(names))


def _in_order(names: Sequence[str], table: "Array") -> dict[str, "Array"]:
    import numpy as np

    table = table[np.isfinite(table[:, 0])]
    table = table[np.argsort(table[:, 0], kind="stable")]
    table = table[np.diff(table[:, 0], append=math.inf) > 0]
    return {name: np.where(np.isinf(column), math.nan, column) for name, column in zip(names, table.T, strict=True)}
