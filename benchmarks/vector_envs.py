"""Steps/s of CartPoles that one vector environment steps as a batch, and of CartPoles stepped one by one.

    python benchmarks/vector_envs.py [vec:CartPole-v1 gymnax:CartPole-v1 envpool:CartPole-v1 ...]

All play the same random actions in this process. Rounds of the batch and of the same number of gym:CartPole-v1 take
turns; a figure is the median of the rounds' ratios, with the smallest and the largest. Rates are environment steps per
second of this process's CPU time, which a busy machine hardly disturbs, and per second. What is not installed is named.
"""

import sys
import time
from statistics import median
from typing import Any

import torch

from memexp import envs
from memexp.config import UsageError
from memexp.envs.base import random_actions

WORLDS, ROUNDS, STEPS = 64, 7, 300
ONE_BY_ONE = "gym:CartPole-v1"


def rates(env: Any, actions: list[torch.Tensor]) -> tuple[float, float]:
    """Steps/s of all environments over a round: per second of CPU time, and per second."""
    begun = time.process_time(), time.perf_counter()
    played = 0
    for action in actions:
        resetting = 0 if env.resetting is None else int(env.resetting.sum())
        env.step(action)
        played += WORLDS - resetting  # a step that only resets is none
    return played / (time.process_time() - begun[0]), played / (time.perf_counter() - begun[1])


def compare(name: str) -> None:
    """Print one line for a batch."""
    try:
        batch = envs.make(name, WORLDS)
    except UsageError as error:
        print(f"{name:24} {error}")
        return
    single = envs.make(ONE_BY_ONE, WORLDS, backend="serial")
    generator = torch.Generator().manual_seed(0)
    obs = batch.desync()  # also compiles
    actions = [random_actions(batch, obs, generator) for _ in range(STEPS)]
    single.desync()
    found = [(rates(batch, actions), rates(single, actions)) for _ in range(ROUNDS)]
    ratios = sorted(fast[0] / slow[0] for fast, slow in found)
    columns = [f"{median(pair[i][kind] for pair in found):9,.0f}" for i in (0, 1) for kind in (0, 1)]
    print(f"{name:24} {'  '.join(columns)}   {median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})", flush=True)
    batch.close()
    single.close()


if __name__ == "__main__":
    print(f"{'':24} {'batch':^20}  {'one by one':^20}")
    print(f"{WORLDS} environments{'':9} {'CPU s':>9}  {'s':>9}  {'CPU s':>9}  {'s':>9}   ratio of steps/s of CPU time")
    for batch_name in sys.argv[1:] or ["vec:CartPole-v1", "envpool:CartPole-v1", "gymnax:CartPole-v1"]:
        compare(batch_name)
