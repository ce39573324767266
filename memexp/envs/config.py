"""The environment table `ENVIRONMENTS`: one config for each environment, its knobs as fields.

The text under a knob gives its unit and effect. This module imports neither torch nor numba.
"""

import difflib
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from memexp.config import Config, did_you_mean
from memexp.envs.assembly_tasks import STATIONS, STYLES, Style
from memexp.modules import refuse_standard_library
from memexp.project import entries, place_of, refuse_module

Value = TypeVar("Value")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) or value is None else [value]


def _low_and_high(span: list[int]) -> list[int]:
    low, high = span[0], span[-1]
    if low > high:
        raise ValueError(f"a span begins with its smaller end: did you mean [{high}, {low}]?")
    return [low, high]


Choices = Annotated[list[Value], BeforeValidator(_as_list), Field(min_length=1)]
"""Each task draws one of these values. A single value needs no brackets."""

Span = Annotated[
    list[Annotated[int, Field(ge=0, le=200)]],
    BeforeValidator(_as_list),
    Field(min_length=1, max_length=2),
    AfterValidator(_low_and_high),
]
"""Each task draws a whole number from the first to the second, both included. One number stands for both."""


class TMaze(Config):
    """A corridor with a choice at its end. A cue, shown only at the start, tells the right side: needs memory."""

    name: Literal["tmaze"] = "tmaze"
    length: int = Field(default=6, ge=1, le=10_000)
    """Corridor length: steps between the cue and the choice."""
    cue_steps: int = Field(default=1, ge=1, le=10_000)
    """Number of first steps that show the cue. With more of them the agent must remember it for fewer steps."""

    @model_validator(mode="after")
    def _the_cue_goes_before_the_choice(self) -> "TMaze":
        if self.cue_steps > self.length:
            raise ValueError(
                f"cue_steps={self.cue_steps} shows the cue at the junction: it must not exceed length={self.length}"
            )
        return self


class TMazeCue(Config):
    """The same corridor, but the cue stays visible: needs no memory."""

    name: Literal["tmaze_cue"] = "tmaze_cue"
    length: int = Field(default=6, ge=1, le=10_000)
    """Corridor length: steps between the start and the choice."""


class ChainRecall(Config):
    """Repeat the symbol that was shown k steps ago. A time limit truncates the episode."""

    name: Literal["chain_recall"] = "chain_recall"
    k: int = Field(default=4, ge=0, le=10_000)
    """How many steps ago the symbol to repeat was shown; 0 needs no memory."""
    num_symbols: int = Field(default=4, ge=2, le=64)
    """Number of symbols and of actions."""
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
    "level_0", "level_1", "level_2", "tiny", "tiny_small", "all_room_sizes", "longer_chains",
    "terrain_1", "terrain_2", "terrain_3", "terrain_4", "full",
]  # fmt: skip


Room = Literal["tiny", "small", "medium", "large", "xlarge"]
Terrain = Literal["no-terrain", "sparse", "balanced", "dense"]


class DelayedCue(Config):
    """Most of the return is for naming what is shown; the rest for a cue of the start, asked for at the end."""

    name: Literal["delayed_cue"] = "delayed_cue"
    delay: int = Field(default=16, ge=1, le=10_000)
    """Steps between the cue and the question."""
    share: float = Field(default=0.15, gt=0, le=1)
    """Share of the return that the right answer pays. The best memoryless return is 1 - share * (1 - 1 / symbols)."""
    num_symbols: int = Field(default=4, ge=2, le=64)
    """Number of symbols and of actions."""


