"""The config of the curriculum. Imports neither torch nor numba."""

from typing import Literal

from pydantic import Field, model_validator

from memexp.config import Config

NUM_TASKS = 1_000_001
"""Number of training tasks: ids 0..1,000,000, as in MettaGrid."""


class CurriculumConfig(Config):
    """How training chooses the task of each episode. All fields but `kind` belong to `learning_progress`.

    The score of an episode is its return (mean over agents), clipped to 0..1. The averages are of p = 2 * score - 1,
    from -1 to 1. `memexp.curriculum.learning_progress` explains how the fields work together.
    """

    kind: Literal["uniform", "learning_progress"] = "uniform"
    """uniform: all tasks are equally likely. learning_progress: agents play a small pool of tasks, more often those
    with a changing return; tasks without progress are replaced by new ones."""
    num_active_tasks: int = Field(default=64, ge=1, le=100_000)
    """Number of tasks in the pool. With more tasks each is played less often, so progress shows later."""
    min_presentations_for_eviction: int = Field(default=5, ge=1)
    """Number of finished episodes of a task before it may be replaced."""
    ema_timescale: float = Field(default=0.001, gt=0, le=1)
    """Weight of the newest episode in a task's fast average, which covers about 1 / this many episodes of the task."""
    slow_timescale_factor: float = Field(default=0.2, gt=0, le=1)
    """Weight of the newest episode in the slow average, as a share of `ema_timescale`. The gap between the averages is
    the progress, so 1 means no progress."""
    exploration_bonus: float = Field(default=0.1, ge=0)
    """Least learning progress of a task, in units of p, and that of tasks with fewer than two episodes."""
    progress_smoothing: float = Field(default=0.05, ge=0, le=0.5)
    """q of the function p (1 - q) / (p + q (1 - 2p)), which is applied to both averages before their gap is taken. A
    smaller q gives a gap near p = 0 more weight. 0 and 0.5 leave the averages as they are."""
    lp_gain: float = Field(default=0.1, ge=0)
    """Weight of the fast average itself (being good at a task) in the learning progress."""
    memory: int = Field(default=25, ge=1)
    """Number of latest scores kept of each task, for the logged mean score. It does not affect the choice of tasks."""
    max_memory_tasks: int = Field(default=1000, ge=1)
    """Most remembered tasks: the pool, and replaced tasks whose episodes finished later. All of them count when tasks
    are compared for replacement. The oldest is forgotten first."""

    @model_validator(mode="after")
    def _the_pool_is_remembered(self) -> "CurriculumConfig":
        if self.max_memory_tasks < self.num_active_tasks:
            raise ValueError(
                f"max_memory_tasks={self.max_memory_tasks} cannot hold num_active_tasks={self.num_active_tasks}: "
                "it must be at least as large"
            )
        return self
