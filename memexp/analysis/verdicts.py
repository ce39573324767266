"""The memory verdict as types: a kind, a cause, and the numbers of the cause. `sentences` puts it into text."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from memexp.analysis.statistics import Interval


class MemoryKind(StrEnum):
    REQUIRED = auto()
    HELPS = auto()
    NOT_NEEDED = auto()
    UNDECIDED = auto()


class MemoryCause(Enum):
    """Why the kind is what it is, in the order in which the causes are looked for."""

    PAIR_LEFT_OUT = auto()
    NO_ARM_REMEMBERS = auto()
    NO_PAIR = auto()
    RANDOM_NOT_MEASURED = auto()
    NO_ARM_ABOVE_RANDOM = auto()
    NO_PAIR_LEARNED = auto()
    # A pair has a positive effect.
    MEMORYLESS_SEED_SOLVES = auto()
    NO_ARM_SOLVES = auto()
    SPREAD_CANNOT_EXCLUDE = auto()
    MEMORYLESS_STILL_RISES = auto()
    FEW_SEEDS_CANNOT_EXCLUDE = auto()
    SOLVED_WITH_MEMORY_ALONE = auto()
    # No pair has one.
    EFFECT_UNCERTAIN = auto()
    NONE_SOLVES_WITHOUT = auto()
    BEYOND_CREDIT_HORIZON = auto()
    STILL_PULLS_AHEAD = auto()
    SOLVED_WITHOUT_MEMORY = auto()


CANNOT_EXCLUDE = (MemoryCause.SPREAD_CANNOT_EXCLUDE, MemoryCause.FEW_SEEDS_CANNOT_EXCLUDE)
"""Causes of 'helps' that more seeds may remove."""


@dataclass(frozen=True)
class Effect:
    """Effect of an arm's memory, share of the scale."""

    arm: str
    estimate: float
    interval: Interval


@dataclass(frozen=True)
class Level:
    """The IQM of an arm's final returns, share of the scale."""

    arm: str
    share: float


@dataclass(frozen=True)
class SolvingSeed:
    """A seed of an arm without memory that solves the environment."""

    arm: str
    seed: int
    share: float
    """Its best window, share of the scale."""
    lost: bool
    """Whether its final return is below the threshold again."""


class LeftOutCause(Enum):
    NO_TWIN = auto()
    NO_FINISHED_RUN = auto()
    INCONSISTENT = auto()
    FEW_SEEDS = auto()


@dataclass(frozen=True)
class LeftOut:
    """Why an arm with memory takes no part in the verdict. Only the fields that its cause needs are set."""

    cause: LeftOutCause
    arm: str = ""
    """The arm or the twin without a finished run."""
    seeds: tuple[int, int] = (0, 0)
    """Finished seeds of the arm and its twin."""
    run: str = ""
    """The run whose learning pass and acting pass differ most."""
    gap: float = 0.0
    """Its max_logprob_gap."""
    limit: float = 0.0
    """What its precision allows."""


@dataclass(frozen=True)
class MemoryVerdict:
    """A verdict about memory. Only the fields that its cause needs are set."""

    kind: MemoryKind
    cause: MemoryCause
    best_arm: str | None = None
    """The arm that is the top of the scale; None for a ceiling."""
    effects: tuple[Effect, ...] = ()
    """Effects that the verdict rests on."""
    arms: tuple[str, ...] = ()
    """Arms that the cause is about."""
    memoryless: tuple[Level, ...] = ()
    """Arms without memory that the cause is about."""
    hurt: tuple[str, ...] = ()
    """Arms whose memory surely costs more than the smallest effect."""
    solving_seed: SolvingSeed | None = None
    seeds: int = 0
    """Fewest seeds of `arms`, where there are too few."""
    memory_span: int | None = None
    """Agent steps that the task asks to remember."""
    horizons: tuple[tuple[str, int | None], ...] = ()
    """Arms with their credit horizons, shorter than the span or unknown."""
    left_out: LeftOut | None = None
