"""Reference levels: what players that do not learn reach, and how far back the task asks to remember."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from memexp.analysis.load import Environment


@dataclass(frozen=True, eq=False)
class Levels:
    """Returns of players that do not learn; None where not known."""

    random: np.ndarray
    """[seeds] the uniformly random policy's mean return, as each seed measured it."""
    memoryless: float | None
    """A scripted player that sees the present observation alone."""
    ceiling: float | None
    """One with memory that plays well, or the best possible."""
    oracle: float | None
    """One that sees the whole state."""
    span: int | None
    """Agent steps that the task asks to remember."""

    def as_dict(self, solved: float | None) -> dict[str, Any]:
        n = len(self.random)
        return {
            "random": {
                "mean": float(self.random.mean()) if n else None,
                "sd": float(self.random.std(ddof=1)) if n > 1 else None,
                "n": n,
            },
            "memoryless": self.memoryless,
            "ceiling": self.ceiling,
            "oracle": self.oracle,
            "solved": solved,
        }


def find_levels(environment: Environment) -> Levels:
    """The environment's reference levels, from its runs' run.json; where runs differ, the highest."""

    def highest(field: str) -> Any:
        values = [getattr(seed.info, field) for seed in environment.seeds]
        return max((value for value in values if value is not None and math.isfinite(value)), default=None)

    return Levels(
        environment.random_returns,
        highest("memoryless_return"),
        environment.ceiling,
        highest("oracle_return"),
        highest("memory_span"),
    )
