"""The run directory `$MEMEXP_HOME/runs/<run>/`. One trainer writes it, everybody may read it at any time.

    run.json         RunInfo: what the run is
    config.yaml      the full resolved config
    provenance.json  commit, dirty diff, packages, command line, host, devices
    metrics.jsonl    one JSON object an update, appended (read by memexp.runs.metrics)
    episodes.parquet/  finished episodes: one Parquet file a checkpoint interval
    checkpoints/     written by memexp.ppo.checkpoint
    exit.json        Exit: how the run ended (absent while it runs)

Every file but metrics.jsonl is replaced atomically. Readers ignore a torn last line of metrics.jsonl.
"""

import json
import os
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import yaml
from pydantic import BaseModel, ConfigDict

from memexp.config import check_run_name
from memexp.credentials import mask, mask_data
from memexp.runs import scribe
from memexp.runs.metrics import columns_of_text, records_of

if TYPE_CHECKING:
    import polars as pl

    from memexp.runs.metrics import Array

RESTART = 75
"""Exit code (EX_TEMPFAIL) of a trainer that was stopped and has a checkpoint: devops/skypilot/task.yaml restarts it."""

ExitStatus = Literal["completed", "failed", "preempted", "cancelled"]

MAX_GAP = {"float32": 1e-3, "bf16": 5e-2}
"""Precision -> largest |difference of log-probability| between acting and learning that a consistent run may have."""


class RunInfo(BaseModel):
    """run.json: what the run is. None where not known."""

    model_config = ConfigDict(extra="ignore")

    run: str
    matrix: str | None = None
    env: str
    arm: str
    pattern: str | list[str]
    mem_len: int
    memory: Literal["on", "off"]
    seed: int
    recipe: str | None = None
    total_timesteps: int
    hardware: str | None = None
    price_per_hour: float | None = None
    """Dollars per hour of the machine."""
    random_return: float | None = None
    """Mean episode return of the uniformly random policy, measured."""
    random_funnel: dict[str, float] | None = None
    """Milestone on the way to reward -> share of the random policy's agents and episodes that reached it."""
    ceiling_return: float | None = None
    """Mean episode return of a good scripted policy with memory."""
    memoryless_return: float | None = None
    """The same of a scripted policy that sees only the current observation."""
    oracle_return: float | None = None
    """The same of a scripted policy that sees the whole state."""
    memory_span: int | None = None
    """Agent steps that a policy must remember to solve the task; 0 if the current observation is enough."""
    num_actions: int | None = None


class Exit(BaseModel):
    """exit.json: how the run ended."""

    status: ExitStatus
    reason: str = ""
    agent_steps: int = 0
    wall_s: float = 0.0


def home() -> Path:
    """The directory that holds all runs of this user: $MEMEXP_HOME, by default ./memexp_home."""
    return Path(os.environ.get("MEMEXP_HOME") or "memexp_home")


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

    # What the run is.

    def write_info(self, info: RunInfo) -> None:
        self._write("run.json", json.dumps(info.model_dump(), indent=2))

    @property
    def info(self) -> RunInfo:
        return RunInfo.model_validate_json((self.path / "run.json").read_text())

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml, its credentials masked."""
        self._write("config.yaml", yaml.safe_dump(mask_data(config), sort_keys=False), scribe.private)

    @property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.path / "config.yaml").read_text())

    def write_provenance(self, provenance: dict[str, Any]) -> None:
        """Record the first start; later starts (resumes) are appended under `resumes`."""
        file = self.path / "provenance.json"
        if file.exists():
            first = json.loads(file.read_text())
            provenance = {**first, "resumes": [*first.get("resumes", []), provenance]}
        self._write("provenance.json", json.dumps(provenance, indent=2), scribe.private)

    @property
    def provenance(self) -> dict[str, Any]:
        return json.loads((self.path / "provenance.json").read_text())

    # What it measured.

    def append_metrics(self, metrics: dict[str, float | int | None]) -> None:
        """Add one line to metrics.jsonl."""
        self.files.append(self.path / "metrics.jsonl", json.dumps(metrics).encode() + b"\n")

    def sync_metrics(self) -> None:
        """Force the lines written so far to the disk before anything that is written next."""
        self.files.sync(self.path / "metrics.jsonl")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl in order; a line that a crash tore is left out."""
        return records_of(self._metrics_text().splitlines())

    def columns(self, names: Sequence[str], prefix: str | None = None) -> dict[str, "Array"]:
        """Columns `names` of the metrics, and all whose name begins with `prefix`: see metrics.columns_of_text."""
        return columns_of_text(self._metrics_text(), names, prefix)

    def _metrics_text(self) -> bytes:
        file = self.path / "metrics.jsonl"
        return file.read_bytes() if file.exists() else b""

    def append_episodes(self, part: int, columns: dict[str, Any]) -> None:
        """Write finished episodes (columns of equal length) as part number `part` of episodes.parquet."""
        import polars as pl

        data = BytesIO()
        pl.DataFrame(columns).write_parquet(data)
        self.files.replace(self.path / "episodes.parquet" / f"{part:08d}.parquet", data.getvalue())

    def episodes(self) -> "pl.DataFrame":
        """All finished episodes; empty if none was written."""
        import polars as pl

        parts = sorted((self.path / "episodes.parquet").glob("*.parquet"))
        return pl.concat([pl.read_parquet(part) for part in parts], how="diagonal_relaxed") if parts else pl.DataFrame()

    def rewind(self, agent_steps: int, part: int) -> None:
        """Remove metrics after `agent_steps` and episode parts from `part` on: a resumed run measures them again."""
        file = self.path / "metrics.jsonl"
        if file.exists():
            kept = [line for line in self.metrics() if line.get("agent_steps", 0) <= agent_steps]
            self._write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        for parquet in (self.path / "episodes.parquet").glob("*.parquet"):
            if int(parquet.stem) >= part:
                parquet.unlink()
        (self.path / "exit.json").unlink(missing_ok=True)

    # How it ended.

    def finish(self, outcome: Exit) -> None:
        """Write exit.json. The reason may be the text of an error of somebody's environment."""
        outcome = outcome.model_copy(update={"reason": mask(outcome.reason)})
        self.files.replace(self.path / "exit.json", outcome.model_dump_json(indent=2).encode())

    @property
    def exit(self) -> Exit | None:
        """How the run ended; None while it runs (or when it was killed)."""
        file = self.path / "exit.json"
        return Exit.model_validate_json(file.read_text()) if file.exists() else None

    def _write(self, name: str, text: str, opener: Callable[[str, int], int] | None = None) -> None:
        scribe.replace(self.path / name, text.encode(), opener)


write_atomically = scribe.replace


def find_runs(where: Path | str | None = None) -> list[Run]:
    """Every run in `where` (a runs directory or a home; by default $MEMEXP_HOME), sorted by name."""
    root = Path(where) if where is not None else runs_dir()
    if (root / "runs").is_dir():
        root = root / "runs"
    return [Run(file.parent) for file in sorted(root.glob("*/run.json"))]
