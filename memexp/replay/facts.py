"""Facts of an episode that do not change: names, the map, its objects and what they do, the milestones reached."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from memexp.envs.assembly_lines import NEVER
from memexp.envs.grid import columns as col
from memexp.envs.grid.state import State
from memexp.envs.grid.vec_env import GridEnv
from memexp.replay.appearance import Appearance, actions_of, appearances_of, resources_of, vibes_of

MARGIN = col.BORDER - 1
"""Cells of outer wall that are cut off on each side, so that one remains."""


class Crop:
    """The shown part of the engine's grid: the map and one cell of wall around it."""

    def __init__(self, s: State):
        self.stride = int(s.window[4, 0])
        self.height, self.width = (s.world[0, [col.HEIGHT, col.WIDTH]] - 2 * MARGIN).tolist()

    def cells(self, cells: np.ndarray) -> np.ndarray:
        """Converts flat indices of the grid to flat indices of the part."""
        row, column = cells // self.stride - MARGIN, cells % self.stride - MARGIN
        return row * self.width + column

    def walls(self, grid: np.ndarray) -> list[str]:
        """The rows of the part: '#' wall, '.' anything else."""
        part = grid.reshape(-1, self.stride)[MARGIN : MARGIN + self.height, MARGIN : MARGIN + self.width]
        return ["".join(".#"[int(code == col.WALL)] for code in row) for row in part]


def facts_of(env: GridEnv, crop: Crop) -> dict[str, Any]:
    """The facts of a played episode, for JSON.

    types: appearance, most uses (0: no limit) and effects of each type of object. objects: type, cell and chest number
    (-1: none) of each. milestones [A, M]: step at which an agent first reached each milestone of funnel (only those of
    the task), -1: never. limits: most that an agent can hold of the group of each resource (0: no limit). groups:
    number of that group. shown: numbers of the resources that occur.
    """
    s = env.state
    objects = s.objects[0, : s.world[0, col.NUM_OBJECTS]]
    groups, limits = s.limits[0].T.tolist()
    chests = np.where(objects[:, col.SLOT] >= 0, objects[:, col.SLOT] - env.num_agents, -1)
    possible = _possible_milestones(s)
    places = np.stack([objects[:, col.TYPE], crop.cells(objects[:, col.OBJECT_CELL]), chests], 1)
    return {
        "agents": env.num_agents,
        "max_steps": int(s.world[0, col.MAX_STEPS]),
        "resources": list(resources_of(env)),
        "groups": groups,
        "limits": limits,
        "shown": _resources_in_play(s),
        "vibes": vibes_of(env),
        "actions": actions_of(env),
        "funnel": [name for name, can in zip(env.funnel, possible, strict=True) if can],
        "milestones": s.milestones[0][:, possible].tolist(),
        "map": crop.walls(s.grid[0]),
        "types": [_type(s, kind, look, env) for kind, look in enumerate(appearances_of(env))],
        "objects": places.tolist(),
    }


def _possible_milestones(s: State) -> np.ndarray:
    """Which milestones of the funnel the task has, bool [M]: a short chain lacks later links."""
    rows = s.rows[0, s.world[0, col.MILESTONES] : s.world[0, col.MILESTONES_END]]
    return (rows[:, col.KEY] != col.REACHES) | (rows[:, col.AMOUNT] < NEVER)


def _resources_in_play(s: State) -> list[int]:
    """Resources in the first protocol of a station on the map, or that an agent has held."""
    held = (s.agent_stats[0, :, col.GAINED : col.GAINED + col.NUM_RESOURCES] > 0).any(0)
    seen = set(np.flatnonzero(held).tolist())
    for kind in range(s.types.shape[1]):
        if s.types[0, kind, col.COUNT] and s.types[0, kind, col.KIND] == col.STATION:
            inputs, outputs = _amounts(s.protocols[0, s.types[0, kind, col.FIRST]])
            seen |= {resource for resource, _ in inputs + outputs}
    return sorted(seen)


def _type(s: State, kind: int, look: Appearance, env: GridEnv) -> dict[str, Any]:
    """A type of object: its appearance and its effects."""
    row = s.types[0, kind]
    resources, vibes = resources_of(env), vibes_of(env)
    if row[col.KIND] == col.CHEST:
        transfers = s.rows[0, row[col.TRANSFERS] : row[col.TRANSFERS_END]]
        does = [_transfer(line, resources, vibes) for line in transfers]
    else:
        does = [_protocol(line, resources, vibes) for line in s.protocols[0, row[col.FIRST] : row[col.LAST]]]
    return asdict(look) | {"max_uses": int(row[col.MAX_USES]), "does": does}


def _amounts(protocol: np.ndarray) -> tuple[list[list[int]], list[list[int]]]:
    """(resource, amount) pairs of the inputs and outputs of a protocol."""
    counts = protocol[col.NUM_INPUTS], protocol[col.NUM_OUTPUTS]
    sides = zip((col.INPUTS, col.OUTPUTS), counts, strict=True)
    inputs, outputs = (protocol[start : start + 2 * count].reshape(-1, 2).tolist() for start, count in sides)
    return inputs, outputs


def _protocol(protocol: np.ndarray, resources: Sequence[str], vibes: list[str]) -> str:
    """'10 carbon + 2 germanium -> 1 heart, vibes heart_a, cooldown 5'."""
    taken, given = (
        " + ".join(f"{amount} {resources[resource]}" for resource, amount in side) or "nothing"
        for side in _amounts(protocol)
    )
    asked = protocol[col.VIBES : col.VIBES + protocol[col.NUM_VIBES]].tolist()
    words = [f"{taken} \u2192 {given}"]
    if any(asked):
        words.append("vibes " + " + ".join(vibes[int(vibe)] for vibe in asked))
    if protocol[col.MIN_AGENTS] > 0:
        words.append(f"{protocol[col.MIN_AGENTS]} agents around")
    if protocol[col.COOLDOWN]:
        words.append(f"cooldown {protocol[col.COOLDOWN]}")
    return ", ".join(words)


def _transfer(row: np.ndarray, resources: Sequence[str], vibes: list[str]) -> str:
    """'vibe heart_b: deposits 1 heart'."""
    amount = int(row[col.AMOUNT])
    does = "deposits" if amount > 0 else "withdraws"
    return f"vibe {vibes[row[col.KEY]]}: {does} {abs(amount)} {resources[row[col.RESOURCE]]}"
