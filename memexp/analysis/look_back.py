"""How far back the policies of an arm look: their returns with the memory cut to the last k steps (horizon.json)."""

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from memexp.analysis.credit_horizon import ENOUGH
from memexp.analysis.seeds import Arm
from memexp.analysis.statistics import Contrast, Interval, contrast

LEVEL = 0.05
SURE = 3  # Standard errors by which a single seed must gain from its memory


class LookBackCause(Enum):
    NO_EFFECT = "{arm} has no significant effect of memory whose length could be told ({base})."
    ONE_STEP = "{arm} needs no step before the present one: without any it keeps {enough} of the effect of memory."
    FOUND = "{arm} needs about {needed} steps: the shortest memory that keeps {enough} of its effect ({sure})."
    FARTHER = (
        "{arm} needs more than {longest} steps, the longest memory that was tried: none keeps {enough} of its effect."
    )


@dataclass(frozen=True)
class LookBack:
    """Returns of an arm's last policies for each k: the steps before the present one that they see."""

    arm: str
    steps: list[int]
    returns: list[float]
    intervals: list[Interval]
    """95 % over seeds; NaN for one seed."""
    whole: float
    """Mean return with the whole memory."""
    base: float
    """Mean final return of the twin; without a twin, the return with k = 0."""
    has_twin: bool
    seeds: int
    episodes: int
    """For each seed and k; the fewest of any seed."""
    cause: LookBackCause
    needed: int | None = None
    """The smallest k that keeps 95 % of what the whole memory gains over `base`."""
    at_least: int | None = None
    """The smallest k that does not surely keep less."""
    at_most: int | None = None
    """The smallest k that surely keeps as much; None where none does."""


def look_back(arm: Arm, twin: Arm | None) -> LookBack | None:
    """How far back `arm` looks; None where no run measured it. For the method see docs/method.md."""
    measured = [one for seed in arm.seeds if (one := seed.horizon) and seed.info.metric == "return"]
    if not measured or not arm.remembers:
        return None
    steps = sorted({k for one in measured for k in one.returns})
    # Beyond its longest episode a seed has nothing more to see: its return stays that with the whole memory.
    table = np.array([[one.returns.get(k, one.whole) for k in steps] for one in measured])
    whole = np.array([one.whole for one in measured])
    has_twin = twin is not None and len(twin.seeds) > 0
    base = twin.finals if twin and has_twin else table[:, 0]
    found = LookBack(
        arm.name,
        steps,
        table.mean(axis=0).tolist(),
        [contrast((1.0, column)).interval() for column in table.T],
        float(whole.mean()),
        float(base.mean()),
        has_twin,
        len(measured),
        min(one.episodes for one in measured),
        LookBackCause.NO_EFFECT,
    )
    gain = contrast((1.0, whole), (-1.0, base)) if has_twin else contrast((1.0, whole - base))
    error = max(measured[0].stderrs.values(), default=0.0)  # all that is known of the spread of a single seed
    if gain.estimate <= 0 or (gain.estimate < SURE * error if len(measured) == 1 else gain.p_above() > LEVEL):
        return found
    kept = [_kept(column, whole, base, has_twin) for column in table.T]
    needed = next((k for k, share in zip(steps, kept, strict=True) if share.estimate >= 0), None)
    cause = {None: LookBackCause.FARTHER, 0: LookBackCause.ONE_STEP}.get(needed, LookBackCause.FOUND)
    return replace(
        found,
        cause=cause,
        needed=needed,
        at_least=next((k for k, share in zip(steps, kept, strict=True) if share.p_below() > LEVEL), None),
        at_most=next((k for k, share in zip(steps, kept, strict=True) if share.p_above() <= LEVEL), None),
    )


def _kept(column: np.ndarray, whole: np.ndarray, base: np.ndarray, has_twin: bool) -> Contrast:
    """The effect with the cut memory minus 95 % of that with the whole one. A seed is compared with itself."""
    if has_twin:
        return contrast((1.0, column - ENOUGH * whole), (ENOUGH - 1, base))
    return contrast((1.0, column - ENOUGH * whole + (ENOUGH - 1) * base))
