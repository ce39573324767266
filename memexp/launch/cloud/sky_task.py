"""A run as a SkyPilot task: scripts/task.yaml with name, machines, code, environment and arguments filled in."""

import copy
import hashlib
import importlib.metadata
import itertools
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from memexp.config import UsageError, path_in, read_yaml
from memexp.credentials import mask
from memexp.launch import LaunchError
from memexp.launch.cloud.install import SCRIPTS, SENT, Install
from memexp.launch.cloud.job_queue import reason_of
from memexp.launch.plan.prices import Price
from memexp.launch.plan.resources import CPUS, MOUNT, STORE, Resources
from memexp.launch.plan.run_spec import RunSpec
from memexp.project import root
from memexp.runs.scribe import private

Task = dict[str, Any]
"""A task as its YAML file has it."""


def make_task(spec: RunSpec, resources: Resources, install: Install, prices: Mapping[str, Price] | None = None) -> Task:
    """The task that trains a run; contains no secret. `prices`: kind of GPU -> price of one node.

    Raises UsageError for an override that looks like a secret.
    """
    if secret := next((word for word in spec.arguments if mask(word) != word), None):
        raise UsageError(
            f"'{mask(secret)}' looks like a secret, and tasks and SkyPilot's queue keep the arguments of a run: "
            "let the environment read it from an environment variable"
        )
    task = copy.deepcopy(_template())
    task["name"] = spec.run
    task["num_nodes"] = resources.nodes
    task["resources"] |= {"cpus": f"{resources.cpus or CPUS}+", "any_of": list(_candidates(resources))}
    task["envs"] |= {
        **install.envs,
        "MEMEXP_RUN": spec.run,
        "MEMEXP_HOME": MOUNT if resources.bucket else resources.home or "",
        "MEMEXP_HEARTBEAT_SECONDS": str(resources.heartbeat_timeout_seconds),
        "MEMEXP_MAX_RUNTIME_HOURS": f"{resources.max_runtime_hours:g}" if resources.max_runtime_hours else "",
        "MEMEXP_PRICES": json.dumps({kind: price.by_market(resources) for kind, price in (prices or {}).items()}),
        **resources.envs,
    }
    if install.code.repository:
        task["workdir"] = {"url": install.code.repository, "ref": install.code.commit}
    if mounts := _mounts(resources):
        task["file_mounts"] = mounts
    task["setup"] = install.script(resources.setup)
    run = task["run"].replace("{folder}", shlex.quote(install.folder))
    task["run"] = run.replace("{arguments}", shlex.join(spec.arguments))
    return task


def _mounts(resources: Resources) -> dict[str, Any]:
    """Path on the node -> what stands there. Raises UsageError for a file of this machine that does not exist."""
    mounts: dict[str, Any] = {}
    for target, source in resources.files.items():
        mounts[target] = source
        if not STORE.fullmatch(source):
            mounts[target] = str(root() / Path(source).expanduser())
            if not Path(mounts[target]).exists():
                raise UsageError(f"resources.files: {target}: there is no {mounts[target]}")
    if resources.bucket:
        mounts[MOUNT] = {"source": resources.bucket, "mode": "MOUNT_CACHED"}
    return mounts


def sent_along(task: Task, install: Install) -> Task:
    """The task with what is sent from this machine: a snapshot of the code instead of a clone, and memexp."""
    if install.code.workdir:
        envs = {key: value for key, value in task["envs"].items() if key not in ("GIT_URL", "GIT_COMMIT_HASH")}
        task = {**task, "workdir": install.code.workdir, "envs": envs}
    if install.sent:
        task = {**task, "file_mounts": {**task.get("file_mounts", {}), SENT: install.sent}}
    return task


def _candidates(resources: Resources) -> Iterable[dict[str, Any]]:
    """Places x kinds of GPU x markets, spot first. SkyPilot takes the cheapest that is available."""
    markets = [True, False] if resources.spot is None and resources.uses_spot else [resources.uses_spot]
    kinds = [{"accelerators": f"{kind}:{resources.gpus}"} for kind in resources.accelerators]
    for spot, place, kind in itertools.product(markets, resources.places, kinds if resources.gpus else [{}]):
        image = {"image_id": resources.image} if resources.image else {}
        yield {**({"infra": place} if place else {}), **kind, **image, "use_spot": spot}


@cache
def _template() -> Task:
    return read_yaml(SCRIPTS / "task.yaml")


def validate(tasks: Sequence[Task]) -> str | None:
    """Check the tasks with SkyPilot's own Task class; of tasks that differ in name, envs and arguments only, the last.

    The user's cache remembers what was right, because importing SkyPilot takes two seconds. Returns why the tasks
    could not be checked (SkyPilot is not installed), else None. Raises UsageError with what SkyPilot refuses.
    """
    try:
        version = importlib.metadata.version("skypilot")
    except importlib.metadata.PackageNotFoundError:
        return "not validated: SkyPilot is not installed (pip install 'memexp[cloud]')"
    folder = path_in("XDG_CACHE_HOME", Path.home() / ".cache") / "memexp" / "tasks"
    shapes = {json.dumps({**task, "name": "", "envs": "", "run": ""}): task for task in tasks}
    marks = {
        folder / hashlib.sha256(f"{version} {shape}".encode()).hexdigest()[:32]: task for shape, task in shapes.items()
    }
    for mark, task in marks.items():
        if not mark.exists():
            import sky

            to_sky(sky, task)
            with suppress(OSError):  # without a cache the next launch checks again
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
    return None


def to_sky(sky: Any, task: Task, secrets: dict[str, str] | None = None) -> Any:
    """The task as `sky.Task`. Raises UsageError with what SkyPilot refuses."""
    try:
        made = sky.Task.from_yaml_config(copy.deepcopy(task), secrets_overrides=list((secrets or {}).items()))
        made.validate_name()
        made.validate_run()
    except (ValueError, sky.exceptions.InvalidSkyPilotConfigError) as error:
        raise UsageError(f"SkyPilot refuses the task '{task['name']}': {reason_of(error)}") from None
    return made


def dump(tasks: Sequence[Task], form: str) -> str:
    """The tasks as yaml (one document each) or json (one object, or a list of several)."""
    if form == "json":
        return json.dumps(tasks[0] if len(tasks) == 1 else list(tasks), indent=2)
    return yaml.dump_all(tasks, Dumper=_Readable, sort_keys=False, width=120)


def render(tasks: Sequence[Task], folder: Path) -> list[Path]:
    """Write one file for each task into `folder`; returns their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{task['name']}.yaml" for task in tasks]
        for path, task in zip(paths, tasks, strict=True):
            with open(path, "w", encoding="utf-8", opener=private) as file:
                file.write(dump([task], "yaml"))
    except OSError as error:
        raise LaunchError(f"cannot write into {folder}: {error.strerror}") from None
    return paths


class _Readable(yaml.SafeDumper):
    """Scripts as literal blocks; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)