class AssemblyLines(Config):
    """One agent in a room of stations carries a resource along a chain of stations until it becomes a heart."""

    name: Literal["assembly_lines"] = "assembly_lines"
    curriculum_style: CurriculumStyle = "all_room_sizes"
    """The set of chain lengths, sinks, room sizes and terrains that tasks are drawn from."""
    chain_lengths: Choices[Annotated[int, Field(ge=1, le=9)]] | None = None
    """Resources on the way to a heart, instead of the style's. One more means one more station to find and visit, and
    about ten times as much exploration."""
    num_sinks: Choices[Annotated[int, Field(ge=0, le=10)]] | None = None
    """Stations that only consume resources, instead of the style's: traps for an agent that tries every station."""
    room_sizes: Choices[Room] | None = None
    """Side of the room, cells, instead of the style's: tiny 5-10, small 10-20, medium 20-30, large 30-40, xlarge
    40-50. From small on an agent in the middle does not see all stations, so it must remember where they are."""
    terrains: Choices[Terrain] | None = None
    """Density of obstacles, instead of the style's. Obstacles can make a station unreachable."""
    num_vibes: int = Field(default=16, ge=0, le=152)
    """Number of actions that change the vibe, besides noop and four moves. Here they only waste a step."""

    @property
    def style(self) -> Style:
        """What tasks are drawn from: the curriculum style, overridden by the knobs that are set."""
        own = {
            "chain_lengths": self.chain_lengths,
            "num_sinks": self.num_sinks,
            "rooms": self.room_sizes,
            "terrains": self.terrains,
        }
        return STYLES[self.curriculum_style]._replace(**{name: tuple(given) for name, given in own.items() if given})

    @model_validator(mode="after")
    def _there_are_enough_stations(self) -> "AssemblyLines":
        longest, sinks = max(self.style.chain_lengths), max(self.style.num_sinks)
        if longest + 1 + sinks > len(STATIONS):
            raise ValueError(
                f"chains of {longest} resources and {sinks} sinks take {longest + 1 + sinks} stations: "
                f"there are {len(STATIONS)}"
            )
        return self


Protocols = Literal["hard", "medium", "easy", "all"]


class CvcRandomMaps(Config):
    """Many agents gather four resources, assemble hearts by matching vibes and deposit them in chests."""

    name: Literal["cvc_random_maps"] = "cvc_random_maps"
    num_cogs: int = Field(default=20, ge=1, le=64)
    """Number of agents in one environment. They share extractors, which may have few uses."""
    map_width: Span = [30, 100]
    """Smallest and largest width of the map, cells. On a small map ways are short but agents block each other."""
    map_height: Span = [30, 100]
    """Smallest and largest height of the map, cells."""
    num_assemblers: Span = [10, 30]
    """Smallest and largest number of assemblers, which make hearts. The counts below are spans too."""
    num_chargers: Span = [10, 50]
    """Chargers: 50 energy per use. Without them an agent can only move every second step after its first 100 energy."""
    num_chests: Span = [10, 30]
    """Chests, where hearts are deposited. Without reward buckets only this is rewarded."""
    num_carbon_extractors: Span = [10, 50]
    """Carbon extractors: 2 carbon per use; a heart needs 10."""
    num_oxygen_extractors: Span = [10, 50]
    """Oxygen extractors: 10 oxygen per use; a heart needs 10."""
    num_germanium_extractors: Span = [10, 40]
    """Germanium extractors: 2 germanium per use, up to 5 with more agents around; a heart needs 2."""
    num_silicon_extractors: Span = [10, 50]
    """Silicon extractors: 15 silicon per use for 20 energy; a heart needs 30."""
    extractor_max_uses: Choices[Annotated[int, Field(ge=0, le=65535)]] = [1, 3, 8, 10, 20]
    """How often an extractor can be used, drawn for each task and resource; 0: no limit."""
    assembler_protocols: Choices[Protocols] = ["hard", "medium", "easy", "all"]
    """Vibes that agents around an assembler must show to make one heart, drawn for each task. hard: heart_a, so one
    agent is enough. medium and easy (they are the same): heart_a and heart_b, so two agents. all: oxygen_a, oxygen_b,
    germanium_a, germanium_b, silicon_a, silicon_b, heart_a and heart_b, so eight agents."""
    max_steps: Choices[Annotated[int, Field(ge=1, le=1_000_000)]] = [750, 1000, 1250, 1500, 2000, 3000, 4000]
    """Length of an episode, steps, drawn for each task."""
    deposit_reward: Choices[float] = [3]
    """Reward for each heart that an agent deposits, drawn for each task."""
    heart_buckets: bool = False
    """Also reward holding a heart, by a weight drawn from heart_rewards. Depositing it takes this reward back."""
    heart_rewards: Choices[float] = [0.1, 0.333, 0.5, 1.0]
    """Reward for a held heart if heart_buckets is on."""
    resource_buckets: bool = False
    """Also reward each gained unit of the four resources, each by a weight drawn from resource_rewards."""
    resource_rewards: Choices[float] = [0.0, 0.001]
    """Reward for a gained unit of a resource if resource_buckets is on."""
    resource_reward_caps: Choices[Annotated[float, Field(gt=0)]] = [0.5]
    """Largest reward from one resource in an episode if resource_buckets is on."""
    initial_inventory_buckets: bool = False
    """Agents start with resources and hearts, drawn from initial_resources and initial_hearts."""
    initial_resources: Choices[Annotated[int, Field(ge=0, le=255)]] = [0, 20, 50, 75]
    """Initial units of each resource if initial_inventory_buckets is on. 30 of each make a heart without gathering."""
    initial_hearts: Choices[Annotated[int, Field(ge=0, le=15)]] = [0, 1, 2]
    """Initial hearts if initial_inventory_buckets is on. With a heart, an agent only needs a vibe and a chest for its
    first reward."""
    num_vibes: int = Field(default=16, ge=0, le=152)
    """Number of actions that change the vibe, besides noop and four moves. A heart needs vibe 10 (heart_a) to be made
    and vibe 11 (heart_b) to be deposited. Each useless action slows down random exploration."""

    @model_validator(mode="after")
    def _a_heart_can_be_deposited(self) -> "CvcRandomMaps":
        if self.num_vibes < HEART_B + 1:
            raise ValueError(
                f"num_vibes={self.num_vibes} leaves out heart_b, which depositing a heart needs: "
                f"it takes at least {HEART_B + 1}"
            )
        return self

    @model_validator(mode="after")
    def _everything_finds_a_cell(self) -> "CvcRandomMaps":
        objects = sum(max(getattr(self, f"num_{kind}s")) for kind in CVC_OBJECTS)
        cells = min(self.map_width) * min(self.map_height)
        if objects + self.num_cogs > cells:
            raise ValueError(
                f"a map of {min(self.map_width)} x {min(self.map_height)} has {cells} cells, too few for "
                f"{self.num_cogs} agents (num_cogs) and up to {objects} objects (num_chests, num_chargers, ...)"
            )
        return self


