"""Where the recorded reference data is: $MEMEXP_GOLDEN, by default ../shared/golden beside the checkout."""

import os
from pathlib import Path

import pytest

GOLDEN = Path(os.environ.get("MEMEXP_GOLDEN") or Path(__file__).parents[2].parent / "shared" / "golden")


def golden_cases(kind: str, pattern: str = "*.npz") -> list:
    """One pytest parameter for each file of GOLDEN/kind, with an id that contains 'golden' and the kind's first word.

    With kind "" the files lie in GOLDEN itself, and the word is the pattern's.

    Without GOLDEN there is one parameter that is skipped with a message; where MEMEXP_REQUIRE_GOLDEN is set (CI), that
    is an error instead.
    """
    word = (kind or pattern).partition("_")[0]
    if not GOLDEN.is_dir():
        reason = f"no golden data: {GOLDEN} is no directory (set MEMEXP_GOLDEN)"
        if os.environ.get("MEMEXP_REQUIRE_GOLDEN"):
            raise pytest.UsageError(reason)
        return [pytest.param(None, id=f"golden-{word}-missing", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(file, id=f"golden-{word}-{file.stem}") for file in sorted((GOLDEN / kind).glob(pattern))]
