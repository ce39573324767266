"""A program: random play in other people's environments, here and in two workers, as one digest a line.

With --without-pufferlib, PufferLib cannot be imported, as on a machine where it is not installed.
"""

import hashlib
import sys

if "--without-pufferlib" in sys.argv:
    sys.modules["pufferlib"] = None  # type: ignore[assignment]

import torch

from memexp import envs
from memexp.envs.base import random_actions

WORLDS = ("gym:CartPole-v1", "gym:Pendulum-v1", "gym:MiniGrid-MemoryS7-v0", "module:helpers.third_party:PartedPair")


def digest(name: str, backend: str) -> str:
    """Of everything that 150 steps of six environments tell the trainer, with episodes that begin out of phase."""
    env = envs.make(name, 6, seed=3, backend=backend, workers=2 if backend == "multiprocessing" else None, max_steps=40)
    seen, generator = hashlib.sha256(), torch.Generator().manual_seed(5)
    told = [env.reset(), env.desync()]
    for _ in range(150):
        told += [*env.step(random_actions(env, told[0], generator)), env.final_obs]
    told += [torch.as_tensor(column) for _, column in sorted(env.pop_episodes().items())]
    env.close()
    for tensor in told:
        seen.update(tensor.contiguous().numpy().tobytes())
    return seen.hexdigest()[:16]


if __name__ == "__main__":
    for world in WORLDS:
        print(world, *(digest(world, backend) for backend in ("serial", "multiprocessing")))