READINGS = ("names", "pixels", "numbers")
"""How a policy may read a part of an observation."""


def _check_readings(value: Any) -> Any:
    """A word alone stands for the one part of an observation without parts."""
    readings = {"observation": value} if isinstance(value, str) else value
    for word in readings.values() if isinstance(readings, dict) else ():
        if word not in READINGS:
            raise ValueError(f"'{word}' is no reading{did_you_mean(str(word), READINGS)}")
    return readings


Readings = Annotated[dict[str, str], BeforeValidator(_check_readings)]
"""Part of an observation -> one of READINGS."""


class ThirdParty(Config):
    """Any Gymnasium or PettingZoo environment (docs/your-environment.md)."""

    name: Literal["any"] = "any"
    id: str = Field(default="gym:CartPole-v1", min_length=1)
    """gym:ID (an environment of any installed package), gym:MODULE:ID (imports MODULE first), MODULE:CALLABLE (makes a
    Gymnasium environment or vector environment, or a PettingZoo parallel environment), pettingzoo:MODULE (with a
    function parallel_env) or the name of an entry point memexp.envs of an installed package. As a batch: vec:ID
    (Gymnasium's own vector environment of ID), envpool:ID and gymnax:ID."""
    options: dict[str, Any] = {}
    """Keyword arguments of the environment."""
    wrappers: list[str] = []
    """Wrappers, the innermost first: MODULE:CALLABLE or MODULE:CALLABLE(keyword=value, ...)."""
    reading: Readings | None = None
    """How the policy reads parts of the observation, such as {image: pixels}; a word alone if there is one part. names:
    a learnt vector for each number. pixels: an image. numbers: amounts. none: the space and its values decide, and the
    run keeps what they decided."""
    action_mask: Literal["auto", "off"] = "auto"
    """auto: forbidden actions get probability 0 if info has an action_mask, or if a part of the observation is called
    so. off: masks are not used."""
    max_steps: int | None = Field(default=None, ge=1)
    """Episodes are truncated after this many steps; none: after 10,000, or by the environment's own limit."""
    reward_scale: float = Field(default=1.0, gt=0)
    """Factor on the rewards that the agent learns from; discounted returns should be about 1. Reports stay unscaled."""
    ceiling_return: float | None = None
    """Return of a perfect policy; none: what the environment declares."""
    backend: Literal["auto", "serial", "multiprocessing"] = "auto"
    """serial: in this process. multiprocessing: in workers. auto: in workers if there are at least three cores,
    but not on macOS."""
    workers: int | None = Field(default=None, ge=1)
    """Worker processes; none: one fewer than there are cores. Results do not depend on it."""

    @field_validator("id")
    @classmethod
    def _the_kind_is_known(cls, value: str) -> str:
        kind, colon, rest = value.partition(":")
        if not colon and value in entries("envs"):
            return f"module:{entries('envs')[value]}"
        is_typo = bool(difflib.get_close_matches(kind, KINDS)) and place_of(kind) is None
        if kind not in KINDS and _PLACE.fullmatch(value) and not is_typo:
            return f"module:{value}"
        refuse_module(value, "an environment")
        if not colon or kind not in KINDS or not rest:
            near = did_you_mean(kind, KINDS) if colon else did_you_mean(value, [f"gym:{value}", *entries("envs")])
            raise ValueError(f"'{value}' is not gym:ID, MODULE:CALLABLE, pettingzoo:MODULE or vec:ID{near}")
        return value

    @model_validator(mode="after")
    def _nothing_of_python_itself(self) -> "ThirdParty":
        for module, _ in self.imports:
            refuse_standard_library(module)
        return self

    @property
    def imports(self) -> list[tuple[str, str]]:
        """(module, name in it) of all that is imported by name: MODULE of `id` ('' as the name), and each wrapper."""
        kind, _, rest = self.id.partition(":")
        module, _, name = rest.partition(":") if kind == "module" else (rest, "", "parallel_env")
        if kind in ("gym", *BATCHED):
            module, name = rest.rpartition(":")[0] if kind in ("gym", "vec") else kind, ""
        named = [(module, name)]
        named += [(module, name) for module, _, name in (one.partition("(")[0].partition(":") for one in self.wrappers)]
        return [(module, name) for module, name in named if module]


