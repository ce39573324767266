"""What learning keeps for its backward pass grows with the number of steps, not with its square."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from memexp.cortex import build_stack
from memexp.cortex.stack import TOKEN_BLOCKS

saved_bytes = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "memory.py"))["saved_bytes"]


def growth(pattern: str, **options: Any) -> float:
    """Bytes kept per token with 256 steps over those with 64."""
    torch.manual_seed(0)
    stack, kept = build_stack(pattern, 32, 1, **options), []
    for T in (64, 256):
        kept.append(saved_bytes(stack, torch.randn(2, T, 32), torch.rand(2, T) < 0.02) / T)
    return kept[1] / kept[0]


@pytest.mark.parametrize("pattern", [*TOKEN_BLOCKS, "AgSA", "AXMS"])
def test_four_times_the_steps_keep_four_times_the_memory(pattern: str) -> None:
    assert 0.5 < growth(pattern, mem_len=0) < 1.1


@pytest.mark.parametrize("pattern", ["X", "X^"])
def test_so_they_do_where_a_step_attends_to_a_window(pattern: str) -> None:
    assert 0.5 < growth(pattern, mem_len=32) < 1.1


@pytest.mark.parametrize("mem_len", [0, 32])
def test_attention_to_all_earlier_steps_exceeds_these_bounds(mem_len: int) -> None:
    assert growth("X", mem_len=mem_len, published_xl=True) > 1.3
