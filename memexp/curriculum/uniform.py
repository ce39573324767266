"""Uniformly drawn tasks: training tasks from 0..1,000,000, held-out tasks from the next million.

A task depends on (seed, global env index, episode) alone, not on the order of calls or the number of ranks.
"""

from memexp.curriculum.config import NUM_TASKS
from memexp.envs.base import TaskSource, mix64


def training_tasks(seed: int) -> TaskSource:
    """Draws uniformly from the training tasks."""
    return lambda env, episode: mix64(seed, env, episode, 0x7A5C) % NUM_TASKS


def held_out_tasks(seed: int) -> TaskSource:
    """Draws uniformly from tasks that training never draws."""
    return lambda env, episode: NUM_TASKS + mix64(seed, env, episode, 0x4E1D) % NUM_TASKS
