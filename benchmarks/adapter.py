"""What the adapter costs: agent steps/s of an environment through this project over those of PufferLib alone.

    python benchmarks/adapter.py [gym:CartPole-v1 ...]

Both run the same environments in the same process or in two workers, with the same random actions; PufferLib alone
uses its own emulation and vectorisation, which begin an episode one step late and keep no last observation. Rounds of
one and the other take turns; a figure is the median of the rounds' ratios, with the smallest and the largest. Serial
rates are steps per second of this process's CPU time (a busy machine does not disturb them), the others per second.
"""

import sys
import time
from statistics import median
from typing import Any

import numpy as np
import pufferlib.vector
import torch
from pufferlib.emulation import GymnasiumPufferEnv

from memexp import envs
from memexp.envs.config import ThirdParty
from memexp.envs.puffer.source import make_one

WORLDS, ROUNDS, SECONDS = 32, 9, 0.5
PLACES = {"serial": ("Serial", {}), "multiprocessing": ("Multiprocessing", {"num_workers": 2, "overwork": True})}


def emulated(id: str, buf: Any = None, seed: int = 0) -> GymnasiumPufferEnv:
    """The environment as PufferLib alone takes it."""
    return GymnasiumPufferEnv(env=make_one(ThirdParty(id=id)), buf=buf, seed=seed)


def rate(step: Any, actions: Any, clock: Any) -> float:
    """Steps/s of all worlds over a round."""
    done, started = 0, clock()
    while clock() - started < SECONDS:
        for action in actions[:50]:
            step(action)
        done += 50
    return done * WORLDS / (clock() - started)


def compare(id: str, place: str) -> None:
    """Print one line for the environment in this place."""
    backend, words = PLACES[place]
    alone = pufferlib.vector.make(emulated, env_kwargs={"id": id}, backend=backend, num_envs=WORLDS, **words)
    adapted = envs.make(id, WORLDS, backend=place, workers=2)
    try:
        alone.reset()
        adapted.reset()
        rng = np.random.default_rng(0)
        space = alone.single_action_space
        numbers = np.stack([[space.sample() for _ in range(WORLDS)] for _ in range(50)])
        given = [torch.from_numpy(row) for row in rng.permutation(numbers)]
        clock = time.process_time if place == "serial" else time.perf_counter
        rates = [(rate(adapted.step, given, clock), rate(alone.step, numbers, clock)) for _ in range(ROUNDS)]
    finally:
        alone.close()
        adapted.close()
    ratios = [ours / theirs for ours, theirs in rates]
    ours, theirs = (median(column) for column in zip(*rates, strict=True))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"{id:24} {place:16} {ours:9,.0f} {theirs:9,.0f}   {median(ratios):.2f} ({spread})", flush=True)


if __name__ == "__main__":
    print(f"{'environment':24} {'where':16} {'memexp':>9} {'PufferLib':>9}   ratio of agent steps/s")
    for name in sys.argv[1:] or ["gym:CartPole-v1", "gym:MiniGrid-MemoryS7-v0"]:
        for where in PLACES:
            compare(name, where)
