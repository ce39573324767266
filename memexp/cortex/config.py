"""The configuration of a memory stack. Imports neither torch nor numba, so that planning is instant."""

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from memexp.config import Config
from memexp.modules import refuse_standard_library
from memexp.pattern import Pattern, cell_modules, tokens_in

AGALITE_HEADS = 8
"""Heads of Ag; n_heads does not change it."""
MAMBA_STATE = 64
"""Numbers that B keeps of each of its features."""


def mamba_heads(d_hidden: int) -> int:
    """Heads of B: of 64 features each, or of as many as divide its inner width, 2 d_hidden."""
    return 2 * d_hidden // math.gcd(2 * d_hidden, 64)


class CortexConfig(Config):
    """A memory stack: its cells, width, depth, and whether its memory is on."""

    pattern: str | list[str] = "X"
    """Cortex pattern ("X", "S", "AgSA", "X^S", "cells:MinGRU"); a list gives one pattern a layer."""
    d_hidden: int = Field(default=128, gt=0, le=65_536)
    """Width of the stack, features."""
    num_layers: int = Field(default=4, gt=0, le=1_000)
    """Number of columns in sequence."""
    n_heads: int = Field(default=4, gt=0)
    """Heads of attention and of the per-head recurrent matrices; divides d_hidden."""
    mem_len: int = Field(default=128, ge=0, le=1_000_000)
    """Steps that X attends to, besides the current one; 0 is truly memoryless. Other cells ignore it."""
    memory: Literal["on", "off"] = "on"
    """"off" resets the state before every step, in both passes: the memory-ablated twin."""
    compile: bool = False
    """Compile each block with torch.compile. It takes a minute at the start and is no faster on a CPU (`build_stack`).
    Results agree up to rounding, so a run may be resumed with or without it."""

    @field_validator("pattern")
    @classmethod
    def _pattern_is_known(cls, pattern: Pattern) -> Pattern:
        for module, _ in cell_modules(pattern):
            refuse_standard_library(module, "cells")
        return pattern

    @model_validator(mode="after")
    def _sizes_fit(self) -> "CortexConfig":
        if self.d_hidden % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_hidden={self.d_hidden}")
        if self.d_hidden % AGALITE_HEADS and "Ag" in tokens_in(self.pattern):
            raise ValueError(f"the {AGALITE_HEADS} heads of Ag do not divide d_hidden={self.d_hidden}")
        if isinstance(self.pattern, list) and len(self.pattern) != self.num_layers:
            raise ValueError(f"pattern lists {len(self.pattern)} layers but num_layers={self.num_layers}")
        return self
