"""How fast a config trains on this machine: agent steps per second over a few updates, without a run directory."""

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import torch

from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import join, leave
from memexp.ppo.malloc import keep_freed_memory
from memexp.ppo.trainer import Trainer


@dataclass(frozen=True)
class Throughput:
    """What was measured."""

    device: str
    """The GPU's name; "cpu"."""
    gpus: int
    sps: float
    """Median over updates of the agent steps per second of all ranks."""
    lowest: float
    highest: float
    updates: int


def measure(config: TrainConfig, updates: int, tell: Callable[[float], None] | None = None) -> Throughput:
    """Train `updates` updates after one that is not counted (it compiles); under torchrun every rank calls this.

    `tell` hears the rate of each. Raises UsageError for a config that cannot run here.
    """
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    keep_freed_memory()
    ranks = join(config.trainer.device)
    try:
        with closing(Trainer(config, ranks)) as trainer:
            _turn(trainer)
            rates = []
            for _ in range(updates):
                rates.append(_turn(trainer))
                if tell and ranks.is_first:
                    tell(rates[-1])
        on_gpu = ranks.device.type == "cuda"
        name = torch.cuda.get_device_name(ranks.device) if on_gpu else "cpu"
        sps, gpus = statistics.median(rates), ranks.world_size * on_gpu
        return Throughput(name, gpus, sps, min(rates), max(rates), updates)
    finally:
        leave()


def _turn(trainer: Trainer) -> float:
    """One update and what a run has to do after each; agent steps per second of all ranks."""
    before, begun, device = trainer.agent_steps, time.perf_counter(), trainer.ranks.device
    trainer.train_step()
    trainer.pop_episodes()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (trainer.agent_steps - before) / (time.perf_counter() - begun)
