"""The environment table: one config a world, its knobs as fields. Imports neither torch nor numba.

Every knob has its unit and effect under it. `ENVIRONMENTS` is the table; `memexp.envs.make` builds the world.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from memexp.config import Config
from memexp.envs.assembly_tasks import STATIONS, STYLES, Style
from memexp.envs.knobs import Choices, Span


class TMaze(Config):
    """A corridor with a choice at its end. The cue (which side pays) is shown in the first step only: needs memory."""

    name: Literal["tmaze"] = "tmaze"
    length: int = Field(default=6, ge=1, le=10_000)
    """Corridor length: steps between the cue and the choice."""
    cue_steps: int = Field(default=1, ge=1, le=10_000)
    """First steps of the episode in which the cue is shown; the more, the shorter the memory that the choice takes."""

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


Room = Literal["tiny", "small", "medium", "large", "xlarge"]
Terrain = Literal["no-terrain", "sparse", "balanced", "dense"]


class AssemblyLines(Config):
    """One agent, a room of stations: carry a resource along a chain of stations until it becomes a heart."""

    name: Literal["assembly_lines"] = "assembly_lines"
    curriculum_style: CurriculumStyle = "all_room_sizes"
    """Which chain lengths, sinks, room sizes and terrains tasks are drawn from."""
    chain_lengths: Choices[Annotated[int, Field(ge=1, le=9)]] | None = None
    """Resources on the way to a heart, instead of the style's; each more is one more station to find and visit, and
    makes exploration about an order of magnitude harder."""
    num_sinks: Choices[Annotated[int, Field(ge=0, le=10)]] | None = None
    """Stations that swallow one of every resource, instead of the style's: traps for an agent that tries everything."""
    room_sizes: Choices[Room] | None = None
    """Sides of the room, cells, instead of the style's: tiny 5-10, small 10-20, medium 20-30, large 30-40, xlarge
    40-50. From small on an agent in the middle does not see all stations: places must be remembered."""
    terrains: Choices[Terrain] | None = None
    """Obstacles, instead of the style's. With any, a station may be out of reach."""
    num_vibes: int = Field(default=16, ge=0, le=152)
    """Vibe-change actions besides noop and the four moves; vibes do nothing here, so each is a wasted step."""

    @property
    def style(self) -> Style:
        """What tasks are drawn from: the curriculum style, in its place what has a knob of its own."""
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
    """Agents in one world. Extractors with few uses are shared among them."""
    map_width: Span = [30, 100]
    """Smallest and largest width of the map, cells. Smaller: everything is nearer, agents stand in each other's way."""
    map_height: Span = [30, 100]
    """Smallest and largest height of the map, cells."""
    num_assemblers: Span = [10, 30]
    """Smallest and largest number of assemblers, where hearts are made; as the other counts below."""
    num_chargers: Span = [10, 50]
    """Chargers: 50 energy a use. Without one an agent moves every second step once its first 100 energy are spent."""
    num_chests: Span = [10, 30]
    """Chests, where hearts are deposited: the only use that is rewarded without buckets."""
    num_carbon_extractors: Span = [10, 50]
    """Carbon extractors: 2 carbon a use; a heart takes 10."""
    num_oxygen_extractors: Span = [10, 50]
    """Oxygen extractors: 10 oxygen a use; a heart takes 10."""
    num_germanium_extractors: Span = [10, 40]
    """Germanium extractors: 2 a use, up to 5 with more agents around; a heart takes 2."""
    num_silicon_extractors: Span = [10, 50]
    """Silicon extractors: 15 silicon a use for 20 energy; a heart takes 30."""
    extractor_max_uses: Choices[Annotated[int, Field(ge=0, le=65535)]] = [1, 3, 8, 10, 20]
    """How often an extractor can be used, drawn per task and resource; 0: without limit."""
    assembler_protocols: Choices[Protocols] = ["hard", "medium", "easy", "all"]
    """Which vibes must stand around an assembler to make one heart, drawn per task. hard: heart_a, which one agent
    alone can show, and the only one that it can. medium and easy (the same): heart_a and heart_b, two agents. all:
    oxygen_a, oxygen_b, germanium_a, germanium_b, silicon_a, silicon_b, heart_a and heart_b, eight agents."""
    max_steps: Choices[Annotated[int, Field(ge=1, le=1_000_000)]] = [750, 1000, 1250, 1500, 2000, 3000, 4000]
    """Length of an episode, steps, drawn per task."""
    deposit_reward: Choices[float] = [3]
    """Reward of an agent for a heart it deposits, drawn per task."""
    heart_buckets: bool = False
    """Also reward holding a heart (taken back when it is deposited), by a weight drawn from heart_rewards."""
    heart_rewards: Choices[float] = [0.1, 0.333, 0.5, 1.0]
    """Weights of a held heart, where heart_buckets is on."""
    resource_buckets: bool = False
    """Also reward every unit of the four resources gained, by a weight each drawn from resource_rewards."""
    resource_rewards: Choices[float] = [0.0, 0.001]
    """Weights of a gained unit of each resource, where resource_buckets is on."""
    resource_reward_caps: Choices[Annotated[float, Field(gt=0)]] = [0.5]
    """Most that one resource can pay in an episode, where resource_buckets is on."""
    initial_inventory_buckets: bool = False
    """Start with resources and hearts, drawn from initial_resources and initial_hearts."""
    initial_resources: Choices[Annotated[int, Field(ge=0, le=255)]] = [0, 20, 50, 75]
    """What agents may start with of each resource, units, where initial_inventory_buckets is on. 30 of each are one
    heart without any gathering."""
    initial_hearts: Choices[Annotated[int, Field(ge=0, le=15)]] = [0, 1, 2]
    """Hearts that agents may start with, where initial_inventory_buckets is on. With one, a vibe and a chest are all
    that separates them from the first reward."""
    num_vibes: int = Field(default=16, ge=0, le=152)
    """Vibe-change actions besides noop and the four moves. Making a heart takes vibe 10 (heart_a) and depositing it
    vibe 11 (heart_b); each action more that does nothing makes random exploration slower."""

    @model_validator(mode="after")
    def _a_heart_can_be_deposited(self) -> "CvcRandomMaps":
        if self.num_vibes < HEART_B + 1:
            raise ValueError(
                f"num_vibes={self.num_vibes} leaves out heart_b, without which no heart can be deposited: "
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


HEART_B = 11
"""Number of the vibe heart_b."""
CVC_OBJECTS = (
    "assembler", "charger", "chest", "carbon_extractor", "oxygen_extractor", "germanium_extractor", "silicon_extractor",
)  # fmt: skip
"""What stands on a map of cvc_random_maps; the knobs of their numbers are called num_<object>s."""


ENVIRONMENTS: dict[str, type[Config]] = {
    "tmaze": TMaze,
    "tmaze_cue": TMazeCue,
    "chain_recall": ChainRecall,
    "assembly_lines": AssemblyLines,
    "cvc_random_maps": CvcRandomMaps,
}

SCRIPTED = ("memoryless", "memory", "full")
"""Kinds of scripted players: what they see and remember is told in envs/players/."""

GRID_GAMES = ("assembly_lines", "cvc_random_maps")
"""Environments whose episodes play tasks, so that a curriculum can choose, and that have scripted players."""

EnvConfig = Annotated[TMaze | TMazeCue | ChainRecall | AssemblyLines | CvcRandomMaps, Field(discriminator="name")]
