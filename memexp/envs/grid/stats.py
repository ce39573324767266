"""Names of the statistics: which column of agent_stats and game_stats the original calls what."""

from collections.abc import Sequence

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.state import State

KINDS = ("noop", "move", "change_vibe")


def agent_stat_names(resources: Sequence[str]) -> list[str]:
    """Column -> name in agent_stats."""
    per_resource = ("{}.gained", "{}.lost", "{}.amount", "chest.{}.deposited_by_agent", "chest.{}.withdrawn_by_agent")
    names = [pattern.format(resource) for pattern in per_resource for resource in resources]
    names += [f"action.{kind}.success" for kind in KINDS] + [f"action.{kind}.failed" for kind in KINDS]
    return [*names, "action.failed", "action.invalid_index", "status.max_steps_without_motion", "inventory.diversity"]


def game_stat_names(resources: Sequence[str]) -> list[str]:
    """Column -> name in game_stats."""
    per_resource = ("assembler.{}.created", "chest.{}.deposited", "chest.{}.withdrawn", "chest.{}.amount")
    names = [pattern.format(resource) for pattern in per_resource for resource in resources]
    return [*names, "tokens_written", "tokens_dropped", "tokens_free_space"]


def stat_number(name: str, resources: Sequence[str]) -> int:
    """The number of a statistic in State.reward_terms; ValueError if there is none of that name."""
    return (agent_stat_names(resources) + game_stat_names(resources)).index(name)


def agent_stats(s: State, w: int, agent: int, resources: Sequence[str]) -> dict[str, float]:
    """The statistics of one agent by name, those that are 0 left out."""
    named = dict(zip(agent_stat_names(resources), s.agent_stats[w, agent, : col.AGENT_STATS].tolist(), strict=True))
    seen = s.invalid_seen[w, agent].tolist()
    named |= {f"action.invalid_index.{index}": float(count) for index, count in seen if count}
    return {name: value for name, value in named.items() if value}


def game_stats(s: State, w: int, resources: Sequence[str], type_names: Sequence[str]) -> dict[str, float]:
    """The statistics of a world by name, those that are 0 left out; `type_names` by type number."""
    named = dict(zip(game_stat_names(resources), s.game_stats[w].tolist(), strict=True))
    kinds = s.objects[w, : s.world[w, col.NUM_OBJECTS], col.TYPE]
    for kind, count in enumerate(np.bincount(kinds, minlength=len(type_names)).tolist()):
        named[f"objects.{type_names[kind]}"] = float(count)
    stride = int(s.window[4, 0])
    height, width = s.world[w, [col.HEIGHT, col.WIDTH]]
    named["objects.wall"] = float(np.count_nonzero(s.grid[w].reshape(-1, stride)[:height, :width] == col.WALL))
    return {name: value for name, value in named.items() if value}
