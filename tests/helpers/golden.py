"""Where the recorded reference data is: $MEMEXP_GOLDEN, by default ../shared/golden beside the checkout."""

import os
from pathlib import Path

import pytest

GOLDEN = Path(os.environ.get("MEMEXP_GOLDEN", Path(__file__).parents[2].parent / "shared" / "golden"))


def golden_cases(kind: str, pattern: str = "*.npz") -> list:
    """One pytest parameter for each file of GOLDEN/kind, with an id that contains 'golden' and the kind's first word.

    Without the directory there is one parameter that is skipped with a message (CI refuses skipped golden tests).
    """
    word = kind.partition("_")[0]
    files = sorted((GOLDEN / kind).glob(pattern))
    if not files:
        reason = f"no golden data in {GOLDEN / kind} (set MEMEXP_GOLDEN)"
        return [pytest.param(None, id=f"golden-{word}-missing", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(file, id=f"golden-{word}-{file.stem}") for file in files]
