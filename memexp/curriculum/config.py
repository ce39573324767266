"""The curriculum's config: which tasks training draws. Imports neither torch nor numba."""

from typing import Literal

from pydantic import Field, model_validator

from memexp.config import Config

NUM_TASKS = 1_000_001
"""Training tasks: ids 0..1,000,000, as in the original curriculum."""


class CurriculumConfig(Config):
    """How training chooses the task of each episode. All fields but `kind` belong to `learning_progress`.

    A task's score is the episode's return (mean over agents), clipped to 0..1. Averages live on p = 2 * score - 1,
    from -1 to 1. What the fields do together: `memexp.curriculum.learning_progress`.
    """

    kind: Literal["uniform", "learning_progress"] = "uniform"
    """uniform: every task is as likely, whatever the agents can do. learning_progress: a small pool of tasks is
    played, more often those on which the return changes; tasks that teach nothing are replaced by new ones."""
    num_active_tasks: int = Field(default=64, ge=1, le=100_000)
    """Tasks in the pool. More: each is played less often, and progress on it is seen later."""
    min_presentations_for_eviction: int = Field(default=5, ge=1)
    """Finished episodes of a task before it may be replaced."""
    ema_timescale: float = Field(default=0.001, gt=0, le=1)
    """Weight of the newest episode in a task's fast average; 1 / this is its reach in episodes of that task."""
    slow_timescale_factor: float = Field(default=0.2, gt=0, le=1)
    """Weight of the newest episode in the slow average, as a share of `ema_timescale`. The gap between the averages is
    the progress: 1 leaves none."""
    exploration_bonus: float = Field(default=0.1, ge=0)
    """Least learning progress that a task is drawn by, in units of p; that of tasks with fewer than two episodes."""
    progress_smoothing: float = Field(default=0.05, ge=0, le=0.5)
    """q of the map p (1 - q) / (p + q (1 - 2p)) that averages go through before their gap is taken: the smaller, the
    more a gap near p = 0 counts. 0 and 0.5 take the averages as they are."""
    lp_gain: float = Field(default=0.1, ge=0)
    """Weight of being good at a task, beside getting better, in its learning progress."""
    memory: int = Field(default=25, ge=1)
    """Latest scores kept of a task, episodes; the logged mean score is theirs. Choosing does not depend on it."""
    max_memory_tasks: int = Field(default=1000, ge=1)
    """Tasks that are remembered: the pool, and replaced tasks whose episodes finished later. They all count in the
    comparison that says which tasks may be replaced. The oldest is forgotten first."""

    @model_validator(mode="after")
    def _the_pool_is_remembered(self) -> "CurriculumConfig":
        if self.max_memory_tasks < self.num_active_tasks:
            raise ValueError(
                f"max_memory_tasks={self.max_memory_tasks} cannot hold num_active_tasks={self.num_active_tasks}: "
                "it must be at least as large"
            )
        return self
