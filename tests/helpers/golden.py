"""Where the golden data is: $MEMEXP_GOLDEN, else ../shared/golden beside the checkout, else the subset tests/golden.

MEMEXP_REQUIRE_GOLDEN=1 makes it an error if the full set is missing.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

SUBSET = Path(__file__).parents[1] / "golden"
FULL = Path(__file__).parents[2].parent / "shared" / "golden"
PARTS = ("assembly_lines", "cortex", "cvc_random_maps")
"""Folders of recordings; each has an entry in the full set and in the subset."""
TABLES = (
    "learning_progress_trace.json", "map_statistics.json", "random_policy_statistics.json", "task_samples.json",
)  # fmt: skip


def find_golden(environ: Mapping[str, str] = os.environ, full: Path = FULL) -> Path:
    """The folder to take golden data from.

    Raises:
        pytest.UsageError: $MEMEXP_GOLDEN is not a folder, or the full set is required and incomplete.
    """
    chosen = environ.get("MEMEXP_GOLDEN")
    golden = Path(chosen) if chosen else full if full.is_dir() else SUBSET
    if not golden.is_dir():
        raise pytest.UsageError(f"MEMEXP_GOLDEN={chosen} is not a folder; unset it to use {SUBSET}")
    if environ.get("MEMEXP_REQUIRE_GOLDEN"):
        if is_subset(golden):
            raise pytest.UsageError(
                f"MEMEXP_REQUIRE_GOLDEN is set, but only the subset {SUBSET} is here; put the full set into {full}"
            )
        missing = [name for name in (*PARTS, *TABLES) if not (golden / name).exists()]
        if missing:
            raise pytest.UsageError(f"MEMEXP_REQUIRE_GOLDEN is set, but {golden} lacks {', '.join(missing)}")
    return golden


def is_subset(golden: Path) -> bool:
    """Whether `golden` is the subset of the repository, or no larger than it."""
    return golden.resolve() == SUBSET.resolve() or all(
        sum(1 for _ in (golden / part).glob("*.npz")) <= sum(1 for _ in (SUBSET / part).glob("*.npz")) for part in PARTS
    )


def describe_golden() -> str:
    """One line for the end of a test run."""
    if not is_subset(GOLDEN):
        return f"golden data: the full set in {GOLDEN}"
    return f"golden data: only a subset, in {GOLDEN} (MEMEXP_GOLDEN names the folder of the full set)"


GOLDEN = find_golden()


def golden_cases(kind: str, pattern: str = "*.npz") -> list:
    """One pytest parameter for each file of GOLDEN/kind, with an id that contains 'golden' and the kind's first word.

    With kind "" the files lie in GOLDEN itself, and the word is the pattern's.
    """
    word = (kind or pattern).partition("_")[0]
    return [pytest.param(file, id=f"golden-{word}-{file.stem}") for file in sorted((GOLDEN / kind).glob(pattern))]
