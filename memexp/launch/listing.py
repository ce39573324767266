"""What `memexp list` shows: rows of plain data, the name first."""

from collections.abc import Callable
from typing import Any

from memexp.cortex.pattern import TOKENS
from memexp.envs.config import ENVIRONMENTS, PLAYABLE
from memexp.launch.recipe import all_recipes
from memexp.launch.status import status_of
from memexp.runs import find_runs

Rows = list[dict[str, Any]]


def _recipes() -> Rows:
    return [{"recipe": recipe.name, "summary": recipe.summary} for recipe in all_recipes()]


def _environments() -> Rows:
    rows: Rows = []
    for name, config in ENVIRONMENTS.items():
        knobs = {key: field.default for key, field in config.model_fields.items() if key != "name"}
        summary = (config.__doc__ or "").partition("\n")[0]
        planned = "" if name in PLAYABLE else " (can be planned but not played yet)"
        rows.append({"env": name, "summary": summary + planned, "knobs": knobs})
    return rows


def _patterns() -> Rows:
    return [{"token": token, "summary": summary} for token, summary in TOKENS.items()]


def _runs() -> Rows:
    rows = [status_of(run) for run in find_runs()]
    return [{"run": row.run, "state": row.state, "agent_steps": row.agent_steps} for row in rows]


LISTS: dict[str, Callable[[], Rows]] = {
    "recipes": _recipes,
    "envs": _environments,
    "patterns": _patterns,
    "runs": _runs,
}
