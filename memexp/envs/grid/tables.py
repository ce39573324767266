"""The rules of a game as Python objects (`Game`) and as rows of the state arrays (`Tables`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.state import State

Amounts = Sequence[tuple[int, int]]
"""(resource id, amount) pairs, in the order of tokens and of consumption."""


@dataclass(frozen=True)
class Protocol:
    """A conversion at a station. `vibes`: vibes needed around it; `min_agents`: least number of agents around."""

    inputs: Amounts
    outputs: Amounts
    cooldown: int = 0
    vibes: Sequence[int] = ()
    min_agents: int = 0


@dataclass(frozen=True)
class Station:
    """A type of station. max_uses 0: unlimited. partial: can be used while it cools down, for a part of the amounts."""

    tag: int
    protocols: Sequence[Protocol]
    max_uses: int = 0
    partial: bool = False
    count: int = 1  # How many the map generator puts on the map


@dataclass(frozen=True)
class Chest:
    """A type of chest. transfers: (vibe, resource, amount); negative amounts are withdrawn."""

    tag: int
    transfers: Sequence[tuple[int, int, int]]
    count: int = 1


@dataclass(frozen=True)
class Game:
    """The rules of one episode, without the map. Resources, vibes and tags are ids."""

    max_steps: int
    types: Sequence[Station | Chest]
    agent_tag: int
    wall_tag: int
    num_vibes: int
    rewards: Sequence[tuple[int, float, float]]
    """(statistic, weight, cap) in the order of summation; statistic as in State.reward_terms."""
    limits: Sequence[tuple[Sequence[int], int]] = ()  # (resources, their common limit)
    costs: Sequence[tuple[int, int, int, int]] = ()  # (kind of action, resource, required, consumed)
    regeneration: Sequence[tuple[int, int, int]] = ()  # (vibe, resource, amount) every `regen_interval` steps
    regen_interval: int = 0
    shares: Sequence[tuple[int, int, int]] = ()  # (vibe, resource, amount) handed to an agent bumped into
    goals: Sequence[int] = ()  # Resources announced by a goal token
    compass: bool = False
    diversity: Sequence[int] = ()  # Resources counted by the statistic inventory.diversity
    initial: Amounts = field(default=())  # What agents start with, the first listed being the first token
    milestones: Sequence[tuple[int, int, int]] = ()
    """(kind, a, b) in the order of the funnel, see columns.LEFT_START and those behind it."""
    size: tuple[int, int] = (0, 0)  # Height and width that the map generator gives the area inside the walls
    layout: int = col.ROOM
    terrain: int = 0  # How the map generator fills a room (rooms.NO_TERRAIN and those behind it)


class Tables(NamedTuple):
    """The rows of one world in the arrays of State with the same names. They may be shorter than those arrays."""

    world: np.ndarray
    types: np.ndarray
    protocols: np.ndarray
    limits: np.ndarray
    rows: np.ndarray
    reward_terms: np.ndarray


def build(game: Game) -> Tables:
    world = [0] * col.WORLD_COLUMNS
    world[col.MAX_STEPS] = game.max_steps
    world[col.NUM_ACTIONS] = col.FIRST_VIBE_ACTION + game.num_vibes
    world[col.AGENT_TAG], world[col.WALL_TAG] = game.agent_tag, game.wall_tag
    world[col.COMPASS], world[col.REGEN_INTERVAL] = int(game.compass), game.regen_interval
    world[col.DIVERSITY] = sum(1 << resource for resource in game.diversity)
    world[col.NUM_REWARDS] = len(game.rewards)
    world[col.HEIGHT], world[col.WIDTH] = (side + 2 * col.BORDER for side in game.size)
    world[col.LAYOUT], world[col.TERRAIN] = game.layout, game.terrain
    world[col.NUM_OBJECTS] = sum(kind.count for kind in game.types)

    rows: list[tuple[int, int, int, int]] = []

    def section(begin: int, lines: Sequence[tuple[int, int, int, int]]) -> None:
        world[begin] = len(rows)
        rows.extend(lines)
        world[begin + 1] = len(rows)

    section(col.COSTS, game.costs)
    section(col.REGEN, [(*line, 0) for line in game.regeneration])
    section(col.SHARES, [(*line, 0) for line in game.shares])
    section(col.GOALS, [(0, resource, 0, 0) for resource in game.goals])
    section(col.INITIAL, [(0, resource, amount, 0) for resource, amount in reversed(game.initial)])
    section(col.MILESTONES, [(*line, 0) for line in game.milestones])

    types, protocols = [], []
    for kind in game.types:
        if isinstance(kind, Chest):
            transfers = [(*line, 0) for line in kind.transfers]
            types.append((col.CHEST, kind.tag, 0, 0, 0, 0, -1, -1, len(rows), len(rows) + len(transfers), kind.count))
            rows += transfers
        else:
            first = len(protocols)
            protocols += sorted(kind.protocols, key=lambda p: -p.min_agents)
            unasked = (p for p in range(first, len(protocols)) if vibe_key(protocols[p].vibes) == 0)
            alone = next((p for p in unasked if protocols[p].min_agents <= 0), -1)
            only = alone if len(protocols) == first + 1 else -1
            which = first, len(protocols), only, alone
            types.append((col.STATION, kind.tag, kind.max_uses, int(kind.partial), *which, 0, 0, kind.count))

    most_vibes = max((len(p.vibes) for p in protocols), default=0)
    limits = [(-1, 0)] * col.NUM_RESOURCES
    for group, (resources, limit) in enumerate(game.limits):
        for resource in resources:
            limits[resource] = (group, limit)
    return Tables(
        np.array(world, np.int64),
        np.array(types, np.int64).reshape(-1, col.TYPE_COLUMNS),
        np.array([_protocol_row(p, most_vibes) for p in protocols], np.int64).reshape(-1, col.VIBES + most_vibes),
        np.array(limits, np.int64),
        np.array(rows, np.int64).reshape(-1, col.ROW_COLUMNS),
        np.array(game.rewards, np.float32).reshape(-1, 3),
    )


def _protocol_row(protocol: Protocol, most_vibes: int) -> list[int]:
    row = [vibe_key(protocol.vibes), protocol.min_agents, protocol.cooldown, len(protocol.vibes), 0, 0]
    for count, amounts in ((col.NUM_INPUTS, protocol.inputs), (col.NUM_OUTPUTS, protocol.outputs)):
        pairs = [number for pair in amounts if pair[1] > 0 for number in pair]
        row[count] = len(pairs) // 2
        row += pairs + [0] * (2 * col.NUM_RESOURCES - len(pairs))
    return [*row, *protocol.vibes] + [0] * (most_vibes - len(protocol.vibes))


def vibe_key(vibes: Sequence[int]) -> int:
    """The largest eight vibes as one signed 64-bit number, 8 bits each, ascending: the lookup key of protocols."""
    key = 0
    for vibe in sorted(vibes):
        key = (256 * key + vibe) % 2**64
    return key - 2**64 if key >= 2**63 else key


def load(s: State, w: int, tables: Tables) -> None:
    """Give world w the game of these tables. Its map and its episode stay as they are."""
    s.world[w] = tables.world
    s.limits[w] = tables.limits
    for name in ("types", "rows", "reward_terms"):
        rows = getattr(tables, name)
        getattr(s, name)[w, : len(rows)] = rows
    s.protocols[w, : len(tables.protocols), : tables.protocols.shape[1]] = tables.protocols
