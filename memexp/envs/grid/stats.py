"""MettaGrid's names for the columns of agent_stats and game_stats."""

from collections.abc import Sequence

KINDS = ("noop", "move", "change_vibe")


def agent_stat_names(resources: Sequence[str]) -> list[str]:
    """Names of the columns of agent_stats."""
    per_resource = ("{}.gained", "{}.lost", "{}.amount", "chest.{}.deposited_by_agent", "chest.{}.withdrawn_by_agent")
    names = [pattern.format(resource) for pattern in per_resource for resource in resources]
    names += [f"action.{kind}.success" for kind in KINDS] + [f"action.{kind}.failed" for kind in KINDS]
    return [*names, "action.failed", "action.invalid_index", "status.max_steps_without_motion", "inventory.diversity"]


def game_stat_names(resources: Sequence[str]) -> list[str]:
    """Names of the columns of game_stats."""
    per_resource = ("assembler.{}.created", "chest.{}.deposited", "chest.{}.withdrawn", "chest.{}.amount")
    names = [pattern.format(resource) for pattern in per_resource for resource in resources]
    return [*names, "tokens_written", "tokens_dropped", "tokens_free_space"]


def stat_number(name: str, resources: Sequence[str]) -> int:
    """The number of a statistic in State.reward_terms. Raises ValueError for an unknown name."""
    return (agent_stat_names(resources) + game_stat_names(resources)).index(name)
