"""Runs of a Weights & Biases project, read through W&B's public API as if they were run directories."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memexp.config import UsageError
from memexp.runs.directory import Exit, ExitStatus, RunInfo
from memexp.runs.metrics import columns_of_records
from memexp.runs.wandb_sink import INFO, PROVENANCE

ROWS = 1000
"""About how many rows of history to ask for at once."""
MAX_PAGE = 2**31 - 1
"""Largest page of steps: W&B's API takes a 32-bit integer."""
STATUSES: dict[str, ExitStatus] = {
    "finished": "completed",
    "failed": "failed",
    "crashed": "failed",
    "killed": "cancelled",
}
"""State of a run in W&B -> how it ended. A run in any other state still runs."""


class WandbRun:
    """One run of a project, read once. It has those members of `Run` that the analysis reads."""

    horizon = None

    def __init__(self, run: Any):
        self.name: str = run.name
        full = dict(run.config)
        known, provenance = full.pop(INFO, None), full.pop(PROVENANCE, None)
        self.config: dict[str, Any] = full
        self.info = RunInfo.model_validate(known) if known else _info(self.name, full)
        self.provenance = provenance or {"commit": run.commit, **_machine(run.metadata or {})}
        self._state: str = run.state
        self._rows = history_of(run)

    def columns(self, names: Sequence[str], prefix: str | None = None) -> dict[str, np.ndarray]:
        """See Run.columns."""
        return columns_of_records(self._rows, names, prefix)

    @property
    def exit(self) -> Exit | None:
        """How the run ended. W&B also says 'finished' of a run that was told to stop; here it is preempted."""
        status = STATUSES.get(self._state)
        if status is None:
            return None
        steps = max((int(row["agent_steps"]) for row in self._rows if row.get("agent_steps")), default=0)
        if status == "completed" and steps < self.info.total_timesteps:
            status = "preempted"
        return Exit(status=status, reason=f"{self._state} in W&B", agent_steps=steps)


def history_of(run: Any) -> list[dict[str, Any]]:
    """All rows that a run logged."""
    return list(run.scan_history(page_size=_page(run)))


def runs_of_project(target: str) -> list[Any]:
    """The runs of 'entity/project' as W&B's API gives them. Raises UsageError and wandb.Error."""
    import wandb

    if len(parts := target.strip("/").split("/")) != 2 or not all(parts):
        raise UsageError(f"'wandb:{target}' is not wandb:ENTITY/PROJECT")
    api: Any = wandb.Api(timeout=60)
    return list(api.runs("/".join(parts), lazy=False))


def wandb_runs(target: str, track: Callable[[Any], Any] = iter) -> tuple[str, list[WandbRun], list[str]]:
    """(name, runs, notes on runs that cannot be read) of 'entity/project' or 'entity/project/matrix'.

    `track` wraps the iteration to show progress. Raises UsageError if the target names no project or the project has no
    run, and wandb.Error if W&B cannot be reached.
    """
    parts = target.strip("/").split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(f"'wandb:{target}' is not wandb:ENTITY/PROJECT or wandb:ENTITY/PROJECT/MATRIX")
    entity, project, *matrix = parts
    found: list[WandbRun] = []
    notes: list[str] = []
    for run in track(runs_of_project(f"{entity}/{project}")):
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
    """Steps of one page: W&B pages its history by step, and our steps are agent steps: billions, with few rows."""
    pages = math.ceil((getattr(run, "historyLineCount", None) or ROWS) / ROWS)
    return min(MAX_PAGE, max(ROWS, math.ceil((run.lastHistoryStep + 1) / pages)))


def _info(name: str, config: dict[str, Any]) -> RunInfo:
    """What the run is, from its config alone. Reference returns are not known then."""
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
        twin_of=labels.get("twin_of"),
        seed=config["seed"],
        recipe=config.get("recipe"),
        total_timesteps=config["trainer"]["total_timesteps"],
        hardware=labels.get("hardware"),
        price_per_hour=labels.get("price_per_hour"),
        tuning=labels.get("tuning"),
    )


def _machine(metadata: dict[str, Any]) -> dict[str, Any]:
    """What W&B knows about the machine, under the names of provenance.json."""
    keys = {"host": "host", "platform": "os", "python": "python", "device": "gpu"}
    return {ours: metadata[theirs] for ours, theirs in keys.items() if metadata.get(theirs)}
