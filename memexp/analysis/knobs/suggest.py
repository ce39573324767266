"""Where a funnel of milestones ends, the measured settings that move that stage, and the knobs of an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from memexp.analysis.knobs.table import Knobs, Row, measured, turned
from memexp.analysis.learning import Learning, LearningState
from memexp.analysis.scale import Scale
from memexp.analysis.seeds import Environment

RARE = 0.01  # A milestone counts as not reached below this share of agents and episodes
NARROW = 0.5  # A stage is narrow if fewer than this share of the agents with the milestone before it reach it
# Milestone -> the milestones that it needs; by default the one before it in the funnel.
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
MOVES = 1.5  # A stage has moved if its share rises by at least this factor
FEWEST = 5  # A share counts if it rests on at least so many agents
MOST_KNOBS = 4  # Settings that change more knobs are another environment, not a suggestion
MOST = 5  # Most suggestions


class Stage(NamedTuple):
    milestone: str
    share: float
    """Share of agents and episodes that reach it."""
    before: str | None
    """The needed milestone that the fewest agents reach."""
    before_share: float


class Suggestion(NamedTuple):
    env: str
    settings: Knobs
    """The knobs to change, and to what."""
    stage: Stage
    """Where exploration ends as things are."""
    before: Row
    """The random policy as things are."""
    predicted: Row
    """The random policy with the settings, as measured."""
    moved: tuple[str, ...]
    """Milestones that more agents reach with the settings. If empty, the settings only reward steps on the way."""
    elsewhere: Knobs
    """Where the measurement was made with other knobs than these: these and the settings; empty otherwise."""


def stage(funnel: dict[str, float]) -> Stage | None:
    """The first milestone below 1 %, else the narrowest below a half of what it needs; None where there is none."""
    stages: list[Stage] = []
    for at, name in enumerate(funnel):
        needed = [one for one in BEFORE.get(name, list(funnel)[max(at - 1, 0) : at]) if one in funnel]
        before = min(needed, key=lambda one: funnel[one], default=None)
        stages.append(Stage(name, funnel[name], before, funnel[before] if before else 1.0))
    rare = [one for one in stages if one.share < RARE]
    if rare:
        return rare[0]
    narrow = [one for one in stages if one.share < NARROW * one.before_share]
    return min(narrow, key=lambda one: one.share / one.before_share, default=None)


def suggest(env: str, knobs: Knobs, funnel: dict[str, float] | None = None) -> list[Suggestion]:
    """Settings for environment `env` with `knobs`, best first: those with which most agents reach the reward.

    `funnel` is the furthest that was measured there (random policy or arm); None: the table's. Empty for an
    environment that the table does not know, and where the funnel ends nowhere.
    """
    rows = measured().rows.get(env)
    if not rows:
        return []
    knobs = {**measured().defaults[env], **knobs}
    own = next((row for row in rows if not turned(row.knobs, knobs)), None)
    base = own or rows[0]
    funnel = funnel or base.funnel
    where = stage(funnel)
    if where is None:
        return []

    def moves(milestone: str, row: Row) -> bool:
        before, after = base.funnel.get(milestone, 0.0), row.funnel.get(milestone, 0.0)
        agents = int(row.knobs.get("num_cogs", 1))
        return after >= MOVES * before and after * measured().episodes * agents >= FEWEST

    found: list[Suggestion] = []
    for row in rows:
        settings = turned(base.knobs, row.knobs)
        # Without a measurement of these very knobs, a knob that is already changed is left alone.
        if own is None and set(settings) & set(turned(base.knobs, knobs)):
            continue
        moved = tuple(name for name in dict.fromkeys((where.milestone, list(row.funnel)[-1])) if moves(name, row))
        # Whether only with the settings the random policy gets a return above its error.
        rewards_the_way = base.mean <= 2 * base.stderr and row.mean > 2 * row.stderr
        if 0 < len(settings) <= MOST_KNOBS and (moved or rewards_the_way):
            elsewhere = {**turned(measured().defaults[env], knobs), **settings} if turned(base.knobs, knobs) else {}
            found.append(Suggestion(env, settings, where, base, row, moved, elsewhere))
    found.sort(key=lambda x: (-x.predicted.last, -x.predicted.funnel.get(where.milestone, 0.0), len(x.settings)))
    return _without_repeats(found)[:MOST]


def _without_repeats(found: list[Suggestion]) -> list[Suggestion]:
    """The suggestions without those that lead to the same environment, and those of which a part does as well."""
    kept: list[Suggestion] = []
    for one in found:
        same = any(one.predicted.funnel == other.predicted.funnel for other in kept)
        part = any(
            other.settings.items() <= one.settings.items() and other.predicted.last >= one.predicted.last
            for other in found
            if other is not one
        )
        if not (same or part):
            kept.append(one)
    return kept


class KnobCause(Enum):
    """What to change (`what`), and the sentence why (`why`)."""

    MEASURED = "", "{stage} {suggestion}"
    NO_REWARD = (
        "reward reachability (curriculum, task size, reward shaping)",
        "the random policy and every arm have return 0: without a sampled reward there is no gradient. "
        "Start closer to the goal, shorten the task, or shape the reward; change the network last",
    )
    STILL_IMPROVING = "steps", "still improving at {budget} agent steps: {arms}"
    NO_ARM_ABOVE_RANDOM = (
        "steps or curriculum",
        "no arm is above the random policy, which does get return: more steps, or an easier start",
    )

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why


@dataclass(frozen=True)
class Knob:
    """Only the fields that its cause needs are set."""

    cause: KnobCause
    suggestion: Suggestion | None = None
    """The measured settings."""
    steps: int | None = None
    """Agent steps of a run: twice those so far."""
    arms: tuple[str, ...] = ()
    """Arms that still improve."""


def find_knobs(
    environment: Environment, scale: Scale | None, learned: Sequence[Learning], improving: Sequence[str]
) -> list[Knob]:
    """What to change: measured settings where nothing learned, more steps where arms are still `improving`."""
    found: list[Knob] = []
    if not any(one.learned for one in learned):
        config = next((seed.config["env"] for seed in environment.seeds if "env" in seed.config), dict[str, Any]())
        own = {key: value for key, value in config.items() if key != "name"}
        funnels = [environment.random_funnel, *(arm.funnel for arm in environment.arms.values())]
        furthest = max(funnels, key=lambda funnel: tuple(funnel.values())[::-1])
        found = [Knob(KnobCause.MEASURED, one) for one in suggest(config.get("name", ""), own, furthest or None)]
    finished = [arm for arm in environment.arms.values() if arm.seeds]
    no_reward = environment.random_mean == 0 and all(arm.finals.max() <= 0 for arm in finished)
    if not found and finished and no_reward:
        found.append(Knob(KnobCause.NO_REWARD))
    if improving:
        found.append(Knob(KnobCause.STILL_IMPROVING, steps=2 * environment.budget, arms=tuple(improving)))
    elif scale and finished and not found and all(one.state is LearningState.NOT_LEARNED for one in learned):
        found.append(Knob(KnobCause.NO_ARM_ABOVE_RANDOM))
    return found
