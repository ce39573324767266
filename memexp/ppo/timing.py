"""Where an update's time goes: seconds of its named parts, without making a GPU wait for the host in between."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch


class Stopwatch:
    """Adds up the seconds of named parts. On a CUDA device events are recorded, and read together by `read`."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, Any, Any]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs inside belongs to part `name`; parts may stand inside others and repeat. What is captured as a CUDA
        graph is not measured: it runs later."""
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
        """Seconds of each part since the last call; waits once for what the GPU still has to do."""
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


def gpu_use(device: torch.device) -> dict[str, float]:
    """gpu/utilization (per cent of the last moment in which kernels ran) and gpu/memory_gb (most allocated so far, 1e9
    bytes); empty on a CPU, without the first where the driver's library (`nvidia-ml-py`) is missing or cannot tell (of
    a part of a GPU)."""
    if device.type != "cuda":
        return {}
    use = {"gpu/memory_gb": torch.cuda.max_memory_allocated(device) / 1e9}
    with suppress(Exception):  # the library's own errors, which have no class in common with others
        use["gpu/utilization"] = float(torch.cuda.utilization(device))
    return use
