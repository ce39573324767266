"""SkyPilot's queue of managed jobs, and its errors as one clear line each."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memexp.launch import LaunchError

_MACHINE = ("cluster_resources", "resources", "infra", "details", "cloud", "region", "zone", "schedule_state")
FIELDS = ("job_id", "job_name", "status", "recovery_count", "failure_reason", "job_duration", "submitted_at", *_MACHINE)
FAILURES = ("FAILED", "FAILED_SETUP", "FAILED_PRECHECKS", "FAILED_NO_RESOURCE", "FAILED_CONTROLLER")
ENDED = ("SUCCEEDED", "CANCELLED", *FAILURES)


@dataclass(frozen=True)
class Job:
    """A managed job."""

    number: int
    name: str
    status: str
    """As SkyPilot names it: PENDING, RUNNING, RECOVERING, SUCCEEDED, ..."""
    recoveries: int = 0
    reason: str | None = None
    """Why it failed."""
    duration_s: float = 0.0
    """Seconds that it ran, without the time that recoveries took."""
    machine: str | None = None
    """Where it runs: "1x(gpus=L4:8, ...)[spot]"."""

    @property
    def failed(self) -> bool:
        return self.status in FAILURES

    @property
    def ended(self) -> bool:
        return self.status in ENDED


INSTEAD = ", or add --local to run here; nothing was submitted"
"""The end of each message that says why a launch cannot submit."""


def connect(instead: str = "") -> Any:
    """The `sky` module, if an API server answers (none is started here).

    Raises LaunchError that says what is missing and what to type, followed by `instead`.
    """
    sky = _import_sky(instead)
    try:
        sky.api_info()
    except Exception as error:
        raise LaunchError(
            f"no SkyPilot API server answers ({type(error).__name__}): run `sky api start` and `sky check`{instead}"
        ) from None
    return sky


def _import_sky(instead: str) -> Any:
    try:
        importlib.import_module("sky.jobs")
        return importlib.import_module("sky")
    except ImportError:
        raise LaunchError(f"SkyPilot is not installed: pip install 'memexp[cloud]'{instead}") from None


def require_cloud(sky: Any) -> None:
    """Raises LaunchError unless a cloud is enabled."""
    if not ask(sky, "list the enabled clouds", lambda: sky.client.sdk.enabled_clouds()):
        raise LaunchError(f"SkyPilot has no cloud enabled: set up credentials and run `sky check`{INSTEAD}")


def read_queue(sky: Any) -> dict[str, Job]:
    """Name -> the newest job of that name. Raises LaunchError."""
    try:
        records, *_ = sky.get(sky.jobs.queue_v2(refresh=False, fields=list(FIELDS)))
    except sky.exceptions.ClusterNotUpError:  # no job was ever submitted: there is no controller yet
        return {}
    except Exception as error:
        raise LaunchError(f"SkyPilot could not read the job queue: {reason_of(error)}") from None
    jobs = [
        Job(
            record.job_id or 0,
            record.job_name,
            record.status.value,
            record.recovery_count or 0,
            " ".join((record.failure_reason or "").split()) or None,
            record.job_duration or 0.0,
            record.cluster_resources if record.cluster_resources not in (None, "-") else record.resources,
        )
        for record in records
        if record.job_name and record.status
    ]
    return {job.name: job for job in sorted(jobs, key=lambda job: job.number)}


def settle(sky: Any, told: Callable[[str], None]) -> None:
    """Wait for submissions that an interrupted launch left to the server: their jobs are not in the queue yet."""
    try:
        open_requests = [one for one in sky.api_status(all_status=False) if one.name.endswith("jobs.launch")]
    except Exception as error:
        raise LaunchError(f"SkyPilot could not list its requests: {reason_of(error)}") from None
    if open_requests:
        told(f"waiting for {len(open_requests)} submissions that an earlier launch began")
    for request in open_requests:
        try:
            sky.get(request.request_id)
        except Exception as error:
            told(f"an earlier submission failed: {reason_of(error)}")


def ask(sky: Any, what: str, request: Callable[[], Any]) -> Any:
    """The server's answer to a request. Raises LaunchError with `what` was asked and SkyPilot's reason."""
    try:
        return sky.get(request())
    except Exception as error:  # SkyPilot raises dozens of types, bare NotImplementedError among them
        raise LaunchError(f"SkyPilot could not {what}: {reason_of(error)}") from None


def reason_of(error: BaseException) -> str:
    """The message of an error on one line; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
