"""Settings of knobs that move the stage where exploration ends."""

from typing import NamedTuple

from memexp.analysis.knobs.stage import Stage, stage
from memexp.analysis.knobs.table import Knobs, Row, measured, turned

MOVES = 1.5
"""A stage has moved if its share rises by at least this factor."""
FEWEST = 5
"""A share counts if it rests on at least so many agents."""
MOST_KNOBS = 4
"""Settings that change more knobs are another environment, not a suggestion."""
MOST = 5
"""Most suggestions."""


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
    found: list[Suggestion] = []
    for row in rows:
        settings = turned(base.knobs, row.knobs)
        # Without a measurement of these very knobs, a knob that is already changed is left alone.
        if own is None and set(settings) & set(turned(base.knobs, knobs)):
            continue
        moved = _moved(where, base, row)
        if 0 < len(settings) <= MOST_KNOBS and (moved or _rewards_the_way(base, row)):
            elsewhere = {**turned(measured().defaults[env], knobs), **settings} if turned(base.knobs, knobs) else {}
            found.append(Suggestion(env, settings, where, base, row, moved, elsewhere))

    def order(one: Suggestion) -> tuple[float, float, int]:
        return -one.predicted.last, -one.predicted.funnel.get(where.milestone, 0.0), len(one.settings)

    found.sort(key=order)
    return _without_repeats(found)[:MOST]


def _moved(where: Stage, base: Row, row: Row) -> tuple[str, ...]:
    """The stage and the last milestone, as far as the setting moves them."""
    milestones = dict.fromkeys((where.milestone, list(row.funnel)[-1]))
    return tuple(name for name in milestones if _moves(name, base, row))


def _moves(milestone: str, base: Row, row: Row) -> bool:
    before, after = base.funnel.get(milestone, 0.0), row.funnel.get(milestone, 0.0)
    agents = int(row.knobs.get("num_cogs", 1))
    return after >= MOVES * before and after * measured().episodes * agents >= FEWEST


def _rewards_the_way(base: Row, row: Row) -> bool:
    """Whether only with the setting the random policy gets a return above its error."""
    return base.mean <= 2 * base.stderr and row.mean > 2 * row.stderr


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
