"""What a run is given: machines, time, and where they are."""

from typing import Any

from pydantic import Field, model_validator

from memexp.config import Config

NO_SPOT = ("slurm", "k8s", "kubernetes", "ssh")
"""Infrastructures that sell no spot instances."""


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
    max_runtime_hours: float | None = Field(default=None, gt=0)
    """The run is stopped after this many hours, summed over its restarts; None: never."""
    heartbeat_timeout_seconds: int = Field(default=1800, gt=0)
    """A run that wrote no metrics for this long is restarted."""
    bucket: str | None = Field(default=None, pattern=r"^(s3|gs|r2|https)://[^\s/]+(/[^\s/]+)*$")
    """Bucket that run directories are kept in ("s3://mybucket/memexp"); None: the node's own disk."""

    @model_validator(mode="after")
    def _spot_is_sold_there(self) -> "Resources":
        if self.spot and self.infra and self.infra.partition("/")[0].lower() in NO_SPOT:
            raise ValueError(f"spot: {self.infra} has no spot instances; leave spot away")
        return self

    @property
    def uses_spot(self) -> bool:
        """Whether spot instances come first."""
        if self.spot is None:
            return self.gpus > 0 and (self.infra or "").partition("/")[0].lower() not in NO_SPOT
        return self.spot

    def but(self, **changes: Any) -> "Resources":
        """A copy in which the `changes` that are not None replace what was there. Raises UsageError."""
        changed = {key: value for key, value in changes.items() if value is not None}
        return type(self).parse({**self.model_dump(), **changed})
