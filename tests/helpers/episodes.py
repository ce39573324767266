"""Small recorded episodes of the grid games."""

from pathlib import Path

from memexp import envs
from memexp.envs.grid.vec_env import GridEnv
from memexp.replay.page import read_page, write_page
from memexp.replay.players import player_of
from memexp.replay.record import Recording, record

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
    return record(env, player_of("random", env, 9), max_steps)


def through_a_page(recording: Recording, path: Path) -> Recording:
    """The recording as a page of it gives it back."""
    write_page(recording, TITLE, path)
    return read_page(path)
