"""SkyPilot's queue of managed jobs, by the names of runs, and its errors as one clear line each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memexp.launch import LaunchError

FIELDS = ("job_id", "job_name", "status", "recovery_count", "failure_reason", "job_duration", "submitted_at")
FIELDS += ("cluster_resources", "resources", "infra", "details", "cloud", "region", "zone", "schedule_state")
BADLY = ("FAILED", "FAILED_SETUP", "FAILED_PRECHECKS", "FAILED_NO_RESOURCE", "FAILED_CONTROLLER")
ENDED = ("SUCCEEDED", "CANCELLED", *BADLY)


@dataclass(frozen=True)
class Job:
    """A managed job."""

    number: int
    name: str
    status: str
    """SkyPilot's word: PENDING, RUNNING, RECOVERING, SUCCEEDED, ..."""
    recoveries: int = 0
    reason: str | None = None
    """Why it failed."""
    duration_s: float = 0.0
    """Seconds that it ran, without the time in which it was recovered."""
    machine: str | None = None
    """What it runs on: "1x(gpus=L4:8, ...)[spot]"."""

    @property
    def failed(self) -> bool:
        return self.status in BADLY

    @property
    def ended(self) -> bool:
        return self.status in ENDED


INSTEAD = ", or add --local to run here; nothing was submitted"
"""What a launch adds to the reason why it cannot submit."""


def connect(instead: str = "") -> Any:
    """The `sky` module, once it is known that an API server answers (none is started here).

    Raises LaunchError that says what is missing and what to type, then `instead`.
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
        import sky
        import sky.jobs
    except ImportError:
        raise LaunchError(f"SkyPilot is not installed: pip install 'memexp[cloud]'{instead}") from None
    return sky


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
    jobs = sorted((_job(record) for record in records if record.job_name and record.status), key=lambda job: job.number)
    return {job.name: job for job in jobs}


def _job(record: Any) -> Job:
    machine = record.cluster_resources if record.cluster_resources not in (None, "-") else record.resources
    reason = " ".join((record.failure_reason or "").split()) or None
    return Job(
        record.job_id or 0,
        record.job_name,
        record.status.value,
        record.recovery_count or 0,
        reason,
        record.job_duration or 0.0,
        machine,
    )


def settle(sky: Any, told: Callable[[str], None]) -> None:
    """Wait for submissions that the server still works on: an interrupted launch leaves them to it, and their jobs are
    not in the queue yet."""
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
    """The server's answer to a request; LaunchError with what was asked and SkyPilot's reason otherwise."""
    try:
        return sky.get(request())
    except Exception as error:  # SkyPilot raises dozens of types, bare NotImplementedError among them
        raise LaunchError(f"SkyPilot could not {what}: {reason_of(error)}") from None


def reason_of(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
