"""Memory: a pattern string becomes a stack of recurrent cells. Knows torch, nothing else of memexp.

`build_stack` is loaded when it is first asked for, so that planning with `memexp.cortex.config` imports no torch.
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
