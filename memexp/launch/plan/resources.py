"""The machines of a run: how many, of which kind, where, and for how long."""

import re
import subprocess
from collections.abc import Mapping
from typing import Annotated, Any, cast

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, Field, field_validator, model_validator

from memexp.config import Config, did_you_mean, form
from memexp.credentials import is_secret_variable, mask

OWN = ("slurm", "k8s", "kubernetes", "ssh")
"""Infrastructures that belong to the user: they have no spot instances, and their hours have no price."""
_LARGE = ("aws", "azure", "gcp", "ibm", "oci", "lambda", "scp", "runpod", "vast", "vsphere", "cudo", "fluidstack", "do")
_SMALL = ("paperspace", "primeintellect", "nebius", "hyperbolic", "seeweb", "shadeform", "yotta", "mithril", "verda")
INFRA = ("*", *OWN, *_LARGE, *_SMALL)
"""What SkyPilot 0.14.1 accepts before the first '/' of `infra`."""
GPUS = (
    "T4", "T4g", "L4", "L40", "L40S", "A10", "A10G", "A16", "A30", "A40", "A100", "A100-80GB", "A100-80GB-SXM",
    "H100", "H100-SXM", "H100-NVL", "H100-MEGA-80GB", "H200", "H200-SXM", "GH200", "B200", "B300", "GB200", "GB300",
    "V100", "V100-32GB", "P4", "P40", "P100", "K80", "M60", "MI300X", "MI325X", "RTXPRO6000", "A2000", "A4000",
    "A4500", "A5000", "A6000", "RTX3060", "RTX3070", "RTX3080", "RTX3090", "RTX4000", "RTX4080", "RTX4090",
    "RTX5080", "RTX5090", "RTX5000", "RTX6000", "RTX2000-Ada", "RTX4000-Ada", "RTX5000-Ada", "RTX6000-Ada",
)  # fmt: skip
"""SkyPilot's names of the GPUs that clouds rent. The user's own machines may have others."""
CPUS = 8
"""Least number of CPUs of a node, if none is asked for."""
CALLED = {"amazon": "aws", "google": "gcp", "microsoft": "azure", **dict.fromkeys(("eks", "gke", "aks", "kube"), "k8s")}
"""Other names of infrastructures."""
SECRETS = ("WANDB_API_KEY", "MEMEXP_WEBHOOK_URL", "GIT_TOKEN")
"""Environment variables that are passed on as SkyPilot secrets. They stay in memory and are never written. SkyPilot
clones a private repository with GIT_TOKEN."""
MOUNT = "/mnt/memexp"
"""Where a node finds the bucket of run directories."""
STORE = re.compile(r"(s3|gs|r2|cos|oci|https)://\S+")
"""A file or folder in a cloud's storage."""
_NAMES = ("RUN", "HOME", "HEARTBEAT_SECONDS", "MAX_RUNTIME_HOURS", "PRICES")
TASK_VARIABLES = tuple(f"MEMEXP_{name}" for name in _NAMES)
"""Environment variables that every task sets itself."""


