"""Functions that several Triton kernels use."""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor


def contiguous(*tensors: Tensor | None) -> list[Any]:
    return [a if a is None else a.contiguous() for a in tensors]


@triton.jit
def keep(resets, at, mask=None):
    """The factor of the state before a step: 0 at a reset, else 1. `resets` may be None."""
    if resets is None:
        return 1.0
    else:  # noqa: RET505, without it Triton compiles both branches
        return (tl.load(resets + at, mask) == 0).to(tl.float32)
