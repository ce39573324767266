"""Settings of knobs that move the stage where exploration ends, each with what is predicted of it and why."""

from typing import Any, NamedTuple

from memexp.analysis.formatting import share
from memexp.analysis.knobs.stage import Stage, stage
from memexp.analysis.knobs.table import Knobs, Row, measured, turned, word

MOVES = 1.5
"""Factor by which the share of a stage must rise to be called moved."""
FEWEST = 5
"""Least number of agents that must have been seen there: below it a share is chance."""
MOST_KNOBS = 4
"""Settings that differ in more knobs are another environment, not a suggestion."""
MOST = 5
"""Suggestions, the best first."""


class Suggestion(NamedTuple):
    settings: Knobs
    """The knobs to turn, and to what."""
    ends: str
    """Where exploration ends as things are."""
    why: str
    """What the settings were seen to change about that."""
    before: dict[str, float]
    """The random policy's funnel as things are."""
    predicted: dict[str, float]
    """The same with the knobs turned, as measured."""

    def as_dict(self) -> dict[str, Any]:
        """One entry of the answer's `knobs`."""
        table = measured()
        names, values = list(self.settings), list(self.settings.values())
        return {
            "knob": " ".join(names),
            "value": values[0] if len(values) == 1 else self.settings,
            "because": f"{self.ends} {self.why}",
            "ends": self.ends,
            "why": self.why,
            "words": word(self.settings),
            "before": self.before,
            "predicted": self.predicted,
            "measured": {"date": table.date, "episodes": table.episodes, "player": "random"},
        }


def suggest(env: str, knobs: Knobs, funnel: dict[str, float] | None = None) -> list[Suggestion]:
    """Settings for environment `env` with `knobs`, those that bring reward nearest first.

    `funnel` is the best that was seen there (random policy or arm); None: as in the table. Empty for an environment
    that the table does not know, and where the funnel ends nowhere.
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
    found = []
    for row in rows:
        settings = turned(base.knobs, row.knobs)
        # Without a measurement of these very knobs: nothing that somebody has turned already.
        if own is None and set(settings) & set(turned(base.knobs, knobs)):
            continue
        if 0 < len(settings) <= MOST_KNOBS and (why := _because(where, base, row)):
            why += _source(env, knobs, settings, base)
            suggestion = Suggestion(settings, _words(where), why, base.funnel, row.funnel)
            found.append((_last(row.funnel), row.funnel.get(where.milestone, 0.0), suggestion))
    found.sort(key=lambda one: (-one[0], -one[1], len(one[2].settings)))
    return _without_repeats([suggestion for *_, suggestion in found])[:MOST]


def _without_repeats(found: list[Suggestion]) -> list[Suggestion]:
    """The best first, less those that lead to the same worlds, and those of which a part does as well."""
    kept: list[Suggestion] = []
    for one in found:
        same = any(one.predicted == other.predicted for other in kept)
        part = any(
            other.settings.items() <= one.settings.items() and _last(other.predicted) >= _last(one.predicted)
            for other in found
            if other is not one
        )
        if not (same or part):
            kept.append(one)
    return kept


def _last(funnel: dict[str, float]) -> float:
    """Share that reaches the last milestone, the one that is paid for."""
    return list(funnel.values())[-1]


def _words(where: Stage) -> str:
    taken = f", although {share(where.before_share)} reach {where.before}" if where.before else ""
    return f"Exploration ends at {where.milestone}: {share(where.share)} of the agents reach it{taken}."


def _because(where: Stage, base: Row, row: Row) -> str:
    """What the setting was seen to change about the stage; empty where it does not."""
    last = list(row.funnel)[-1]
    parts = []
    for milestone in dict.fromkeys((where.milestone, last)):
        before, after = base.funnel.get(milestone, 0.0), row.funnel.get(milestone, 0.0)
        seen = after * measured().episodes * _agents(row)
        if after >= MOVES * before and seen >= FEWEST:
            parts.append(f"{milestone} from {share(before)} to {share(after)}")
    if parts:
        parts += [f"return from {base.mean:.2g} to {row.mean:.2g}"] if row.mean > base.mean else []
        return f"With it the random policy gets {', '.join(parts)}"
    if base.mean <= 2 * base.stderr and row.mean > 2 * row.stderr:
        return (
            f"With it the random policy is paid {row.mean:.2g} an episode on the way, instead of {base.mean:.2g}; "
            "nobody comes further by that alone, and a policy may stop at what is paid"
        )
    return ""


def _agents(row: Row) -> int:
    return int(row.knobs.get("num_cogs", 1))


def _source(env: str, knobs: Knobs, settings: Knobs, base: Row) -> str:
    """When and where it was measured, and how to measure it here where that was with other knobs."""
    table = measured()
    text = f"measured {table.date}, {table.episodes} episodes"
    if turned(base.knobs, knobs):
        here = word({**turned(table.defaults[env], knobs), **settings})
        text += f", on the defaults instead of these knobs; here: `memexp funnel {env} {here}`"
    return f" ({text})."
