"""Where a funnel ends: the first milestone that hardly anybody reaches although the way there is open."""

from typing import NamedTuple

RARE = 0.01
"""Share of agents and episodes below which a milestone counts as not reached."""
NARROW = 0.5
"""Where every milestone is reached: the least share of those who could go on that do, below which a stage is narrow."""
BEFORE = {
    "carbon": ("moved",),
    "oxygen": ("moved",),
    "germanium": ("moved",),
    "silicon": ("moved",),
    "all_four": ("carbon", "oxygen", "germanium", "silicon"),
    "heart_affordable": ("all_four",),
    "heart_a_at_assembler": ("moved",),
    "heart_made": ("heart_affordable", "heart_a_at_assembler"),
    "heart_b_at_chest": ("moved",),
    "heart_deposited": ("heart_made", "heart_b_at_chest"),
}
"""Milestone -> those that it takes; one that is not named takes the one before it in the funnel."""


class Stage(NamedTuple):
    milestone: str
    share: float
    """Share of agents and episodes that reach it."""
    before: str | None
    """What it takes, of which fewest have it."""
    before_share: float


def stage(funnel: dict[str, float]) -> Stage | None:
    """The first milestone below 1 %, else the narrowest one below a half of what it takes; None where none is."""
    stages = [_stage(name, funnel) for name in funnel]
    rare = [one for one in stages if one.share < RARE]
    if rare:
        return rare[0]
    narrow = [one for one in stages if one.share < NARROW * one.before_share]
    return min(narrow, key=lambda one: one.share / one.before_share, default=None)


def _stage(name: str, funnel: dict[str, float]) -> Stage:
    names = list(funnel)
    at = names.index(name)
    needed = [one for one in BEFORE.get(name, names[max(at - 1, 0) : at]) if one in funnel]
    before = min(needed, key=lambda one: funnel[one], default=None)
    return Stage(name, funnel[name], before, funnel[before] if before else 1.0)
