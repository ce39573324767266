"""Names, colours and shapes of what is in a grid game.

The colours are those of Okabe and Ito, which colour-blind people can distinguish. Each kind of object also has a label.
"""

from dataclasses import dataclass
from typing import Any

from memexp.config import Config
from memexp.credentials import mask_data
from memexp.envs import assembly_tasks, cvc_tasks
from memexp.envs.assembly_lines import AssemblyLinesEnv
from memexp.envs.config import CVC_OBJECTS
from memexp.envs.cvc_random_maps import VIBES, CvcRandomMapsEnv
from memexp.envs.grid import columns as col
from memexp.envs.grid.vec_env import GridEnv

ORANGE, SKY, GREEN, YELLOW = "#e69f00", "#56b4e9", "#009e73", "#f0e442"
BLUE, RED, PINK, GREY = "#0072b2", "#d55e00", "#cc79a7", "#8a929a"
MOVES = ("noop", "move_north", "move_south", "move_west", "move_east")
SILENT_VIBES = ("assembler", "chest", "wall")
"""Names of the vibes after those with a meaning."""


@dataclass(frozen=True)
class Appearance:
    """Name and look of a type of object."""

    name: str
    label: str  # one character, which identifies it without colour
    shape: str  # square, hexagon, diamond, chest or cross
    color: str


CVC_APPEARANCE = {
    "assembler": ("A", "square", RED),
    "charger": ("+", "diamond", GREEN),
    "chest": ("", "chest", BLUE),
    "carbon_extractor": ("C", "hexagon", GREY),
    "oxygen_extractor": ("O", "hexagon", SKY),
    "germanium_extractor": ("G", "hexagon", PINK),
    "silicon_extractor": ("S", "hexagon", YELLOW),
}
CHAIN_COLORS = (YELLOW, ORANGE, GREEN, SKY, BLUE, PINK)
"""Colours of the stations of a chain in order; a longer chain repeats them."""


def resources_of(env: GridEnv) -> tuple[str, ...]:
    return cvc_tasks.RESOURCES if isinstance(env, CvcRandomMapsEnv) else assembly_tasks.RESOURCES


def vibes_of(env: GridEnv) -> list[str]:
    """Names of the vibes that an agent can show or a protocol needs."""
    known = (*VIBES, *SILENT_VIBES)
    asked = len(VIBES) if isinstance(env, CvcRandomMapsEnv) else 1
    count = max(asked, env.num_actions - col.FIRST_VIBE_ACTION)
    return [known[v] if v < len(known) else f"vibe_{v}" for v in range(count)]


def actions_of(env: GridEnv) -> list[str]:
    vibes = vibes_of(env)[: env.num_actions - col.FIRST_VIBE_ACTION]
    return [*MOVES, *(f"change_vibe_{vibe}" for vibe in vibes)]


def appearances_of(env: GridEnv) -> list[Appearance]:
    """The appearance of each type of object in the current task."""
    if isinstance(env, AssemblyLinesEnv):
        return _chain_appearances(assembly_tasks.sample_task(env.task_id(0), env.config.style))
    return [Appearance(name, *CVC_APPEARANCE[name]) for name in CVC_OBJECTS]


def _chain_appearances(task: assembly_tasks.Task) -> list[Appearance]:
    """Stations by function, because their names mean nothing."""
    links = len(task.resources)

    def appearance(number: int, name: str) -> Appearance:
        if number < links:
            return Appearance(name, str(number + 1), "hexagon", CHAIN_COLORS[number % len(CHAIN_COLORS)])
        return (
            Appearance(name, "\u2665", "square", RED) if number == links else Appearance(name, "\u00d7", "cross", GREY)
        )

    return [appearance(number, name) for number, name in enumerate(task.stations)]


def task_facts(env: GridEnv) -> dict[str, str]:
    """The current task of environment 0 in words."""
    if isinstance(env, AssemblyLinesEnv):
        task = assembly_tasks.sample_task(env.task_id(0), env.config.style)
        return {
            "chain": " \u2192 ".join((*task.resources, "heart")),
            "sinks": str(task.num_sinks),
            "room": f"{task.room}, {task.width} \u00d7 {task.height}",
            "terrain": task.terrain,
        }
    assert isinstance(env, CvcRandomMapsEnv)
    task = cvc_tasks.sample_task(env.task_id(0), env.config)
    labels = (CVC_APPEARANCE[f"{name}_extractor"][0] for name in cvc_tasks.CARGO)
    uses = ", ".join(f"{label} {most or 'unlimited'}" for label, most in zip(labels, task.max_uses, strict=True))
    return {
        "map": f"{task.width} \u00d7 {task.height}",
        "protocols": task.protocols,
        "extractor uses": uses,
        "deposit reward": f"{task.deposit_reward:g}",
    }


def knobs_of(config: Config) -> dict[str, Any]:
    """The knobs that differ from the defaults, without credentials. A list of one value becomes that value."""
    fields = type(config).model_fields
    changed = mask_data({key: value for key, value in config if key != "name" and value != fields[key].default})
    return {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in changed.items()}
