"""The run directory `$MEMEXP_HOME/runs/<run>/`. One trainer writes it, everybody may read it at any time.

    run.json         RunInfo: what the run is
    config.yaml      the full resolved config
    provenance.json  commit, dirty diff, packages, command line, host, devices
    metrics.jsonl    one JSON object an update, appended (read by memexp.runs.metrics)
    episodes.parquet/  finished episodes: one Parquet file a checkpoint interval
    checkpoints/     written by memexp.ppo.checkpoint
    exit.json        Exit: how the run ended (absent while it runs)
    horizon.json     Horizon: how far back its last policy looks (absent where it was not measured)

Every file but metrics.jsonl is replaced atomically. Readers ignore a torn last line of metrics.jsonl. A file that
cannot be read raises DamagedError; a resumed run keeps it as FILE.damaged and writes another.
"""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, Protocol, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from memexp.config import check_run_name, path_in
from memexp.credentials import mask, mask_data
from memexp.formatting import printable, shortened
from memexp.runs import scribe
from memexp.runs.metrics import STEPS, columns_of_text, read_metrics, record_of, records_of
from memexp.runs.reading import DamagedError, Model, read_bytes, read_json, read_model, read_yaml

if TYPE_CHECKING:
    import polars as pl

    from memexp.runs.metrics import Array

RESTART = 75
"""Exit code (EX_TEMPFAIL) of a trainer that was stopped and has a checkpoint: the task restarts it."""

ExitStatus = Literal["completed", "failed", "preempted", "cancelled"]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Return = Annotated[float, Field(gt=-1e100, lt=1e100)]
PART = "[0-9]" * 8 + ".parquet"
"""Names of the parts of episodes.parquet. Other files there are somebody else's."""

MAX_REASON = 100_000
"""Characters of the reason for which a run ended that are looked at."""
MAX_GAP = {"float32": 1e-3, "bf16": 5e-2}
"""Precision -> largest |difference of log-probability| between acting and learning that a consistent run may have."""


class _Record(BaseModel):
    """What a file of the run says. The control characters in its texts are made visible."""

    model_config = ConfigDict(extra="ignore")

    @field_validator("*")
    @classmethod
    def _show_control_characters(cls, value: Any) -> Any:
        if isinstance(value, dict):
            table = cast("dict[str, Any]", value).items()
            return {printable(key): printable(one) if isinstance(one, str) else one for key, one in table}
        return printable(value) if isinstance(value, str) else value


class Trial(_Record):
    """What a run tries that is no part of the comparison of arms."""

    arm: str
    """The arm whose setting it tries."""
    kind: Literal["tune", "sensitivity"]
    """To find the arm's best setting, or to see how much the effect of memory depends on it."""
    values: dict[str, Any]
    """Dotted key -> value."""


class RunInfo(_Record):
    """run.json: what the run is. None where not known."""

    run: str
    matrix: str | None = None
    env: str
    arm: str
    pattern: str | list[str] = []
    mem_len: Count | None = None
    memory: Literal["on", "off"]
    twin_of: str | None = None
    """The arm of which this one is a twin of the user's own."""
    seed: Count
    recipe: str | None = None
    total_timesteps: Annotated[Count, Field(ge=1)]
    hardware: str | None = None
    price_per_hour: Annotated[float, Field(ge=0, lt=1e9)] | None = None
    """Dollars per hour of the machine."""
    random_return: Return | None = None
    """Mean episode return of the uniformly random policy, measured."""
    metric: str = "return"
    """What is judged: the return, or a statistic env/<metric> of an episode."""
    random_metric: Return | None = None
    """Mean of this statistic over the random policy's episodes; None if the return is judged."""
    random_funnel: dict[str, float] | None = None
    """Milestone on the way to reward -> share of the random policy's agents and episodes that reached it."""
    ceiling_return: Return | None = None
    """The highest mean episode return that can be reached: stated, or that of a scripted policy with memory."""
    solved_return: Return | None = None
    """Mean episode return that counts as solved."""
    solved_by: str | None = None
    """Who says so, if it is not the user: Gymnasium's registry."""
    partner: str | None = None
    """Environment of the same matrix that shows everything: its best arm can be the top of the scale."""
    memoryless_return: Return | None = None
    """The same of a scripted policy that sees only the current observation."""
    oracle_return: Return | None = None
    """The same of a scripted policy that sees the whole state."""
    environment: dict[str, str] | None = None
    """Packages and modules that the environment comes from -> version, or hash of the source."""
    cells: dict[str, str] | None = None
    """The same of the cells, if they are not all memexp's own."""
    memory_span: Count | None = None
    """Agent steps that a policy must remember to solve the task; 0 if the current observation is enough."""
    num_actions: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    observation: list[str] | None = None
    """How the policy reads each part of the observation, and why: one line for each."""
    tuning: Trial | None = None
    """Of a run that tries a setting. Such a run is never judged."""

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """A field that is null counts as absent; the name of an arm tells a memory-ablated twin, too."""
        known = {name: value for name, value in fields.items() if value is not None}
        return {"memory": "off" if str(known.get("arm")).endswith("~") else "on", **known}

    def restated(self, stated: Mapping[str, Any]) -> "RunInfo":
        """This, with what the user says of the task. A registry's threshold makes way for any level of the user's."""
        levels = {"ceiling_return", "solved_return"} & stated.keys()
        gone = {"solved_return": None, "solved_by": None} if self.solved_by and levels else {}
        return self.model_copy(update={**gone, **stated})