class Section(Config):
    """A part of a matrix file. A key without a value (its lines are comments, say) counts as left out."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_empty(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: value for key, value in cast(Mapping[Any, Any], data).items() if value is not None}


def _infra_is_known(place: str) -> str:
    name = place.partition("/")[0].lower()
    if name not in INFRA:
        near = did_you_mean(CALLED.get(name, name), INFRA)
        raise ValueError(f"unknown infrastructure '{name}' (write aws, gcp/us-central1, k8s or slurm/CLUSTER){near}")
    return place


def _nodes_can_install(package: str) -> str:
    try:
        found = Requirement(package)
        wrong = (found.url or "").startswith("file:") or not all(one.version for one in found.specifier)
    except InvalidRequirement:
        wrong = True
    if wrong:
        raise ValueError(
            f"'{package}' is no package that nodes can install, such as 'minigrid>=3.0' or 'mine @ git+https://...'"
        )
    return package


Place = Annotated[str, AfterValidator(_infra_is_known)]
Package = Annotated[str, AfterValidator(_nodes_can_install)]
Bucket = Annotated[
    str,
    form(
        r"^(s3|gs|r2|https)://[^\s/@?]+(/[^\s/?]+)*$",
        "bucket, such as s3://mybucket/memexp (or gs://, r2://, https://)",
    ),
]
Home = Annotated[str, form(r"^(/|~|\$)", "folder of a node, such as /shared/memexp: it begins with /, ~ or $")]
Image = Annotated[
    str,
    form(
        r"^(docker:[a-z0-9][-\w.:/@]*|(projects/|https://|/)\S+|(?!docker:)[^\s/]+)$",
        "image: write docker:nvcr.io/nvidia/pytorch:25.09-py3, say, or the id that a cloud gives it (ami-...)",
    ),
]


class Resources(Section):
    """The machines and the time that each run of a launch gets. Options of the same names replace these entries."""

    gpus: int = Field(default=1, ge=0, le=64)
    """GPUs of one node; 0 takes CPU machines."""
    nodes: int = Field(default=1, ge=1, le=1024)
    """Nodes of one run."""
    cpus: int | None = Field(default=None, ge=1)
    """Least number of CPUs of one node; None: 8."""
    spot: bool | None = None
    """True: spot instances only. False: on-demand instances only. None: spot first, then on demand; machines
    without GPUs on demand only."""
    accelerators: list[str] = Field(default=["L4", "A10G"], min_length=1)
    """Kinds of GPU that may be used, the preferred one first."""
    infra: Place | None = None
    """SkyPilot infrastructure ("aws", "gcp/us-central1", "k8s", "slurm/mycluster"); None: the cheapest enabled one."""
    regions: list[Place] = Field(default=[])
    """Regions that may be used ("aws/us-east-1", "gcp/us-central1"); empty: all. `infra` takes their place."""
    max_runtime_hours: float | None = Field(default=None, gt=0)
    """The run is stopped after this many hours, summed over its restarts; None: never."""
    heartbeat_timeout_seconds: int = Field(default=1800, gt=0)
    """A run that wrote no metrics for this long is restarted."""
    bucket: Bucket | None = None
    """Bucket that keeps the run directories ("s3://mybucket/memexp"). None: the node's own disk, so that a run that is
    recovered on another node starts anew."""
    home: Home | None = None
    """Instead of a bucket: folder of run directories on a file system that all nodes share. `~` and $VARIABLES are
    those of the node."""
    envs: dict[str, str] = Field(default={})
    """Environment variables of the node ({NCCL_SOCKET_IFNAME: eth0}), no secrets."""
    pip: list[Package] = Field(default=[])
    """Packages that nodes install beside those of the project's lock file (["minigrid>=3.0"])."""
    files: dict[str, str] = Field(default={})
    """Path on the node -> what stands there: a bucket ({/data/mazes: "s3://mybucket/mazes"}), or a file or folder
    of this machine."""
    image: Image | None = None
    """Machine image of a cloud, or container ("docker:nvcr.io/nvidia/pytorch:25.09-py3"); None: SkyPilot's."""
    setup: list[str] = Field(default=[])
    """Commands of bash on the node, when all packages are installed, in the project's folder
    (["apt-get install -y libgl1"])."""

    @field_validator("accelerators", "regions", "pip", "setup", mode="before")
    @classmethod
    def _one_may_stand_alone(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("setup")
    @classmethod
    def _bash_can_read_it(cls, commands: list[str]) -> list[str]:
        for one in commands:
            read = subprocess.run(["bash", "-n"], input=one, capture_output=True, text=True, check=False)
            if read.returncode:
                raise ValueError(f"bash cannot read '{one}': {read.stderr.strip().rpartition('line ')[2]}")
        return commands

    @field_validator("files")
    @classmethod
    def _files_have_a_place(cls, files: dict[str, str]) -> dict[str, str]:
        for target in files:
            if not target.startswith(("/", "~/")) or target.endswith("/") or target == MOUNT:
                raise ValueError(f"'{target}' is no path on a node: it begins with / or ~/, ends without /")
        return files

    @field_validator("pip", "files", "image", "setup")
    @classmethod
    def _no_secret_is_in_the_task(cls, value: Any) -> Any:
        if mask(text := str(value)) != text:
            raise ValueError("there seems to be a secret in it, and this file is copied into tasks and logs")
        return value

    @field_validator("envs")
    @classmethod
    def _no_secret_is_written(cls, envs: dict[str, str]) -> dict[str, str]:
        for name, value in envs.items():
            if not name.isidentifier():
                raise ValueError(f"'{name}' is no name of an environment variable: use letters, digits and '_'")
            if name in TASK_VARIABLES:
                raise ValueError(f"'{name}' is set by the launcher itself: leave it out")
            if is_secret_variable(name) or mask(value) != value:
                hint = "set it where you type memexp launch" if name in SECRETS else "give it to SkyPilot as a secret"
                raise ValueError(f"'{name}' looks like a secret, and this file is copied into tasks and logs: {hint}")
        return envs

    @model_validator(mode="after")
    def _gpus_are_known(self) -> "Resources":
        for kind in self.accelerators:
            name, colon, count = kind.partition(":")
            if colon:
                raise ValueError(f"accelerators: '{kind}' is a kind and a number: write {name}, and gpus: {count or 8}")
            if not re.fullmatch(r"[A-Za-z0-9][-\w.]*", kind) or (
                not self.is_own and kind.lower() not in map(str.lower, GPUS)
            ):
                near = did_you_mean(re.sub("(?i)nvidia| ", "", kind), GPUS)
                raise ValueError(f"accelerators: unknown kind of GPU '{kind}'{near}")
        return self

    @model_validator(mode="after")
    def _entries_agree(self) -> "Resources":
        if self.bucket and self.home:
            raise ValueError("bucket and home contradict each other: run directories are kept in one place")
        if self.home and self.home.startswith("~") and (self.infra or "").partition("/")[0].lower() == "slurm":
            raise ValueError(
                f"home: on Slurm ~ is a folder of the job, which is deleted after it: write the path of a shared "
                f"folder, such as /home/you{self.home[1:]}"
            )
        if self.spot and self.infra and self.is_own:
            raise ValueError(f"spot: {self.infra} has no spot instances; leave out spot")
        return self

    @property
    def kinds(self) -> list[str]:
        """The kinds of GPU, or of CPU machine, as throughput tables name them."""
        return self.accelerators if self.gpus else [f"{self.cpus or CPUS}-core CPU"]

    @property
    def places(self) -> list[str | None]:
        """Where the run may be placed: `infra`, else the regions, else [None], which means anywhere."""
        return [self.infra] if self.infra else [*self.regions] or [None]

    @property
    def is_own(self) -> bool:
        """True if all machines belong to the user: a cluster, not a cloud."""
        return all((place or "").partition("/")[0].lower() in OWN for place in self.places)

    @property
    def uses_spot(self) -> bool:
        """True if spot instances are tried first."""
        return self.gpus > 0 and not self.is_own if self.spot is None else self.spot

    def lines(self) -> list[str]:
        """What the plan says about files, commands and the place of run directories."""
        files = [f"{place} as {target}" for target, place in self.files.items()]
        lines = [f"  {what} {', '.join(of)}" for what, of in (("they get", files), ("they run", self.setup)) if of]
        if not (self.bucket or self.home):
            lines.append("no bucket is given: a recovered run starts anew (resources.bucket, or --bucket s3://...)")
        return lines

    def __str__(self) -> str:
        """'8x L4 or A10G, spot first, at most 24 h'."""
        kinds = f"{self.gpus}x {' or '.join(self.accelerators)}" if self.gpus else "CPUs"
        market = {True: "spot only", False: "on demand", None: "spot first" if self.uses_spot else "on demand"}
        parts = [f"{self.nodes} nodes of {kinds}" if self.nodes > 1 else kinds, market[self.spot]]
        if places := [place for place in self.places if place]:
            parts.append(f"in {' or '.join(places)}")
        if self.image:
            parts.append(self.image)
        if self.max_runtime_hours:
            parts.append(f"at most {self.max_runtime_hours:g} h")
        return ", ".join(parts)


def is_kind(name: str, kind: str) -> bool:
    """True if a driver's name of a GPU contains every word of SkyPilot's name: 'NVIDIA A100-SXM4-80GB', 'A100-80GB'."""
    words, wanted = (set(re.split(r"[^A-Z0-9]+", text.upper())) for text in (name, kind))
    return wanted <= words
