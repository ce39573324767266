"""How training scales over ranks: a model of its efficiency, and two ranks on this machine to check it.

    python benchmarks/scaling.py [--only X0 S] [--repeats 4] [--rates X0=400000 AgSA=600000]

Every minibatch adds up the gradients of all ranks, float32, through one flat buffer. With P parameters, R ranks and a
ring (Patarasuk & Yuan 2009, doi:10.1016/j.jpdc.2008.09.002) each rank sends and receives 2 (R - 1) / R * 4 P bytes;
with a bandwidth of B bytes/s and a latency of l a message, one reduction takes

    t_reduce = 2 (R - 1) l + 2 (R - 1) / R * 4 P / B        efficiency = t / (t + minibatches * epochs * t_reduce)

where t is the time of an update without reductions (each rank has the same number of agents, whatever R is). Nothing is
assumed to overlap. The first table has it for the founding batch on one GPU a rank, at the given agent steps/s of one
GPU, which are goals and not measurements. The second runs two ranks here, over gloo: the reductions are timed within
updates and compared with what the formula gives for the bandwidth and latency of bare reductions of the same two ranks.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from train import ARMS, config

from memexp.ppo.distributed import Ranks
from memexp.ppo.trainer import Trainer

NETWORKS = {"NVLink, 300 GB/s": (300e9, 10e-6), "400 Gbit/s": (50e9, 20e-6), "25 Gbit/s": (3.1e9, 50e-6)}
"""Bandwidth in bytes/s and latency in seconds, as assumed."""
RANKS = (2, 8, 64)
ENV = "cvc_random_maps"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=ARMS, default=["X0", "X128", "S", "AgSA"])
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rates", nargs="*", default=["X0=400000", "X128=400000", "S=400000", "AgSA=600000"])
    arguments = parser.parse_args()
    rates = {name: float(rate) for name, _, rate in (word.partition("=") for word in arguments.rates)}
    predict(arguments.only, rates)
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(check, (arguments.only, arguments.repeats, folder), nprocs=2)  # type: ignore[attr-defined]


def reduction(parameters: int, ranks: int, bandwidth: float, latency: float) -> float:
    """Seconds of adding up the gradients once."""
    return 2 * (ranks - 1) * (latency + 4 * parameters / ranks / bandwidth)


def settings(arm: str, device: str = "cuda") -> Any:
    return config(ENV, arm, argparse.Namespace(device=device, dtype="float32", set=[]))


def predict(arms: list[str], rates: dict[str, float]) -> None:
    """Efficiency at the founding batch, 10,240 agents a rank."""
    print(f"{'':<6}{'params':>8}{'MB/update':>11}{'s/update':>10}", end="")
    print("".join(f"{f'{name}: ' + ', '.join(map(str, RANKS)) + ' ranks':>34}" for name in NETWORKS))
    for arm in arms:
        hyper = settings(arm).trainer
        minibatches, steps = hyper.num_minibatches * hyper.update_epochs, 20 * hyper.num_envs * hyper.horizon
        parameters = sum(p.numel() for p in Trainer(settings(arm, "cpu"), alone()).policy.parameters())
        update = steps / rates[arm]
        print(f"{arm:<6}{parameters / 1e6:7.2f}m{4e-6 * parameters * minibatches:11,.0f}{update:10.2f}", end="")
        for bandwidth, latency in NETWORKS.values():
            taken = (minibatches * reduction(parameters, ranks, bandwidth, latency) for ranks in RANKS)
            print(f"{'  '.join(f'{update / (update + seconds):.2%}' for seconds in taken):>34}", end="")
        print(flush=True)


def alone() -> Ranks:
    return Ranks(0, 1, torch.device("cpu"))


def check(rank: int, arms: list[str], repeats: int, folder: str) -> None:
    """One of two ranks: bare reductions, then updates whose reductions are timed."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{Path(folder) / 'meet'}", rank=rank, world_size=2)
    ranks = Ranks(rank, 2, torch.device("cpu"))
    latency = bare(1, 30) / 2
    if rank == 0:
        print(f"\ntwo ranks over gloo, one thread each; latency {latency * 1e6:.0f} us")
        print(f"{'':<6}{'s/update':>10}{'reductions':>12}{'predicted':>11}{'efficiency':>12}{'predicted':>11}")
    for arm in arms:
        line(Trainer(settings(arm, "cpu"), ranks), arm, repeats, latency)
    dist.destroy_process_group()


def bare(numbers: int, repeats: int) -> float:
    """Median seconds of adding up so many numbers."""
    flat, times = torch.zeros(numbers), []
    for _ in range(repeats):
        dist.barrier()
        begun = time.perf_counter()
        dist.all_reduce(flat)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def line(trainer: Trainer, arm: str, repeats: int, latency: float) -> None:
    gradients, spent = trainer.learner.gradients, []
    add_up = gradients.all_reduce

    def timed() -> None:
        dist.barrier()  # waiting for the slower rank is not the reduction's time
        begun = time.perf_counter()
        add_up()
        spent.append(time.perf_counter() - begun)

    gradients.all_reduce = timed  # type: ignore[method-assign]
    parameters = sum(p.numel() for p in trainer.policy.parameters())
    bandwidth = 4 * parameters / (bare(parameters, 10) - 2 * latency)
    updates, sums = [], []
    for repeat in range(1 + repeats):
        spent.clear()
        begun = time.perf_counter()
        trainer.train_step()
        if repeat:
            updates.append(time.perf_counter() - begun)
            sums.append(sum(spent))
    update, taken = statistics.median(updates), statistics.median(sums)
    hyper = trainer.config.trainer
    expected = hyper.num_minibatches * hyper.update_epochs * reduction(parameters, 2, bandwidth, latency)
    if trainer.ranks.is_first:
        efficiency, predicted = 1 - taken / update, 1 - expected / (update - taken + expected)
        figures = f"{update:10.2f}{taken:11.3f}s{expected:10.3f}s{efficiency:12.1%}{predicted:11.1%}"
        print(f"{arm:<6}{figures}", flush=True)


if __name__ == "__main__":
    main()
