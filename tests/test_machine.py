"""Cores and memory that a scheduler or container leaves to this process decide how much runs at once."""

import os
from types import SimpleNamespace

import psutil
import pytest
import torch

from memexp import machine
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.workers import number_of_workers
from memexp.launch import local
from memexp.machine import Activity, cores, free_memory
from memexp.ppo import train
from memexp.ppo.config import TrainConfig

GB = 1 << 30


@pytest.fixture
def group(tmp_path, monkeypatch):
    """The files of a control group, on a machine with 96 cores and 512 GB."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(96)), raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 96)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=512 * GB))
    monkeypatch.setattr(local, "visible_gpus", list)
    return lambda **files: [(tmp_path / name.replace("_", ".")).write_text(text) for name, text in files.items()]


def test_processes_are_idle_from_the_last_second_of_cpu_that_they_used(monkeypatch):
    now, used = 0.0, {1: 5.0, 2: 0.0}
    monkeypatch.setattr(machine, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(machine, "_cpu_s", used.get)
    activity, idle = Activity([1, 2]), []
    for now in range(10):
        used[2] += {3: 0.6, 6: 0.6}.get(now, 0.0)
        if now == 8:
            used[1] = 0.0  # it has ended
        idle.append(activity.idle_s())
    assert idle == [0, 1, 2, 3, 4, 5, 0, 1, 0, 1]
    monkeypatch.undo()
    assert machine._cpu_s(os.getpid()) > 0


@pytest.mark.parametrize(
    ("quota", "number"),
    [("max 100000", 96), ("100000 100000", 1), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 96)],
)
def test_a_quota_of_processor_time_counts_as_that_many_cores(group, quota, number):
    group(cpu_max=quota)
    assert cores() == number


def test_the_quota_of_a_group_above_counts(group, tmp_path, monkeypatch):
    inner = tmp_path / "job" / "step"
    inner.mkdir(parents=True)
    (tmp_path / "job" / "cpu.max").write_text("400000 100000")
    (inner / "cpu.max").write_text("max 100000")
    monkeypatch.setattr(machine, "_groups", lambda: (inner, inner.parent, tmp_path))
    assert cores() == 4


def test_an_affinity_to_one_core_means_one_job_one_thread_and_no_workers(group, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert local.default_jobs(1) == 1
    environment = local.environment_of(0, 1, 1)
    assert (environment["OMP_NUM_THREADS"], environment["NUMBA_NUM_THREADS"]) == ("1", "1")
    assert number_of_workers(ThirdParty(id="gym:CartPole-v1"), 64) == 0


def test_a_run_takes_no_more_threads_than_the_quota(group, monkeypatch):
    group(cpu_max="100000 100000")
    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 96)
    try:
        train._set_up_process(TrainConfig())
        monkeypatch.undo()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("files", "jobs"),
    [
        ({}, 96),
        ({"memory_max": "max", "memory_current": str(500 * GB)}, 96),
        ({"memory_max": str(8 * GB), "memory_current": str(3 * GB)}, 5),
        ({"memory_max": str(8 * GB), "memory_current": str(3 * GB), "memory_stat": f"anon 1\ninactive_file {GB}"}, 6),
        ({"memory_max": str(GB), "memory_current": str(2 * GB)}, 1),
    ],
)
def test_as_many_jobs_run_at_once_as_fit_into_memory(group, files, jobs):
    group(**files)
    assert local.default_jobs(1) == jobs
    assert local.default_jobs(2) == max(1, jobs // 2)


def test_a_damaged_limit_is_no_limit(group):
    group(cpu_max="", memory_max="many", memory_current="")
    assert (cores(), free_memory()) == (96, 512 * GB)
