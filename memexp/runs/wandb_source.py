"""Runs of a Weights & Biases project, read as run directories are: the same columns through W&B's public API."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memexp.config import UsageError
from memexp.runs.columns import columns_of_records
from memexp.runs.directory import Exit, RunInfo
from memexp.runs.wandb_sink import INFO

ROWS = 1000
"""Rows of history asked for at once, about."""
MAX_PAGE = 2**31 - 1
"""Largest page of steps: a 32-bit whole number in W&B's API."""
STATUSES = {"finished": "completed", "failed": "failed", "crashed": "failed", "killed": "cancelled"}
"""State of a run in W&B -> how it ended; those that are not named still run."""


class WandbRun:
    """One run of a project, read once; offers of a `Run` what the answer reads."""

    def __init__(self, run: Any):
        self.name: str = run.name
        full = dict(run.config)
        known = full.pop(INFO, None)
        self.config: dict[str, Any] = full
        self.info = RunInfo.model_validate(known) if known else _info(self.name, full)
        self.provenance = {"commit": run.commit, **_machine(run.metadata or {})}
        self._state: str = run.state
        self._rows = list(run.scan_history(page_size=_page(run)))

    def columns(self, names: Sequence[str], prefix: str | None = None) -> dict[str, np.ndarray]:
        """See Run.columns."""
        return columns_of_records(self._rows, names, prefix)

    @property
    def exit(self) -> Exit | None:
        """How the run ended; W&B calls a run that was told to stop finished, here it is preempted."""
        status = STATUSES.get(self._state)
        if status is None:
            return None
        steps = max((int(row["agent_steps"]) for row in self._rows if row.get("agent_steps")), default=0)
        if status == "completed" and steps < self.info.total_timesteps:
            status = "preempted"
        return Exit(status=status, reason=f"{self._state} in W&B", agent_steps=steps)  # type: ignore[arg-type]


def wandb_runs(target: str, track: Callable[[Any], Any] = iter) -> tuple[str, list[WandbRun], list[str]]:
    """(name, runs, notes on those that cannot be read) of 'entity/project' or 'entity/project/matrix'.

    `track` wraps the iteration to show progress. Raises UsageError for a target that names no project or no run, and
    what wandb raises where it cannot be reached (wandb.Error).
    """
    import wandb

    parts = target.strip("/").split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(f"'wandb:{target}' is not wandb:ENTITY/PROJECT or wandb:ENTITY/PROJECT/MATRIX")
    entity, project, *matrix = parts
    found, notes = [], []
    for run in track(list(wandb.Api(timeout=60).runs(f"{entity}/{project}", lazy=False))):
        try:
            found.append(WandbRun(run))
        except (ValueError, KeyError, TypeError) as error:
            notes.append(f"{run.name}: not a run of memexp ({type(error).__name__})")
    if not found:
        raise UsageError(f"wandb:{entity}/{project} has no run of memexp" + (f": {notes[0]}" if notes else ""))
    return matrix[0] if matrix else _only_matrix(found) or project, found, notes


def _only_matrix(runs: Sequence[WandbRun]) -> str | None:
    names = {run.info.matrix for run in runs}
    return names.pop() if len(names) == 1 else None


def _page(run: Any) -> int:
    """Steps of one page: W&B pages history by step, and ours are agent steps, billions with few rows among them."""
    pages = math.ceil((getattr(run, "historyLineCount", None) or ROWS) / ROWS)
    return min(MAX_PAGE, max(ROWS, math.ceil((run.lastHistoryStep + 1) / pages)))


def _info(name: str, config: dict[str, Any]) -> RunInfo:
    """What the run is, from its config alone: reference levels are not known then."""
    labels, cortex = config["labels"], config["cortex"]
    pattern = cortex["pattern"]
    arm = pattern if isinstance(pattern, str) else "-".join(pattern)
    return RunInfo(
        run=name,
        matrix=labels["matrix"],
        env=labels["env"] or config["env"]["name"],
        arm=labels["arm"] or arm + ("~" if cortex["memory"] == "off" else ""),
        pattern=pattern,
        mem_len=cortex["mem_len"],
        memory=cortex["memory"],
        seed=config["seed"],
        recipe=config.get("recipe"),
        total_timesteps=config["trainer"]["total_timesteps"],
        hardware=labels.get("hardware"),
        price_per_hour=labels.get("price_per_hour"),
    )


def _machine(metadata: dict[str, Any]) -> dict[str, Any]:
    """What W&B notes of the machine, under the names that provenance.json has."""
    keys = {"host": "host", "platform": "os", "python": "python", "device": "gpu"}
    return {ours: metadata[theirs] for ours, theirs in keys.items() if metadata.get(theirs)}
