"""memexp: does an environment require memory, do agents learn, do they converge, and how long does it take."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memexp.loading import LoadedRun

__version__ = "0.1.0"


def load(run: str | Path) -> "LoadedRun":
    """A run by its name below $MEMEXP_HOME, or by the path of its directory. Raises UsageError if there is none."""
    return import_module("memexp.loading").load(run)  # what it needs is imported when it is asked for
