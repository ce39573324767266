"""Memory: `build_stack` makes a stack of recurrent cells from a pattern string.

`build_stack` is imported on first use, so that planning with `memexp.cortex.config` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memexp.cortex.stack import Stack as Stack
    from memexp.cortex.stack import build_stack as build_stack

__all__ = ["Stack", "build_stack"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("memexp.cortex.stack"), name)
    raise AttributeError(f"module 'memexp.cortex' has no attribute '{name}'")
