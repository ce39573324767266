"""The options of `memexp launch`, and which of them contradict one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memexp.config import UsageError
from memexp.launch.plan.resources import Resources

MACHINES = ("nodes", "cpus", "spot", "infra", "bucket", "max_runtime_hours", "heartbeat_timeout_seconds")
"""Options that replace an entry of a matrix file's `resources` (as --gpus does). They have no meaning with --local."""
CLOUD = (*MACHINES, "git_ref", "dump_config", "render", "confirm", "budget", "retry_failed")
"""Options that have no meaning with --local."""


@dataclass(frozen=True)
class Options:
    """The options of `memexp launch`; None, False or () where not given."""

    run: str | None = None
    gpus: int | None = None
    nodes: int | None = None
    cpus: int | None = None
    spot: bool | None = None
    copies: int | None = None
    git_ref: str | None = None
    max_runtime_hours: float | None = None
    heartbeat_timeout_seconds: int | None = None
    skip_git_check: bool = False
    confirm: bool = False
    infra: str | None = None
    bucket: str | None = None
    budget: float | None = None
    retry_failed: bool = False
    force: bool = False
    dry_run: bool = False
    no_build: bool = False
    dump_config: str | None = None
    render: Path | None = None
    local: bool = False
    jobs: int | None = None
    nproc: int | None = None
    scout: bool = False
    select: Sequence[str] = ()
    seeds: str | None = None
    steps: str | None = None
    scale: str | None = None
    sensitivity: bool = False
    as_json: bool = False

    @property
    def processes(self) -> int:
        """Ranks of a run on this machine (--local)."""
        return self.nproc or self.gpus or 1

    def check(self) -> None:
        """Raises UsageError for options that contradict one another, or have values that cannot be right."""
        if self.local:
            self.refuse("has no meaning with --local", *CLOUD)
        else:
            where = "; on a node, `memexp bench RECIPE KEY=VALUE` does the same"
            self.refuse(f"needs --local: it times runs on this machine{where}", "scout")
            self.refuse("needs --local", "jobs", "nproc")
            Resources.parse(self.machines)
        if self.as_json and not (self.dry_run or self.scout):
            raise UsageError("--json needs --dry-run: it prints the plan")
        if self.dump_config not in (None, "json", "yaml"):
            raise UsageError(f"--dump-config {self.dump_config}: the format is json or yaml")

    def refuse(self, why: str, *names: str) -> None:
        """Raises UsageError for the first of the options `names` that was given."""
        for name in names:
            if getattr(self, name) not in (None, False, ()):
                raise UsageError(f"--{name.replace('_', '-')} {why}")

    @property
    def machines(self) -> dict[str, Any]:
        """The entries of `Resources` that were given."""
        given = {name: getattr(self, name) for name in ("gpus", *MACHINES)}
        return {name: value for name, value in given.items() if value is not None}
