"""Runs of other programs, from CSV files, TensorBoard event files or a W&B project, as if they were run directories.

A mapping says which column (or tag) is the return, the step, the arm and so on. What such logs do not hold, such as the
gap between acting and learning, is unknown.
"""

import glob
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import Field, model_validator

from memexp.config import Config, UsageError, check_levels, did_you_mean, parse_model, parse_value
from memexp.runs.directory import Exit, ExitStatus, RunInfo
from memexp.runs.identity import flat
from memexp.runs.metrics import COUNT, RETURN, STEPS, WALL, columns_of_records
from memexp.runs.reading import DamagedError, read_bytes

MAX_BYTES = 1 << 30
"""Largest CSV file that is read."""
MOST_STEPS = 2**53
"""Beyond it a float does not count."""
NAMES = ("env", "arm", "seed", "run")
"""What a path may name."""
UNKNOWN = "these are logs of another program: whether acting and learning agree is unknown"


class Mapping(Config):
    """Which column or tag of a log is what. A value that begins with '=' is a constant: `env: =tmaze`."""

    name: str | None = None
    """Name of the report; by default that of the source."""
    path: str | None = None
    """Pattern of the path below the source, or of a W&B run's name: '{arm}/{env}_s{seed}'."""
    returns: str
    """Mean return of the episodes that ended since the last row, or of one episode. Users write `return`."""
    step: str | None = None
    """Agent steps so far. Event files and W&B have steps of their own."""
    episodes: str | None = None
    """Number of episodes that the return is the mean of; by default 1 a row."""
    wall_s: str | None = None
    """Seconds since the start."""
    env: str | None = None
    arm: str | None = None
    seed: str | None = None
    """Without it the runs of an arm are numbered in the order of their names."""
    run: str | None = None
    """Tells runs in one file apart that have the same environment, arm and seed."""
    twin: dict[str, str] = Field(default_factory=dict)
    """Arm with memory -> the arm that is the same without memory."""
    total_timesteps: float | None = Field(default=None, gt=0)
    """Agent steps that each run was planned for; by default those that it made."""
    random_return: float | None = None
    ceiling_return: float | None = None
    solved_return: float | None = None
    memory_span: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _levels_agree(self) -> "Mapping":
        check_levels(self.ceiling_return, self.solved_return, self.random_return)
        return self


def mapping_of(given: Any, pairs: dict[str, str], where: str) -> Mapping:
    """The mapping of a YAML document and of NAME=COLUMN pairs, which come first. Raises UsageError."""
    if not isinstance(given, dict):
        raise UsageError(f"{where}: it holds no lines 'NAME: COLUMN'")
    fields = Mapping.model_fields
    known = {**cast("dict[str, Any]", given), **pairs}
    if "return" in known:
        known["returns"] = known.pop("return")
    if "returns" not in known and known.keys() <= fields.keys():
        raise UsageError(f"{where}: say which column has the return (return: COLUMN)")
    for name in pairs:
        name = "returns" if name == "return" else name
        if name in fields and cast(Any, fields[name].annotation) not in (str, str | None):
            known[name] = parse_value(known[name], fields[name].annotation, name)
        elif known.get(name) == "null":
            known[name] = None
    return Mapping.parse(known, where)


@dataclass
class Log:
    """One file or W&B run: rows of values by column, and facts that hold for all rows."""

    path: str
    names: Sequence[str]
    """All columns, also those that are not in `rows`."""
    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    status: ExitStatus | None = "completed"


@dataclass
class ForeignRun:
    """A run of another program, with those members of `Run` that the analysis reads."""

    name: str
    info: RunInfo
    rows: list[dict[str, Any]]
    status: ExitStatus | None
    provenance: dict[str, Any]
    horizon = None

    @property
    def config(self) -> dict[str, Any]:
        return {}

    @property
    def exit(self) -> Exit | None:
        return Exit(status=self.status, agent_steps=int(self.rows[-1][STEPS])) if self.status else None

    def columns(self, names: Sequence[str], prefix: str | None = None) -> dict[str, "np.ndarray[Any, Any]"]:
        """See Run.columns."""
        return columns_of_records(self.rows, names, prefix)


