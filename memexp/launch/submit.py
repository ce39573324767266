"""Handing tasks to SkyPilot as managed jobs, with each of its errors as one clear line."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from memexp.launch import LaunchError
from memexp.launch.sky_task import to_sky

SECRETS = ("WANDB_API_KEY",)
"""Environment variables that are handed over as SkyPilot secrets, in memory alone."""
FINISHED_BADLY = ("CANCELLED", "FAILED", "FAILED_SETUP", "FAILED_PRECHECKS", "FAILED_NO_RESOURCE", "FAILED_CONTROLLER")
"""Statuses of a managed job whose run may be submitted again."""


def connect() -> Any:
    """The `sky` module, once it is known that it can submit: an API server answers and a cloud is enabled.

    Raises LaunchError that says what is missing and what to type.
    """
    sky = _import_sky()
    _require_cloud(sky)
    return sky


def submit(sky: Any, tasks: Sequence[dict[str, Any]], told: Callable[[str], None]) -> list[str]:
    """Submit each task as a managed job, unless a job of its name is queued, running or done; returns the names sent.

    `sky` comes from `connect`; `told` is given one line a task. Raises LaunchError when SkyPilot refuses a task (those
    submitted before it stay submitted, and are counted).
    """
    secrets = {name: value for name in SECRETS if (value := os.environ.get(name))}
    jobs = [(task["name"], to_sky(sky, task, secrets)) for task in tasks]
    known = _known_jobs(sky)
    sent: list[str] = []
    for name, job in jobs:
        if name in known:
            told(f"{name}: already {known[name].lower()} as a managed job")
            continue
        try:
            _ask(sky, f"submit {name}", lambda job=job, name=name: sky.jobs.launch(job, name=name))
        except LaunchError as error:
            before = f" ({len(sent)} of {len(jobs)} were submitted before it)" if sent else ""
            raise LaunchError(f"{error}{before}") from None
        told(f"{name}: submitted")
        sent.append(name)
    return sent


def _import_sky() -> Any:
    try:
        import sky
        import sky.jobs
    except ImportError:
        raise LaunchError(
            "SkyPilot is not installed: pip install 'memexp[cloud]', or add --local to run here"
        ) from None
    return sky


def _require_cloud(sky: Any) -> None:
    """Raises LaunchError unless an API server runs (none is started here) and a cloud is enabled."""
    try:
        sky.api_info()
    except Exception as error:
        raise LaunchError(
            f"no SkyPilot API server answers ({type(error).__name__}): run `sky api start` and `sky check`, "
            "or add --local to run here; nothing was submitted"
        ) from None
    if not _ask(sky, "list the enabled clouds", sky.enabled_clouds):
        raise LaunchError(
            "SkyPilot has no cloud enabled: set up credentials and run `sky check`, "
            "or add --local to run here; nothing was submitted"
        )


def _known_jobs(sky: Any) -> dict[str, str]:
    """Name -> status of the managed jobs that stand in the way of another of their name."""
    try:
        records, *_ = sky.get(sky.jobs.queue_v2(refresh=False))
    except sky.exceptions.ClusterNotUpError:  # no job was ever submitted: there is no controller yet
        return {}
    except Exception as error:
        raise LaunchError(f"SkyPilot could not read the job queue: {_reason(error)}") from None
    statuses = [(record.job_name, record.status.value) for record in records]
    return {name: status for name, status in statuses if status not in FINISHED_BADLY}


def _ask(sky: Any, what: str, request: Callable[[], Any]) -> Any:
    """The server's answer to a request; LaunchError with what was asked and SkyPilot's reason otherwise."""
    try:
        return sky.get(request())
    except Exception as error:  # SkyPilot raises dozens of types, bare NotImplementedError among them
        raise LaunchError(f"SkyPilot could not {what}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