class Exit(_Record):
    """exit.json: how the run ended."""

    status: ExitStatus
    reason: str = ""
    agent_steps: Count = 0
    wall_s: float = 0.0

    @field_validator("reason")
    @classmethod
    def _mask_and_shorten(cls, reason: str) -> str:
        """The reason may be the text of an error of somebody's environment: with secrets, or with megabytes."""
        return shortened(mask(reason[:MAX_REASON]), most_lines=100)


class Horizon(BaseModel):
    """horizon.json: mean returns of the last policy, its memory cut to the last k steps before the present one."""

    agent_steps: Count
    """Of the checkpoint."""
    episodes: Annotated[int, Field(ge=1)]
    """Episodes for each k, on held-out tasks."""
    longest: Count
    """Steps of the longest of them with the whole memory."""
    whole: Return
    """Mean return with the whole memory."""
    returns: dict[Count, Return]
    """k -> mean return; with k = 0 every step sees its own observation alone."""
    stderrs: dict[Count, float]
    """k -> standard error of that mean over episodes."""


def home() -> Path:
    """The directory that holds all runs of this user: $MEMEXP_HOME, by default ./memexp_home. Raises UsageError.

    The first call makes $MEMEXP_HOME absolute, as an environment may change the working directory.
    """
    path = path_in("MEMEXP_HOME", "memexp_home").absolute()
    os.environ["MEMEXP_HOME"] = str(path)
    return path


def check_home() -> None:
    """Raise OSError with the file's name if a file stands where the home directory is to be."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(home()).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(home()))


def runs_dir() -> Path:
    return home() / "runs"


class Files(Protocol):
    """What writes a run's files: `scribe` at once, or a `Writer` through another process."""

    def append(self, path: Path, data: bytes) -> None: ...
    def replace(self, path: Path, data: bytes) -> None: ...
    def sync(self, path: Path) -> None: ...


