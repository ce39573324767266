"""Worlds of cvc_random_maps for tests: small ones, ones drawn by hand, and tasks as the recordings name them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from helpers.replay import load_map

from memexp import envs
from memexp.envs.config import CVC_OBJECTS
from memexp.envs.cvc_random_maps import VIBES, CvcRandomMapsEnv
from memexp.envs.cvc_tasks import CARGO, RESOURCES, Task
from memexp.envs.grid import columns as col
from memexp.envs.grid.rooms import room_for
from memexp.envs.grid.state import Sizes
from memexp.envs.grid.step import begin_worlds

SMALL = {
    "num_cogs": 5, "map_width": [8, 12], "map_height": [7, 10], "num_assemblers": 2, "num_chargers": 2, "num_chests": 3,
    **{f"num_{resource}_extractors": 2 for resource in CARGO},
    "max_steps": [60, 90, 120], "assembler_protocols": "hard", "num_vibes": 12,
}  # fmt: skip
"""Knobs of a small map, on which agents meet and episodes are short."""
RICH = {"initial_inventory_buckets": True, "initial_resources": 60, "initial_hearts": [0, 1]}
"""Agents that start with enough for a heart, so that random play earns something."""

_LETTERS = dict(zip("AEHcogs", CVC_OBJECTS, strict=True))
_ACTIONS = {name: i for i, name in enumerate(("noop", "north", "south", "west", "east"))}
_ACTIONS |= {name: col.FIRST_VIBE_ACTION + vibe for vibe, name in enumerate(VIBES)}


def world(num_envs: int = 1, seed: int = 0, **knobs: Any) -> CvcRandomMapsEnv:
    """Small worlds, before their reset."""
    first_env, tasks = knobs.pop("first_env", 0), knobs.pop("tasks", None)
    env = envs.make("cvc_random_maps", num_envs, seed=seed, first_env=first_env, tasks=tasks, **{**SMALL, **knobs})
    assert isinstance(env, CvcRandomMapsEnv)
    return env


def scene(*rows: str, **knobs: Any) -> CvcRandomMapsEnv:
    """A world that looks like `rows`: @ agent, A assembler, E charger, H chest, c o g s extractors, . nothing."""
    picture = "".join(rows)
    counts = {f"num_{name}s": picture.count(letter) for letter, name in _LETTERS.items()}
    size = {"map_width": len(rows[0]), "map_height": len(rows), "num_cogs": picture.count("@")}
    env = world(**{**counts, **size, "num_vibes": len(VIBES), **knobs})
    env.reset()
    codes = {".": col.EMPTY, "@": 2, **{letter: 3 + kind for kind, letter in enumerate(_LETTERS)}}
    cells = np.pad([[codes[letter] for letter in row] for row in rows], col.BORDER, constant_values=col.WALL)
    load_map(env.state, 0, cells, Sizes(*cells.shape, agents=picture.count("@")))
    begin_worlds(env.state, np.zeros(1, np.int64), room_for(0, 0), True)
    return env


def act(env: CvcRandomMapsEnv, *steps: str) -> torch.Tensor:
    """Let the agents do what each word says: one action for all, or 'east,noop' one each; the last step's rewards."""
    reward = torch.zeros(env.num_agents)
    for step in steps:
        actions = [_ACTIONS[name] for name in step.split(",")]
        reward = env.step(torch.tensor(actions if len(actions) > 1 else actions * env.num_agents))[1].clone()
    return reward


def hold(env: CvcRandomMapsEnv, agent: int, **amounts: int) -> None:
    """Put amounts into an agent's inventory, as if they had always been there."""
    for name, amount in amounts.items():
        env.state.inventory[0, agent, RESOURCES.index(name)] = amount


def held(env: CvcRandomMapsEnv, agent: int = 0) -> dict[str, int]:
    """What an agent has."""
    amounts = env.state.inventory[0, agent, : len(RESOURCES)].tolist()
    return {name: amount for name, amount in zip(RESOURCES, amounts, strict=True) if amount}


def reached(env: CvcRandomMapsEnv, agent: int = 0) -> dict[str, int]:
    """The milestones that an agent has reached, with the step of each."""
    steps = env.state.milestones[0, agent].tolist()
    return {name: step for name, step in zip(env.funnel, steps, strict=True) if step != col.NOT_YET}


def task_of(values: dict[str, Any]) -> Task:
    """The task that recorded bucket values describe."""

    def each(pattern: str, names: Iterable[str] = CARGO) -> Any:
        found = [values.get(f"game.{pattern.format(name)}") for name in names]
        return None if None in found else tuple(found)

    variants = {f"protocol variant with {count} vibe names": name for name, count in VARIANTS.items()}
    protocols = values["game.objects.assembler.protocols"]
    (heart,) = each("agent.rewards.inventory.{}", ["heart"]) or (None,)
    (deposit,) = each("agent.rewards.stats.chest.{}.deposited_by_agent", ["heart"])
    return Task(
        *each("map_builder.{}", ("width", "height")),
        counts=each("map_builder.instance.objects.{}", CVC_OBJECTS),
        max_uses=each("objects.{}_extractor.max_uses"),
        protocols=variants.get(protocols, protocols),
        max_steps=values["game.max_steps"],
        deposit_reward=deposit,
        heart_reward=heart,
        resource_rewards=each("agent.rewards.stats.{}.gained"),
        resource_caps=each("agent.rewards.stats_max.{}.gained"),
        initial=each("agent.inventory.initial.{}", (*CARGO, "heart")),
    )


VARIANTS = {"hard": 1, "medium": 2, "easy": 3, "all": 11}
"""Assembler protocols and the number of vibes in the base list of each."""
