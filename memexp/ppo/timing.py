"""Where an update's time goes: seconds of its parts, profiles of some updates, and how busy the GPU is."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

NOT_PROFILED = 2
"""First updates of a process, which are not profiled: they compile kernels and allocate memory."""
PARTS = ("rollout", "engine", "update", "logging")
Metrics = dict[str, float]


class Stopwatch:
    """Adds up the seconds of named parts. On a GPU it records events, which `read` reads together."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, Any, Any]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs inside counts as part `name`. Parts may contain each other and repeat.

        While a CUDA graph is captured nothing is measured: the kernels run later.
        """
        if self._on_gpu and torch.cuda.is_current_stream_capturing():
            yield
            return
        begin = self._now()
        yield
        if self._on_gpu:
            self._events.append((name, begin, self._now()))
        else:
            self._seconds[name] += self._now() - begin

    def read(self) -> dict[str, float]:
        """Seconds of each part since the last call. Waits for the GPU once."""
        if self._events:
            self._events[-1][2].synchronize()
        for name, begin, end in self._events:
            self._seconds[name] += begin.elapsed_time(end) / 1000
        seconds = dict(self._seconds)
        self._seconds.clear()
        self._events.clear()
        return seconds

    def _now(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class Profiler:
    """Profiles `count` updates of this process, from the third on, and writes into `folder`:

    update-N.json.gz   the trace of update N, for https://ui.perfetto.dev or chrome://tracing
    update-N.txt       its seconds by part, and the operators that took most of them
    """

    def __init__(self, folder: Path, count: int, device: torch.device):
        self.folder, self.device = folder, device
        self._updates, self._last = 0, NOT_PROFILED + count if count else 0

    def run(self, update: Callable[[], Metrics]) -> Metrics:
        """Call `update`, with the profiler if it is its turn; returns its metrics."""
        self._updates += 1
        if not NOT_PROFILED < self._updates <= self._last:
            return update()
        activities = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities, acc_events=True) as recorded:
            metrics = update()
        self.folder.mkdir(parents=True, exist_ok=True)
        recorded.export_chrome_trace(str(self.folder / f"update-{self._updates}.json.gz"))
        order = "self_cuda_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        operators = recorded.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=60)
        (self.folder / f"update-{self._updates}.txt").write_text(f"{time_split(metrics)}\n\n{operators}\n")
        return metrics


def time_split(metrics: Metrics) -> str:
    """A table of an update's seconds by part, and their shares of rollout + update + logging.

    The engine's time is part of the rollout's.
    """
    seconds = {part: metrics.get(f"time/{part}", 0.0) for part in PARTS}
    whole = sum(seconds.values()) - seconds["engine"]
    lines = [f"{part:<10}{value:10.3f} s{value / whole:8.1%}" for part, value in seconds.items()]
    return "\n".join(lines)


def gpu_use(device: torch.device) -> dict[str, float]:
    """gpu/memory_gb: most memory allocated so far (1e9 bytes); gpu/utilization: per cent of time in which kernels ran.

    Empty on a CPU. There is no utilization without the driver's library (`nvidia-ml-py`), or if it cannot measure it,
    as for a part of a GPU.
    """
    if device.type != "cuda":
        return {}
    use = {"gpu/memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    with suppress(Exception):  # the library's errors share no class of their own
        use["gpu/utilization"] = float(torch.cuda.utilization(device))
    return use