class Run:
    """One run directory. A run of a name that exists is opened, never overwritten.

    Metrics, episodes and exit.json are written through `files`, everything else at once.
    """

    def __init__(self, path: Path | str, files: Files = scribe):
        self.path, self.files = Path(path), files

    @classmethod
    def named(cls, name: str) -> "Run":
        return cls(runs_dir() / check_run_name(name))

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def lock(self) -> Path:
        """The process that works on the run holds a flock on this file."""
        return self.path / "lock"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def exists(self) -> bool:
        return (self.path / "run.json").exists()

    def open_log(self) -> BinaryIO:
        """log.txt, open for appending. What stands there and is no file (a pipe would block) is set aside."""
        file = self.path / "log.txt"
        if file.exists() and not file.is_file():
            file.rename(_free_name(file))
        return open(file, "ab", opener=scribe.private)

    # What the run is.

    def write_info(self, info: RunInfo) -> None:
        self._write("run.json", json.dumps(info.model_dump(), indent=2))

    @property
    def info(self) -> RunInfo:
        return read_model(RunInfo, self.path / "run.json")

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml, its credentials masked."""
        self._write("config.yaml", yaml.safe_dump(mask_data(config), sort_keys=False), scribe.private)

    @property
    def config(self) -> dict[str, Any]:
        return read_yaml(self.path / "config.yaml")

    def setting(self, group: str, name: str) -> Any:
        """One setting of config.yaml; None if it is not there."""
        settings = self.config.get(group)
        return cast(dict[str, Any], settings).get(name) if isinstance(settings, dict) else None

    def write_provenance(self, provenance: dict[str, Any]) -> None:
        """Record the first start; later starts (resumes) are appended under `resumes`."""
        if (self.path / "provenance.json").exists():
            first = self.provenance
            provenance = {**first, "resumes": [*first.get("resumes", []), provenance]}
        self._write("provenance.json", json.dumps(provenance, indent=2), scribe.private)

    @property
    def provenance(self) -> dict[str, Any]:
        record = read_json(self.path / "provenance.json")
        if not isinstance(record.get("resumes", []), list):
            raise DamagedError(self.path / "provenance.json", "resumes: it should be a list")
        return record

    # What it measured.

    def append_metrics(self, metrics: dict[str, float | int | None]) -> None:
        """Add one line to metrics.jsonl."""
        self.files.append(self.path / "metrics.jsonl", json.dumps(metrics).encode() + b"\n")

    def sync_metrics(self) -> None:
        """Force the lines written so far to the disk before anything that is written next."""
        self.files.sync(self.path / "metrics.jsonl")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in order; a line that a crash tore is left out."""
        return records_of(read_metrics(self.path / "metrics.jsonl").splitlines())

    def columns(self, names: Sequence[str], prefix: str | None = None) -> dict[str, "Array"]:
        """Columns `names` of the metrics, and all whose name begins with `prefix`: see metrics.columns_of_text."""
        return columns_of_text(read_metrics(self.path / "metrics.jsonl"), names, prefix)

    def append_episodes(self, part: int, columns: dict[str, Any]) -> None:
        """Write finished episodes (columns of equal length) as part number `part` of episodes.parquet."""
        import polars as pl

        data = BytesIO()
        pl.DataFrame(columns).write_parquet(data)
        self.files.replace(self.path / "episodes.parquet" / f"{part:08d}.parquet", data.getvalue())

    def episodes(self) -> "pl.DataFrame":
        """All finished episodes; empty if none was written."""
        import polars as pl

        parts = [BytesIO(read_bytes(part)) for part in sorted((self.path / "episodes.parquet").glob(PART))]
        return pl.concat([pl.read_parquet(part) for part in parts], how="diagonal_relaxed") if parts else pl.DataFrame()

    def rewind(self, agent_steps: int, part: int) -> int:
        """Remove metrics after `agent_steps` and episode parts from `part` on: a resumed run measures them again.

        Returns how many lines of metrics are left. Raises DamagedError if metrics.jsonl cannot be read.
        """
        file = self.path / "metrics.jsonl"
        lines = read_metrics(file).splitlines(keepends=True)
        known = [(line, record) for line in lines if line.endswith(b"\n") and (record := record_of(line)) is not None]
        kept = [line for line, record in known if record.get(STEPS, 0) <= agent_steps]
        if sum(line.endswith(b"\n") for line in lines) > len(known):  # more than the end of the last line is damaged
            shutil.copyfile(file, _free_name(file))
        if lines:
            scribe.replace(file, b"".join(kept))
        for parquet in (self.path / "episodes.parquet").glob(PART):
            if int(parquet.stem) >= part:
                parquet.unlink()
        (self.path / "exit.json").unlink(missing_ok=True)
        return len(kept)

    def set_aside_damaged(self) -> list[str]:
        """Rename each file that cannot be read to FILE.damaged, so that it can be written anew; says which and why."""
        reads: tuple[Callable[[], Any], ...] = (
            lambda: self.info,
            lambda: self.config,
            lambda: self.provenance,
            lambda: self.exit,
            lambda: read_metrics(self.path / "metrics.jsonl"),
        )
        said: list[str] = []
        for read in reads:
            try:
                read()
            except FileNotFoundError:
                continue
            except DamagedError as error:
                said.append(f"{error}; it is kept as {error.path.rename(_free_name(error.path)).name}")
        return said

    # How it ended.

    def finish(self, outcome: Exit) -> None:
        """Write exit.json."""
        self.files.replace(self.path / "exit.json", outcome.model_dump_json(indent=2).encode())

    @property
    def exit(self) -> Exit | None:
        """How the run ended; None while it runs (or when it was killed)."""
        return self._read(Exit, "exit.json")

    def write_horizon(self, horizon: Horizon) -> None:
        self._write("horizon.json", horizon.model_dump_json(indent=2))

    @property
    def horizon(self) -> Horizon | None:
        """How far back the last policy looks; None where that was not measured."""
        return self._read(Horizon, "horizon.json")

    def _read(self, kind: type[Model], name: str) -> Model | None:
        try:
            return read_model(kind, self.path / name)
        except FileNotFoundError:
            return None

    def _write(self, name: str, text: str, opener: Callable[[str, int], int] | None = None) -> None:
        scribe.replace(self.path / name, text.encode(), opener)


def _free_name(file: Path) -> Path:
    """`file` with '.damaged' behind its name, and a number if that exists."""
    names = (file.with_name(f"{file.name}.damaged{number or ''}") for number in count())
    return next(name for name in names if not name.exists())


def write_atomically(path: Path, data: bytes, opener: Callable[[str, int], int] | None = None) -> None:
    """Replace a file that the user names. A device or a pipe (`--out /dev/stdout`) is written to."""
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
    else:
        scribe.replace(path, data, opener)


def find_runs(where: Path | str | None = None) -> list[Run]:
    """Every run in `where` (a runs directory or a home; by default $MEMEXP_HOME), sorted by name."""
    root = Path(where) if where is not None else runs_dir()
    if (root / "runs").is_dir():
        root = root / "runs"
    return [Run(file.parent) for file in sorted(root.glob("*/run.json"))]