def foreign_runs(
    source: str, mapping: Mapping, track: Callable[[Any], Any] = iter
) -> tuple[str, list[ForeignRun], list[str]]:
    """(name, runs, notes) of a CSV file, a folder, a glob pattern, or wandb:ENTITY/PROJECT.

    A log that cannot be read becomes a note. Raises UsageError if none can, which names the first wrong column.
    """
    notes, errors = [UNKNOWN], list[str]()
    if mapping.random_return is None:
        notes.append("what the random policy gets is unknown, so returns have no scale: give random_return")
    notes += [
        f"{arm}~ is {twin} in the logs; other differences from {arm} than memory are in the effect, too"
        for arm, twin in mapping.twin.items()
    ]
    groups: dict[tuple[str, str, str, str], list[tuple[Log, list[dict[str, Any]]]]] = defaultdict(list)
    for read in track(_logs(source)):
        try:
            log = read()
            for key, rows in _split(log, mapping).items():
                groups[key].append((log, rows))
        except (UsageError, DamagedError) as error:
            errors.append(str(error))
    if not groups:
        raise UsageError(errors[0] if errors else f"{source} has no CSV file and no event file")
    for (_, arm, seed, _), logs in groups.items():
        steps = [row[STEPS] for _, rows in logs for row in rows if RETURN in row]
        if doubled := len(steps) - len(set(steps)):
            said = f"{arm}, seed {seed}: {doubled} rows repeat a step, and the last one counts"
            notes.append(f"{said}; if they are of two runs, say which column tells them apart (run: COLUMN)")
    stem = Path(source.removeprefix("wandb:").split("*")[0]).resolve().stem
    return mapping.name or stem, list(_runs(groups, mapping, stem)), notes + errors


# Sources.


def _logs(source: str) -> list[Callable[[], Log]]:
    """A function for each log, which reads it. It raises UsageError or DamagedError."""
    if source.startswith("wandb:"):
        return _wandb_logs(source.removeprefix("wandb:"))
    if any(sign in source for sign in "*?["):
        base = Path(re.split(r"[*?\[]", source)[0] + "x").parent
        files = [Path(name) for name in sorted(glob.glob(source, recursive=True))]
    else:
        base = Path(source)
        if not base.exists():
            raise UsageError(f"{source} does not exist{did_you_mean(base.name, _beside(base))}")
        files = sorted(base.rglob("*")) if base.is_dir() else [base]
        base = base if base.is_dir() else base.parent
    tables = [file for file in files if file.suffix == ".csv" and not file.is_dir()]
    events = sorted({file.parent for file in files if file.name.startswith("events.out.tfevents")})
    if tables or not events:  # a program that writes both says the same in both
        others = [file for file in files if not file.is_dir()] if not base.is_dir() or len(files) == 1 else []
        return [lambda file=file: _csv_log(file, _below(file, base)) for file in tables or others]
    return [lambda folder=folder: _event_log(folder, _below(folder, base)) for folder in events]


