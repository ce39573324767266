"""A stand-in for SkyPilot's server behind its own Task class: requests, jobs, and what an interrupted client leaves."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TextIO


class FakeSky:
    """`sky` as far as launches use it. A submission is a request first; its job is in the queue once it is answered."""

    def __init__(self, clouds=("aws",), refuses: Callable[[str], Exception | None] = lambda name: None):
        import sky

        self.Task, self.exceptions = sky.Task, sky.exceptions
        self.clouds, self.refuses = list(clouds), refuses
        self.client = SimpleNamespace(sdk=SimpleNamespace(enabled_clouds=lambda: lambda: self.clouds))
        self.requests: dict[str, tuple[str, Any]] = {}
        """Open submissions: id -> name and task."""
        self.records: list[SimpleNamespace] = []
        self.most_at_once = 0
        self.cancelled: list[int] = []
        self.lost_cancels = 0
        """Requests to cancel that are lost: the job goes on."""
        self.jobs = SimpleNamespace(
            launch=self._launch, queue_v2=self._queue, cancel=self._cancel, tail_logs=self._logs
        )
        self.tails: list[tuple[int, bool]] = []
        self._count = 0

    def add(self, name: str, status: str, **fields: Any) -> None:
        """A job in the queue."""
        known = {"recovery_count": 0, "failure_reason": None, "job_duration": 0.0, "cluster_resources": None}
        known |= {"resources": "1x[L4:8]", "job_id": len(self.records) + 1, "job_name": name}
        self.records.append(SimpleNamespace(**{**known, **fields, "status": SimpleNamespace(value=status)}))

    @property
    def names(self) -> list[str]:
        return [record.job_name for record in self.records]

    def api_info(self) -> None: ...

    def api_status(self, all_status: bool) -> list[SimpleNamespace]:
        return [SimpleNamespace(request_id=number, name="jobs.launch") for number in self.requests]

    def get(self, request: Any) -> Any:
        if not isinstance(request, str):
            return request()
        name, _ = self.requests.pop(request)
        if error := self.refuses(name):
            raise error
        self.add(name, "PENDING")
        return [len(self.records)], None

    def _launch(self, task: Any, name: str) -> str:
        self._count += 1
        number = f"request-{self._count}"
        self.requests[number] = (name, task)
        self.most_at_once = max(self.most_at_once, len(self.requests))
        return number

    def _queue(self, refresh: bool, fields: list[str]) -> Callable[[], Any]:
        return lambda: (list(self.records), len(self.records), {}, 0)

    def _cancel(self, job_ids: list[int]) -> Callable[[], None]:
        self.cancelled += job_ids
        if self.lost_cancels:
            self.lost_cancels -= 1
        else:
            for record in self.records:
                if record.job_id in job_ids:
                    record.status = SimpleNamespace(value="CANCELLING")
        return lambda: None

    def _logs(self, job_id: int, follow: bool, output_stream: TextIO) -> int:
        self.tails.append((job_id, follow))
        print(f"what job {job_id} said \x1b[2J", file=output_stream)
        return 0
