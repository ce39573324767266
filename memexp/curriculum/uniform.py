"""Tasks drawn uniformly: training from 0..1,000,000, held-out tasks from the million that follows.

A task depends on (seed, global world number, episode) alone: no order of calls, no number of ranks changes the stream.
"""

from memexp.curriculum.config import NUM_TASKS
from memexp.envs.base import TaskSource, mix64


def training_tasks(seed: int) -> TaskSource:
    """Uniform over the training tasks."""
    return lambda world, episode: mix64(seed, world, episode, 0x7A5C) % NUM_TASKS


def held_out_tasks(seed: int) -> TaskSource:
    """Uniform over tasks that training never draws."""
    return lambda world, episode: NUM_TASKS + mix64(seed, world, episode, 0x4E1D) % NUM_TASKS
