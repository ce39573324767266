"""Small recorded episodes of the grid games, and readers of what a page holds."""

import base64
import json
import re
import zlib
from math import prod
from pathlib import Path

import numpy as np

from memexp import envs
from memexp.envs.grid.vec_env import GridEnv
from memexp.replay.changes import Changes
from memexp.replay.page import write_page
from memexp.replay.policies import scripted_actor
from memexp.replay.record import FLOATS, Recording, record

CROWDED = {
    "num_cogs": 24, "map_width": 12, "map_height": 9, "max_steps": 100, "assembler_protocols": "hard",
    **{f"num_{kind}s": 4 for kind in ("assembler", "charger", "chest")},
    **{f"num_{resource}_extractors": 5 for resource in ("carbon", "oxygen", "germanium", "silicon")},
    "extractor_max_uses": 2, "initial_inventory_buckets": True,
}  # fmt: skip
"""A small map of cvc_random_maps on which a lot happens, and observations have more tokens than room."""
WORLDS = {"cvc": ("cvc_random_maps", CROWDED), "assembly": ("assembly_lines", {"curriculum_style": "level_1"})}
TITLE = {"target": "here", "environment": "cvc_random_maps", "player": "random policy", "seed": 5, "knobs": {}}
TITLE |= {"task": 1, "held_out": False, "task_facts": {}}


def world(kind: str, seed: int = 5) -> GridEnv:
    name, knobs = WORLDS[kind]
    env = envs.make(name, 1, seed=seed, **knobs)
    assert isinstance(env, GridEnv)
    return env


def random_episode(kind: str, max_steps: int | None = None) -> Recording:
    env = world(kind)
    return record(env, scripted_actor("random", env, 9), max_steps)


def through_a_page(recording: Recording, path: Path) -> Recording:
    """The recording as a page of it gives it back."""
    write_page(recording, TITLE, path)
    return read_page(path)


def read_page(path: Path) -> Recording:
    """The recording that a page holds."""
    page = path.read_text(encoding="utf-8")
    facts, data = (
        re.search(rf'<script id="{name}"[^>]*>(.*?)</script>', page, re.DOTALL).group(1) for name in ("facts", "data")
    )
    facts = json.loads(facts)
    last, shapes = facts.pop("last"), {name: tuple(shape) for name, shape in facts.pop("channels")}
    numbers = sum(prod(shape) for shape in shapes.values())
    return Recording(facts, shapes, unpack(base64.b64decode(data), last, numbers))


def unpack(data: bytes, last: int, numbers: int) -> Changes:
    """The changes of `numbers` numbers over steps 0 .. `last` from their packed bytes."""

    def from_planes(planes: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(planes.reshape(4, -1).T).view("<i4").reshape(-1)

    raw = np.frombuffer(zlib.decompress(data), np.uint8)
    counts, (steps, values) = raw[: 4 * numbers], raw[4 * numbers :].reshape(2, -1)
    first = np.concatenate([[0], from_planes(counts).cumsum()])
    steps, values = (from_planes(planes).cumsum(dtype=np.int32) for planes in (steps, values))
    return Changes(last, first, steps.astype(np.int64), values)


def series_of(changes: Changes, number: int) -> np.ndarray:
    """One number in all steps, `[T + 1]`."""
    mine = slice(changes.first[number], changes.first[number + 1])
    return np.repeat(changes.values[mine], np.diff(changes.steps[mine], append=changes.last + 1))


def series(recording: Recording, channel: str, *index: int) -> np.ndarray:
    """One number of a channel in all steps, `[T + 1]`."""
    before = list(recording.shapes).index(channel)
    start = sum(prod(shape) for shape in list(recording.shapes.values())[:before])
    numbers = series_of(recording.changes, start + int(np.ravel_multi_index(index, recording.shapes[channel])))
    return numbers.view(np.float32) if channel in FLOATS else numbers
