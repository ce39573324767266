"""What a run is given: machines, time, and where they are."""

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from memexp.config import Config

OWN = ("slurm", "k8s", "kubernetes", "ssh")
"""Infrastructures of one's own: they sell no spot instances, and an hour has no price."""
SECRETS = ("WANDB_API_KEY", "MEMEXP_WEBHOOK_URL")
"""Environment variables that are handed over as SkyPilot secrets, in memory alone."""
_WORDS = ("REPOSITORY", "COMMIT", "RUN", "HOME", "HEARTBEAT_SECONDS", "MAX_RUNTIME_HOURS", "PRICES")
TASK_VARIABLES = tuple(f"MEMEXP_{word}" for word in _WORDS)
"""Environment variables that every task sets itself."""


class Resources(Config):
    """What each run of a launch is given. The command line's options of the same names override a matrix file's."""

    gpus: int = Field(default=1, ge=0, le=64)
    """GPUs of one node; 0 takes CPU machines."""
    nodes: int = Field(default=1, ge=1, le=1024)
    """Nodes of one run."""
    cpus: int | None = Field(default=None, ge=1)
    """CPUs of one node, at least; None: 8."""
    spot: bool | None = None
    """Spot instances only, on-demand ones only, or (None) spot first and on demand where there are none."""
    accelerators: list[str] = Field(default=["L4", "A10G"], min_length=1)
    """Kinds of GPU that will do, in the order of preference."""
    infra: str | None = None
    """SkyPilot infrastructure ("aws", "gcp/us-central1", "k8s", "slurm/mycluster"); None: the cheapest enabled one."""
    regions: list[str] = Field(default=[])
    """Infrastructures with region that will do ("aws/us-east-1", "gcp/us-central1"); empty: all. `infra` pins one."""
    max_runtime_hours: float | None = Field(default=None, gt=0)
    """The run is stopped after this many hours, summed over its restarts; None: never."""
    heartbeat_timeout_seconds: int = Field(default=1800, gt=0)
    """A run that wrote no metrics for this long is restarted."""
    bucket: str | None = Field(default=None, pattern=r"^(s3|gs|r2|https)://[^\s/@?]+(/[^\s/?]+)*$")
    """Bucket that run directories are kept in ("s3://mybucket/memexp"); None: the node's own disk,
    which a recovery on another node does not find again."""
    home: str | None = Field(default=None, pattern=r"^[/~]")
    """Folder of run directories that all nodes see (a cluster's shared file system), in place of a bucket."""
    envs: dict[str, str] = Field(default={})
    """Environment variables of the node ({NCCL_SOCKET_IFNAME: eth0}); secrets are taken from the environment."""

    @field_validator("envs")
    @classmethod
    def _no_secret_is_written(cls, envs: dict[str, str]) -> dict[str, str]:
        for name in envs:
            if not name.isidentifier():
                raise ValueError(f"'{name}' is no name of an environment variable")
            if name in TASK_VARIABLES:
                raise ValueError(f"'{name}' is the launcher's own: it follows from the run")
            if name in SECRETS or any(word in name.upper() for word in ("KEY", "TOKEN", "SECRET", "PASSW", "WEBHOOK")):
                hint = "set it where you type memexp launch" if name in SECRETS else "hand it to SkyPilot as a secret"
                raise ValueError(f"'{name}' looks like a secret, which would stand in files and logs: {hint}")
        return envs

    @model_validator(mode="after")
    def _one_place_for_runs(self) -> "Resources":
        if self.bucket and self.home:
            raise ValueError("bucket and home contradict each other: run directories are in one place")
        return self

    @property
    def places(self) -> list[str | None]:
        """Where the run may be placed: the pinned infrastructure, the regions, or (None) anywhere."""
        return [self.infra] if self.infra else [*self.regions] or [None]

    @property
    def is_own(self) -> bool:
        """Whether all machines are one's own."""
        return all((place or "").partition("/")[0].lower() in OWN for place in self.places)

    @model_validator(mode="after")
    def _spot_is_sold_there(self) -> "Resources":
        if self.spot and self.infra and self.is_own:
            raise ValueError(f"spot: {self.infra} has no spot instances; leave spot away")
        return self

    @property
    def uses_spot(self) -> bool:
        """Whether spot instances come first."""
        if self.spot is None:
            return self.gpus > 0 and not self.is_own
        return self.spot

    def but(self, **changes: Any) -> "Resources":
        """A copy in which the `changes` that are not None replace what was there. Raises UsageError."""
        changed = {key: value for key, value in changes.items() if value is not None}
        return type(self).parse({**self.model_dump(), **changed})


def is_kind(name: str, kind: str) -> bool:
    """Whether a driver's name of a GPU has every word of SkyPilot's kind: 'NVIDIA A100-SXM4-80GB' is an 'A100-80GB'."""
    words, wanted = (set(re.split(r"[^A-Z0-9]+", text.upper())) for text in (name, kind))
    return wanted <= words
