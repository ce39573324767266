"""Profiles of some updates: torch's trace of each and a table of where the time went, in the run's directory."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

SKIPPED = 2
"""Updates that are not profiled: kernels are compiled and memory is fetched in them."""
PARTS = ("rollout", "engine", "update", "logging")
Metrics = dict[str, float]


class Profiler:
    """Records the updates after the first two of this process, `count` in number; writes into `folder`.

    update-N.json.gz   the trace of the process's update N, for https://ui.perfetto.dev or chrome://tracing
    update-N.txt       its time split and the operators that took most of it
    """

    def __init__(self, folder: Path, count: int, device: torch.device):
        self.folder, self.device = folder, device
        self._updates, self._last = 0, SKIPPED + count if count else 0

    def run(self, update: Callable[[], Metrics]) -> Metrics:
        """update(), recorded where it is one of those; returns its metrics."""
        self._updates += 1
        if not SKIPPED < self._updates <= self._last:
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
    """The seconds of an update's parts as a table; shares are of rollout, update and logging together. The engine's
    part is within the rollout's."""
    seconds = {part: metrics.get(f"time/{part}", 0.0) for part in PARTS}
    whole = sum(seconds.values()) - seconds["engine"]
    lines = [f"{part:<10}{value:10.3f} s{value / whole:8.1%}" for part, value in seconds.items()]
    return "\n".join(lines)
