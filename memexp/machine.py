"""What this process may use of its machine: cores and memory, as its scheduler or container allows; who uses them."""

import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows control groups (version 2)."""


def cores() -> int:
    """Number of cores: those of the CPU affinity, but not more than the quota (cpu.max) of any control group."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups():
        quota, *period = _words(group / "cpu.max")
        if quota.isdecimal():
            usable = min(usable, math.ceil(int(quota) / int(period[0])))
    return max(1, usable)


def cpu_name() -> str:
    """This machine without its GPUs, as run.json and throughput tables name it."""
    return f"{cores()}-core CPU"


def gpu_names() -> list[str]:
    """Names of this machine's GPUs, as their driver gives them."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return listed.stdout.splitlines() if listed.returncode == 0 else []


def visible_gpus() -> list[str]:
    """The GPUs of this machine that may be used, as CUDA_VISIBLE_DEVICES names them."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name and name != "-1"]
    return [str(number) for number, _ in enumerate(gpu_names())]


def free_memory() -> int:
    """Bytes that processes can still take: of the machine, but not more than any control group leaves (memory.max)."""
    import psutil

    free = psutil.virtual_memory().available
    for group in _groups():
        (limit,), (used,) = _words(group / "memory.max"), _words(group / "memory.current")
        if limit.isdecimal() and used.isdecimal():
            counts = iter(_words(group / "memory.stat"))
            cached = int(dict(zip(counts, counts, strict=False)).get("inactive_file", 0))  # given up when needed
            free = min(free, int(limit) - int(used) + cached)
    return max(0, free)


class Activity:
    """Tells hung processes from those that are slow because the machine is busy: only the latter use CPU."""

    def __init__(self, pids: Sequence[int]):
        self._pids, self._cpu_s, self._since, self._looked = pids, 0.0, time.monotonic(), -math.inf

    def idle_s(self) -> float:
        """Seconds since the processes and their descendants have together used another second of CPU."""
        now = time.monotonic()
        if now - self._looked >= 1:
            cpu_s, self._looked = sum(map(_cpu_s, self._pids)), now
            if abs(cpu_s - self._cpu_s) >= 1:
                self._cpu_s, self._since = cpu_s, now
        return now - self._since


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and its descendants have used."""
    import psutil

    used = 0.0
    with suppress(psutil.Error):
        for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.Error):
                used += sum(one.cpu_times()[:2])
    return used


def _groups() -> Iterator[Path]:
    """The control group of this process and those that contain it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    own = [CGROUPS / line[3:].strip("/") for line in lines if line.startswith("0::")]
    yield from (group for one in own for group in (one, *one.parents) if group.is_relative_to(CGROUPS))


def _words(file: Path) -> list[str]:
    """The words of a file; one empty word if it cannot be read."""
    try:
        return file.read_text().split() or [""]
    except OSError:
        return [""]
