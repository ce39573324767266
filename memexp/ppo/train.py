"""One run from its config to its exit, and a measurement of how fast it trains."""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import psutil
import torch

from memexp.config import UsageError
from memexp.console import say
from memexp.envs.config import ThirdParty
from memexp.machine import cores
from memexp.ppo.config import RESUMABLE, TrainConfig
from memexp.ppo.distributed import Ranks, join, leave
from memexp.ppo.horizon import measure_horizon, policy_with, remembers, training_passes
from memexp.ppo.record import described
from memexp.ppo.session import Session
from memexp.ppo.shutdown import record_failure
from memexp.ppo.trainer import Trainer
from memexp.runs import Exit, Run, loggers
from memexp.runs.identity import refuse_another_experiment
from memexp.runs.status import end_of, known

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def train(config: TrainConfig, *, argv: list[str] | None = None) -> Exit:
    """Train the run named `config.run` to its end, or resume it; returns how it ended.

    argv: the command line, for provenance.json. Under torchrun every rank calls this. Raises UsageError if the config
    cannot run or is not that of the existing run of this name, CheckpointError if the run has checkpoints but none can
    be read, OSError if the run directory cannot be read or begun.
    """
    if not config.run:
        raise UsageError("the run has no name: give run=NAME")
    _set_up_process(config)
    loggers.check(config.loggers, config.wandb.mode)
    run, info = Run.named(config.run), described(config)
    refuse_another_experiment(run, config.model_dump(), RESUMABLE)
    config = with_readings_of(run, config)
    outcome = end_of(run)
    if outcome and outcome.status == "completed":
        return outcome
    ranks = join(config.trainer.device, 2 * config.trainer.rank_timeout_seconds)
    session = None
    try:
        session = Session(config, run.path, ranks, argv or [])
        outcome = session.train()
    except (Exception, SystemExit) as error:
        if session or not isinstance(error, UsageError):  # a wrong config leaves no run directory
            record_failure(run, ranks, error, session.trainer.updates if session else 0, info)
        raise
    if session.together:  # else `leave` would wait for lost ranks
        leave()
    if outcome.status == "completed" and ranks.is_first:
        _look_back(config, run, session, ranks)
    return outcome


def with_readings_of(run: Run, config: TrainConfig) -> TrainConfig:
    """The config that reads observations as the existing `run` does: a run decides that once, at its start."""
    if not isinstance(config.env, ThirdParty):
        return config
    own = known(lambda: run.config.get("env"))
    stored = own.get("reading") if isinstance(own, dict) else None
    if not stored:
        return config
    return config.model_copy(update={"env": config.env.model_copy(update={"reading": stored})})


def _look_back(config: TrainConfig, run: Run, session: Session, ranks: Ranks) -> None:
    """Measure how far back the policy looks. The run is completed before: nothing that happens here changes that."""
    asked, trainer = config.evaluation.horizon_episodes, session.trainer
    if not asked or not remembers(config) or config.labels.tuning:  # trials of settings are not judged
        return
    try:
        policy = policy_with(config, trainer.env, trainer.policy.state_dict(), ranks.device)
        found = measure_horizon(config, policy, trainer.agent_steps, asked, training_passes(config))
        if found:
            run.write_horizon(found)
    except Exception as error:
        say(f"{run.name}: how far back it looks was not measured: {type(error).__name__}: {error}", error=True)


@dataclass(frozen=True)
class Throughput:
    """Agent steps per second of all ranks."""

    device: str
    """The GPU's name, or "cpu"."""
    gpus: int
    sps: float
    """Median over updates."""
    lowest: float
    highest: float
    updates: int
    start_s: float
    """Seconds from the start of the process to the first timed update."""


def measure(
    config: TrainConfig,
    updates: int,
    on_update: Callable[[float], None] | None = None,
    seconds: float = float("inf"),
) -> Throughput:
    """Measure the speed of `updates` updates, after a first one that compiles; writes no run directory.

    After `seconds` no further update begins. `on_update` gets the rate of each. Under torchrun every rank calls this.
    Raises UsageError if the config cannot run.
    """
    _set_up_process(config)
    ranks = join(config.trainer.device)
    try:
        with closing(Trainer(config, ranks)) as trainer:
            _rate_of_update(trainer)
            rates, began = list[float](), time.monotonic()
            start_s = time.time() - psutil.Process().create_time()
            while len(rates) < updates and (not rates or max(ranks.gather(time.monotonic() - began)) < seconds):
                rates.append(_rate_of_update(trainer))
                if on_update and ranks.is_first:
                    on_update(rates[-1])
        on_gpu = ranks.device.type == "cuda"
        name = torch.cuda.get_device_name(ranks.device) if on_gpu else "cpu"
        sps, gpus = statistics.median(rates), ranks.world_size * on_gpu
        return Throughput(name, gpus, sps, min(rates), max(rates), len(rates), start_s)
    finally:
        leave()


def _rate_of_update(trainer: Trainer) -> float:
    before, began, device = trainer.agent_steps, time.perf_counter(), trainer.ranks.device
    trainer.train_step()
    trainer.pop_episodes()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (trainer.agent_steps - before) / (time.perf_counter() - began)


def _set_up_process(config: TrainConfig) -> None:
    torch.set_num_threads(config.trainer.threads or min(torch.get_num_threads(), cores()))
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Make glibc keep large blocks of memory that PyTorch frees on the CPU, for the next tensor of their size.

    By default it returns blocks of 32 MiB and more to the system at once and maps every page anew at the next step:
    half the time of acting with a long memory (X, mem_len 128, 4 layers, 512 rows: 73 ms a step, then 36 ms). The
    process then keeps the most memory that it ever needed. Without glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
