"""Where a funnel ends: the first milestone that hardly any agent reaches although many reach the one before."""

from typing import NamedTuple

RARE = 0.01
"""A milestone counts as not reached below this share of agents and episodes."""
NARROW = 0.5
"""A stage is narrow if fewer than this share of the agents with the milestone before it reach it."""
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
"""Milestone -> the milestones that it needs; by default the one before it in the funnel."""


class Stage(NamedTuple):
    milestone: str
    share: float
    """Share of agents and episodes that reach it."""
    before: str | None
    """The needed milestone that the fewest agents reach."""
    before_share: float


def stage(funnel: dict[str, float]) -> Stage | None:
    """The first milestone below 1 %, else the narrowest below a half of what it needs; None where there is none."""
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
