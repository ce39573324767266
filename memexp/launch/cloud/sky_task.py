"""A cell as a SkyPilot task: devops/skypilot/task.yaml with name, machines, environment and words filled in."""

import copy
import hashlib
import importlib.metadata
import itertools
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from memexp.config import UsageError, did_you_mean, read_yaml
from memexp.launch import LaunchError
from memexp.launch.cloud.code import CHECKOUT, Code
from memexp.launch.plan.prices import Price
from memexp.launch.plan.resources import Resources
from memexp.launch.plan.run_spec import RunSpec

TEMPLATE = CHECKOUT / "devops" / "skypilot" / "task.yaml"
MOUNT = "/mnt/memexp"
"""Where a node finds the bucket of run directories."""


def make_task(
    cell: RunSpec, resources: Resources, code: Code, prices: Mapping[str, Price] | None = None
) -> dict[str, Any]:
    """The task that trains `cell`; contains no secret."""
    task = copy.deepcopy(_template())
    task["name"] = cell.run
    task["num_nodes"] = resources.nodes
    task["resources"] |= {
        "cpus": f"{resources.cpus or 8}+",
        "any_of": list(_candidates(resources)),
    }
    task["envs"] |= {
        "MEMEXP_REPOSITORY": code.repository,
        "MEMEXP_COMMIT": code.commit,
        "MEMEXP_RUN": cell.run,
        "MEMEXP_HOME": MOUNT if resources.bucket else resources.home or "",
        "MEMEXP_HEARTBEAT_SECONDS": str(resources.heartbeat_timeout_seconds),
        "MEMEXP_MAX_RUNTIME_HOURS": f"{resources.max_runtime_hours:g}" if resources.max_runtime_hours else "",
        "MEMEXP_PRICES": json.dumps({kind: price.as_dict(resources) for kind, price in (prices or {}).items()}),
        **resources.envs,
    }
    if resources.bucket:
        task["file_mounts"] = {MOUNT: {"source": resources.bucket, "mode": "MOUNT_CACHED"}}
    task["run"] = task["run"].replace("{words}", shlex.join(cell.arguments))
    return task


def sent_along(task: dict[str, Any], code: Code) -> dict[str, Any]:
    """The task with the snapshot of its code as workdir, in place of a clone."""
    envs = {**task["envs"], "MEMEXP_REPOSITORY": "", "MEMEXP_COMMIT": code.commit}
    return {**task, "workdir": code.workdir, "envs": envs}


def _candidates(resources: Resources) -> Iterable[dict[str, Any]]:
    """Places x kinds of GPU x markets, spot first; SkyPilot takes the cheapest that can be had."""
    markets = [True, False] if resources.spot is None and resources.uses_spot else [resources.uses_spot]
    kinds = [{"accelerators": f"{kind}:{resources.gpus}"} for kind in resources.accelerators]
    for spot, place, kind in itertools.product(markets, resources.places, kinds if resources.gpus else [{}]):
        yield {**({"infra": place} if place else {}), **kind, "use_spot": spot}


@cache
def _template() -> dict[str, Any]:
    if not TEMPLATE.exists():
        raise LaunchError(f"{TEMPLATE} is missing: launch to the cloud from a checkout of memexp")
    return read_yaml(TEMPLATE)


def validate(tasks: Sequence[dict[str, Any]]) -> str | None:
    """Have SkyPilot's own Task class judge the tasks, one of each shape; tasks that differ in words alone are alike.

    What it has once found right is remembered: importing it takes two seconds. Returns why they could not be judged
    (SkyPilot is not installed), else None. Raises UsageError with what it refuses.
    """
    try:
        version = importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        return "not validated: SkyPilot is not installed (pip install 'memexp[cloud]')"
    shapes = {json.dumps({**task, "name": "", "envs": "", "run": ""}): task for task in tasks}
    unknown = {_seen(shape, version): task for shape, task in shapes.items() if not _seen(shape, version).exists()}
    if unknown:
        import sky

        for mark, task in unknown.items():
            to_sky(sky, task)
            with suppress(OSError):  # without a cache the next launch asks again
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
    return None


def _seen(shape: str, version: str) -> Path:
    """The file that is there once this version of SkyPilot has found a task of this shape right."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "memexp" / "tasks" / hashlib.sha256(f"{version} {shape}".encode()).hexdigest()[:32]


def to_sky(sky: Any, task: dict[str, Any], secrets: dict[str, str] | None = None) -> Any:
    """The task as `sky.Task` (which changes the dict it is given). Raises UsageError with what SkyPilot refuses."""
    try:
        made = sky.Task.from_yaml_config(copy.deepcopy(task), secrets_overrides=list((secrets or {}).items()))
        made.validate_name()
        made.validate_run()
    except (ValueError, sky.exceptions.InvalidSkyPilotConfigError) as error:
        raise UsageError(f"SkyPilot refuses the task '{task['name']}': {_one_line(error)}") from None
    return made


def check_infra(infra: str | None, where: str = "--infra") -> None:
    """Raises UsageError for an infrastructure that SkyPilot does not know, with the nearest one it does."""
    name = (infra or "*").partition("/")[0].lower()
    if name not in INFRA:
        raise UsageError(f"{where} {infra}: unknown infrastructure '{name}'{did_you_mean(name, INFRA)}")


INFRA = ("*", "aws", "azure", "gcp", "ibm", "lambda", "scp", "oci", "runpod", "vast", "vsphere", "cudo", "fluidstack")
INFRA += ("paperspace", "primeintellect", "do", "nebius", "ssh", "slurm", "hyperbolic", "seeweb", "shadeform", "yotta")
INFRA += ("mithril", "verda", "kubernetes", "k8s")
"""What SkyPilot 0.14.1 takes in front of the first '/' of `infra`."""


def dump(tasks: Sequence[dict[str, Any]], form: str) -> str:
    """The tasks as YAML (one document each) or JSON (one object, or a list where there are several)."""
    if form == "json":
        return json.dumps(tasks[0] if len(tasks) == 1 else list(tasks), indent=2)
    return yaml.dump_all(tasks, Dumper=_Readable, sort_keys=False, width=120)


def render(tasks: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write one task file a run into `folder`; returns their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{task['name']}.yaml" for task in tasks]
        for path, task in zip(paths, tasks, strict=True):
            path.write_text(dump([task], "yaml"), encoding="utf-8")
    except OSError as error:
        raise LaunchError(f"cannot write into {folder}: {error.strerror}") from None
    return paths


class _Readable(yaml.SafeDumper):
    """Scripts as literal blocks; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