BATCHED = ("vec", "envpool", "gymnax")
"""Kinds of environments that are stepped as a batch."""
KINDS = ("gym", "module", "pettingzoo", *BATCHED)
"""First part of the id of a third-party environment."""
_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""MODULE:CALLABLE."""


def is_third_party(name: str) -> bool:
    """Whether a name is the id of a third-party environment."""
    return ":" in name or name in entries("envs")


HEART_B = 11
"""Number of the vibe heart_b."""
CVC_OBJECTS = (
    "assembler", "charger", "chest", "carbon_extractor", "oxygen_extractor", "germanium_extractor", "silicon_extractor",
)  # fmt: skip
"""Objects on a map of cvc_random_maps. The knob num_<object>s gives their number."""


ENVIRONMENTS: dict[str, type[Config]] = {
    "tmaze": TMaze,
    "tmaze_cue": TMazeCue,
    "chain_recall": ChainRecall,
    "delayed_cue": DelayedCue,
    "assembly_lines": AssemblyLines,
    "cvc_random_maps": CvcRandomMaps,
    "any": ThirdParty,
}

SCRIPTED = ("memoryless", "memory", "full")
"""Kinds of scripted policies, see `memexp.envs.scripted`."""

GRID_GAMES = ("assembly_lines", "cvc_random_maps")
"""Environments that have tasks, which a curriculum can choose, and scripted policies."""

EnvConfig = Annotated[
    TMaze | TMazeCue | ChainRecall | DelayedCue | AssemblyLines | CvcRandomMaps | ThirdParty,
    Field(discriminator="name"),
]
