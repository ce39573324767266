"""Tasks of assembly_lines: a task id and a curriculum style give a room, a chain of stations and sinks.

The draws are those of MettaGrid, in the same order and from the same generator, so a task id means the same task in
both. This module is pure Python.
"""

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

_ORES = ("ore_red", "ore_blue", "ore_green", "battery_red", "battery_blue", "battery_green")
RESOURCES = (*_ORES, "heart", "armor", "laser", "blueprint")
CHAIN_RESOURCES = (*_ORES, "laser", "blueprint", "armor")
STATIONS = (
    "generator_red", "generator_blue", "generator_green", "mine_red", "mine_blue", "mine_green",
    "assembler", "factory", "temple", "armory", "lab", "lasery",
)  # fmt: skip
"""The names mean nothing: any station can have any function in a task."""
ROOMS = {"tiny": (5, 10), "small": (10, 20), "medium": (20, 30), "large": (30, 40), "xlarge": (40, 50)}
"""Room size -> smallest and largest side, cells."""
TERRAINS = ("no-terrain", "sparse", "balanced", "dense")
SINK_COOLDOWN = 10


class Style(NamedTuple):
    """The choices that a curriculum style draws tasks from."""

    chain_lengths: tuple[int, ...]
    num_sinks: tuple[int, ...]
    rooms: tuple[str, ...]
    terrains: tuple[str, ...] = TERRAINS[:1]


STYLES = {
    "level_0": Style((1,), (0, 1), ("tiny",)),
    "level_1": Style((1, 2), (0, 1), ("tiny",)),
    "level_2": Style((1, 2, 3), (0, 1, 2), ("tiny",)),
    "tiny": Style((1, 2, 3, 4), (0, 1, 2), ("tiny",)),
    "tiny_small": Style((1, 2, 3, 4), (0, 1), ("tiny", "small")),
    "all_room_sizes": Style((1, 2, 3, 4), (0, 1, 2), ("tiny", "small", "medium")),
    "longer_chains": Style((1, 2, 3, 4, 5, 6), (0, 1, 2), ("tiny", "small", "medium")),
    "terrain_1": Style((2, 3), (0, 1), ("tiny", "small"), TERRAINS),
    "terrain_2": Style((2, 3, 4), (0, 1, 2), ("tiny", "small"), TERRAINS),
    "terrain_3": Style((2, 3, 4, 5), (0, 1, 2), ("tiny", "small", "medium"), TERRAINS),
    "terrain_4": Style((2, 3, 4, 5), (0, 1, 2), ("tiny", "small", "medium"), TERRAINS),
    "full": Style((2, 3, 4, 5, 6), (0, 1, 2), ("tiny", "small", "medium", "large"), TERRAINS),
}


@dataclass(frozen=True)
class Task:
    """One task. stations[0] makes resources[0] from nothing, each next station turns one resource into the next, and
    the last of the chain makes a heart. A sink consumes one of each resource at once."""

    room: str
    terrain: str
    width: int  # cells inside the walls
    height: int  # cells inside the walls
    resources: tuple[str, ...]  # of the chain in order, without the heart
    stations: tuple[str, ...]  # the chain (one more than resources), then the sinks
    cooldown: int  # steps, of the chain's stations; sinks have SINK_COOLDOWN
    max_steps: int

    @property
    def num_sinks(self) -> int:
        return len(self.stations) - len(self.resources) - 1


def sample_task(task_id: int, style: Style) -> Task:
    """The task with this id in a curriculum style."""
    rng = Random(task_id)
    length, num_sinks = rng.choice(style.chain_lengths), rng.choice(style.num_sinks)
    room, terrain = rng.choice(style.rooms), rng.choice(style.terrains)
    width, height = rng.randint(*ROOMS[room]), rng.randint(*ROOMS[room])
    resources = tuple(rng.sample(CHAIN_RESOURCES, length))
    unused, stations = list(STATIONS), []
    for _ in range(length + 1 + num_sinks):
        stations.append(rng.choice(unused))
        unused.remove(stations[-1])
    hop = width + height / 2
    return Task(
        room,
        terrain,
        width,
        height,
        resources,
        tuple(stations),
        cooldown=int(hop * length),
        max_steps=int(4 * hop * num_sinks + 10 * 4 * hop * length),
    )
