"""The measured table: the funnel and the return of the random policy under different settings of knobs."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

Knobs = dict[str, Any]


class Row(NamedTuple):
    """One setting of an environment."""

    knobs: Knobs  # All knobs
    mean: float  # Mean episode return of the random policy
    stderr: float
    funnel: dict[str, float]  # Milestone -> share of agents and episodes that reached it

    @property
    def last(self) -> float:
        """Share that reaches the last milestone, which gives the reward."""
        return list(self.funnel.values())[-1]


class Table(NamedTuple):
    episodes: int
    date: str  # Day of the measurement, YYYY-MM-DD
    defaults: dict[str, Knobs]
    rows: dict[str, list[Row]]  # Environment -> its settings; the first are the defaults


@cache
def measured() -> Table:
    data = json.loads((Path(__file__).parent / "measured.json").read_text())
    defaults: dict[str, Knobs] = data["defaults"]
    rows: dict[str, list[Row]] = {}
    for row in data["rows"]:
        knobs = {**defaults[row["env"]], **row["knobs"]}
        rows.setdefault(row["env"], []).append(Row(knobs, row["mean"], row["stderr"], row["funnel"]))
    return Table(data["episodes"], data["date"], defaults, rows)


def turned(before: Knobs, after: Knobs) -> Knobs:
    """The knobs of `after` whose value is not that of `before`."""
    return {key: value for key, value in after.items() if before.get(key) != value}


def as_overrides(knobs: Knobs) -> str:
    """Knobs as KEY=VALUE overrides: {'map_width': [30, 30], 'num_vibes': 12} -> 'map_width=30 num_vibes=12'."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return ",".join(map(str, dict.fromkeys(cast(list[Any], value))))
        return json.dumps(value) if isinstance(value, bool) or value is None else str(value)

    return " ".join(f"{key}={text(value)}" for key, value in knobs.items())
