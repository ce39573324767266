"""The environment table: one config a world, its knobs as fields. Imports neither torch nor numba.

Every knob has its unit and effect under it. `ENVIRONMENTS` is the table; `memexp.envs.make` builds the world.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memexp.config import Config


class TMaze(Config):
    """A corridor with a choice at its end. The cue (which side pays) is shown in the first step only: needs memory."""

    name: Literal["tmaze"] = "tmaze"
    length: int = Field(default=6, ge=1, le=10_000)
    """Corridor length: steps between the cue and the choice."""


class TMazeCue(Config):
    """The same corridor, but the cue stays visible: needs no memory."""

    name: Literal["tmaze_cue"] = "tmaze_cue"
    length: int = Field(default=6, ge=1, le=10_000)
    """Corridor length: steps between the start and the choice."""


class ChainRecall(Config):
    """Repeat the symbol that was shown k steps ago; the episode is cut by a time limit (truncation)."""

    name: Literal["chain_recall"] = "chain_recall"
    k: int = Field(default=4, ge=0, le=10_000)
    """How many steps back the symbol to repeat lies; 0 needs no memory."""
    num_symbols: int = Field(default=4, ge=2, le=64)
    """Number of symbols, and of actions."""
    episode_length: int = Field(default=64, ge=1)
    """Steps until truncation; more than k."""

    @model_validator(mode="after")
    def _some_step_is_asked(self) -> "ChainRecall":
        if self.episode_length <= self.k:
            raise ValueError(
                f"episode_length={self.episode_length} leaves no step to answer: it must exceed k={self.k}"
            )
        return self


CurriculumStyle = Literal[
    "level_0",
    "level_1",
    "level_2",
    "tiny",
    "tiny_small",
    "all_room_sizes",
    "longer_chains",
    "terrain_1",
    "terrain_2",
    "terrain_3",
    "terrain_4",
    "full",
]


class AssemblyLines(Config):
    """One agent, a room of stations: carry a resource along a chain of stations until it becomes a heart."""

    name: Literal["assembly_lines"] = "assembly_lines"
    curriculum_style: CurriculumStyle = "all_room_sizes"
    """Which chain lengths, sinks, room sizes and terrains tasks are drawn from."""
    num_vibes: int = Field(default=16, ge=0, le=152)
    """Vibe-change actions besides noop and the four moves; vibes do nothing here, so each is a wasted step."""


class CvcRandomMaps(Config):
    """Many agents gather four resources, assemble hearts by matching vibes and deposit them in chests."""

    name: Literal["cvc_random_maps"] = "cvc_random_maps"
    num_cogs: int = Field(default=20, ge=1, le=64)
    """Agents in one world."""
    heart_buckets: bool = False
    """Reward holding a heart, by a weight drawn per task from 0.1, 0.333, 0.5, 1."""
    resource_buckets: bool = False
    """Reward gaining each resource, by a weight drawn per task from 0, 0.001 (capped at 0.5)."""
    initial_inventory_buckets: bool = False
    """Start with resources and hearts drawn per task."""
    num_vibes: int = Field(default=16, ge=0, le=152)
    """Vibe-change actions besides noop and the four moves."""


ENVIRONMENTS: dict[str, type[Config]] = {
    "tmaze": TMaze,
    "tmaze_cue": TMazeCue,
    "chain_recall": ChainRecall,
    "assembly_lines": AssemblyLines,
    "cvc_random_maps": CvcRandomMaps,
}

PLAYABLE = ("tmaze", "tmaze_cue", "chain_recall", "assembly_lines")
"""Environments that can be built; the others can be planned."""

WITH_TASKS = ("assembly_lines", "cvc_random_maps")
"""Environments whose episodes play tasks, so that a curriculum can choose."""

EnvConfig = Annotated[TMaze | TMazeCue | ChainRecall | AssemblyLines | CvcRandomMaps, Field(discriminator="name")]