def _beside(path: Path) -> list[str]:
    return [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []


def _below(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()


def _csv_log(file: Path, name: str) -> Log:
    import polars as pl

    data = read_bytes(file, MAX_BYTES)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: byte {error.start} is no UTF-8; save the file as UTF-8") from None
    try:
        table = pl.read_csv(BytesIO(data), infer_schema=False, comment_prefix="#", truncate_ragged_lines=True)
    except pl.exceptions.NoDataError:
        raise UsageError(f"{name}: the file is empty") from None
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{name}: not a CSV file ({' '.join(str(error).split())[:100]})") from None
    return Log(name, table.columns, table.to_dicts(), {})


def _event_log(folder: Path, name: str) -> Log:
    try:
        reader: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
        make_ndarray: Any = import_module("tensorboard.util.tensor_util").make_ndarray
    except ModuleNotFoundError:
        raise UsageError("event files need TensorBoard: pip install 'memexp[tensorboard]'") from None
    events: Any = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    tags: dict[str, list[str]] = events.Tags()
    rows: dict[int, dict[str, Any]] = defaultdict(dict)
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            rows[event.step] |= {tag: event.value, "wall_time": event.wall_time}
    for tag in tags["tensors"]:
        for event in events.Tensors(tag):
            value: Any = make_ndarray(event.tensor_proto)
            if value.size == 1 and value.dtype.kind in "fiu":
                rows[event.step] |= {tag: float(value.reshape(())), "wall_time": event.wall_time}
    began = min((row["wall_time"] for row in rows.values()), default=0.0)
    timed = [{**row, STEPS: step, WALL: row["wall_time"] - began} for step, row in sorted(rows.items())]
    return Log(name, [*tags["scalars"], *tags["tensors"]], timed, {})


def _wandb_logs(target: str) -> list[Callable[[], Log]]:
    from memexp.runs.wandb_source import STATUSES, history_of, runs_of_project

    def read(run: Any) -> Log:
        rows = [{STEPS: row.get("_step"), WALL: row.get("_runtime"), **row} for row in history_of(run)]
        facts = {"name": run.name, "group": getattr(run, "group", None), **flat(dict(run.config))}
        names = list(dict.fromkeys(name for row in rows for name in row))
        return Log(str(run.name), names, rows, facts, STATUSES.get(run.state))

    return [lambda run=run: read(run) for run in runs_of_project(target)]


# Runs.


def _split(log: Log, mapping: Mapping) -> dict[tuple[str, str, str, str], list[dict[str, Any]]]:
    """(env, arm, seed, run) -> the rows of that run, under the names of metrics.jsonl. Raises UsageError."""
    in_path = _names_of(log.path, mapping.path) if mapping.path else {}
    texts = {name: getattr(mapping, name) for name in NAMES}
    numbers = {RETURN: mapping.returns, STEPS: mapping.step, COUNT: mapping.episodes, WALL: mapping.wall_s}
    known = [*log.names, *log.facts]
    for column in (*numbers.values(), *texts.values()):
        if column and not column.startswith("=") and column not in known:
            raise UsageError(f"{log.path}: no column or tag is called '{column}'{did_you_mean(column, known)}")
    if not (mapping.step or any(STEPS in row for row in log.rows)):
        raise UsageError(f"{log.path}: say which column has the agent steps (step: COLUMN); known: {', '.join(known)}")
    if not (mapping.arm or "arm" in in_path):
        raise UsageError("say where the arm stands: arm: COLUMN, arm: =NAME, or {arm} in path")
    found: dict[tuple[str, str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in log.rows:
        values = {**log.facts, **row}

        def text(name: str, values: dict[str, Any] = values) -> str:
            column = texts[name]
            value = in_path.get(name, "") if column is None else _value(values, column)
            return "" if value is None else str(value)

        read = {name: _number(_value(values, column) if column else row.get(name)) for name, column in numbers.items()}
        if (step := read[STEPS]) is not None and step >= MOST_STEPS:
            raise UsageError(f"{log.path}: {step:g} agent steps are no number of steps")
        if step is not None and step >= 0:
            key = text("env"), text("arm"), text("seed"), text("run") or ("" if mapping.seed else log.path)
            found[key].append({name: value for name, value in read.items() if value is not None})
    kept = {key: rows for key, rows in found.items() if any(RETURN in row for row in rows)}
    if not kept:
        raise UsageError(f"{log.path}: no row has a number in both '{mapping.returns}' and its step")
    return kept


def _value(values: dict[str, Any], column: str) -> Any:
    return column[1:] if column.startswith("=") else values.get(column)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _names_of(path: str, pattern: str) -> dict[str, str]:
    """What `pattern` finds in a path: '{arm}/{env}_s{seed}' in 'lstm/maze_s3/progress.csv'. Raises UsageError."""
    expression = ""
    for literal, name in re.findall(r"([^{]*)(?:\{([^}]*)\})?", pattern):
        expression += re.escape(literal).replace(r"\*", "[^/]*")
        if name and f"<{name}>" in expression:
            raise UsageError(f"path: '{{{name}}}' stands twice")
        if name and name not in NAMES:
            raise UsageError(f"path: unknown name '{{{name}}}'{did_you_mean(name, NAMES)}")
        expression += f"(?P<{name}>{'[0-9]+' if name == 'seed' else '[^/]+?'})" if name else ""
    match = re.match(expression + r"(?:[/.].*)?$", path)
    if not match:
        raise UsageError(f"{path}: the path does not look like '{pattern}'")
    return match.groupdict()


def _runs(groups: dict[tuple[str, str, str, str], Any], mapping: Mapping, stem: str) -> Iterator[ForeignRun]:
    """The runs. The arm of a twin gets the name of its architecture with '~'; it may be the twin of several."""
    arms = {arm for _, arm, _, _ in groups}
    for arm in (*mapping.twin, *mapping.twin.values()):
        if mapping.twin.get(arm) in mapping.twin:
            raise UsageError(f"twin: '{mapping.twin[arm]}' is the twin of '{arm}' and has one itself")
        if arm not in arms:
            raise UsageError(f"twin: no arm is called '{arm}'{did_you_mean(arm, arms)}")
    for env, arm, seed, run in sorted(groups):
        logs = groups[env, arm, seed, run]
        rows = sorted((row for _, part in logs for row in part), key=lambda row: row[STEPS])
        if mapping.seed and not seed:
            raise UsageError(f"{logs[0][0].path}: rows of arm '{arm}' have no '{mapping.seed}' (the seed)")
        known = _number(seed)
        others = sorted(key for key in groups if key[:2] == (env, arm))
        number = int(known) if known is not None and known >= 0 else others.index((env, arm, seed, run))
        name = ".".join(part for part in (env or stem, arm, f"s{number}", run) if part)
        shown = [f"{one}~" for one, twin in mapping.twin.items() if twin == arm] or [arm]
        for label in shown:
            info = {
                "run": name,
                "env": env or stem,
                "arm": label,
                "memory": "off" if label.endswith("~") else "on",
                "seed": number,
                "total_timesteps": int(mapping.total_timesteps or max(rows[-1][STEPS], 1)),
                **mapping.model_dump(include={"random_return", "ceiling_return", "solved_return", "memory_span"}),
            }
            yield ForeignRun(name, parse_model(RunInfo, info, logs[0][0].path), rows, logs[0][0].status, {})
