"""The memory verdict as types: a kind, a cause, and the numbers that `sentences` puts into the cause's sentence."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from memexp.analysis.statistics import Interval


class MemoryKind(StrEnum):
    REQUIRED = auto()
    HELPS = auto()
    NOT_NEEDED = auto()
    UNDECIDED = auto()


class MemoryCause(Enum):
    """Why the kind is what it is, as a sentence, in the order in which the causes are looked for."""

    PAIR_LEFT_OUT = "{left_out}"
    NO_ARM_REMEMBERS = "No arm can remember."
    NO_PAIR = "No architecture can be compared with its twin."
    RANDOM_NOT_MEASURED = "The random policy's return was not measured, so returns have no scale."
    NO_ARM_ABOVE_RANDOM = "Nothing learned: no arm is above the random policy, so memory could not show an effect."
    NO_PAIR_LEARNED = "Nothing learned: no architecture and no twin is above the random policy."
    SEEDS_FAR_ABOVE_RANDOM = (
        "No arm is surely above the random policy, but {far} far above it. More seeds tell if arms learn."
    )
    # A pair has a positive effect.
    NO_CEILING = "{gains} But nobody knows whether an arm solves the task, or what is left to gain: {offers}."
    MEMORYLESS_SEED_SOLVES = "{gains} But {seed}."
    NO_ARM_SOLVES = (
        "{gains} But no arm both reaches {solved} of the way and has an effect that is surely above {smallest:g}."
    )
    MEMORY_ABOUT_TO_SOLVE = (
        "{gains} No arm with memory reaches {solved} of the way yet, but the return of {arms} still rises: at this "
        "pace, another third of the steps would bring it there."
    )
    SPREAD_CANNOT_EXCLUDE = (
        "{gains} But with these seeds we cannot rule out that {arms} would reach {solved} of the way without memory."
    )
    MEMORYLESS_STILL_RISES = (
        "{gains} But the return of {arms} still rises: at this pace, another third of the steps would bring it to "
        "{solved} of the way without memory."
    )
    FEW_SEEDS_CANNOT_EXCLUDE = (
        "{gains} But with {seeds} seeds we cannot rule out that {arms} would solve the task in {rate} of the runs."
    )
    SOLVED_WITH_MEMORY_ALONE = (
        "With memory, at least {solved} {way} is reached by {arms}. Without memory, {memoryless}, which is the best. "
        "Memory adds {effects}."
    )
    # No pair has one.
    EFFECT_UNCERTAIN = (
        "The effect of memory is neither significant (in final returns and in best windows) nor surely too small to "
        "matter (less than {smallest:g} {way}): {effects}.{near_misses}"
    )
    SAME_BUT_NO_CEILING = (
        "With and without memory, the arms end at the same level. But nobody knows whether an arm solves the task, or "
        "what is left to gain: {offers}."
    )
    NONE_SOLVES_WITHOUT = (
        "With and without memory, the arms end at the same level. But no arm without memory reaches {solved} {way}: "
        "the rest may need memory.{reach}"
    )
    STILL_PULLS_AHEAD = (
        "Memory adds nothing yet. But {arms} still gains on the twin: at this pace, the lead would be more than "
        "{smallest:g} after another third of the steps."
    )
    REACHED_BY_NOBODY = (
        "With and without memory, the arms end at the same level. But the last {rest} {way} is reached by nobody and "
        "may need memory.{reach}"
    )
    REST_UNCERTAIN = (
        "With and without memory, the arms end at the same level. But with these seeds we cannot rule out that "
        "{smallest:g} {way} is left to gain, which may need memory."
    )
    SOLVED_WITHOUT_MEMORY = "Without memory, {memoryless} {way}. Memory adds less than {smallest:g} in {arms}.{harm}"


# Causes of 'helps' that more seeds may remove.
CANNOT_EXCLUDE = (MemoryCause.SPREAD_CANNOT_EXCLUDE, MemoryCause.FEW_SEEDS_CANNOT_EXCLUDE)
# Causes that a known ceiling removes, and causes that a longer reach of the memory may remove.
NOTHING_KNOWN = (MemoryCause.NO_CEILING, MemoryCause.SAME_BUT_NO_CEILING)
NOT_REACHED = (MemoryCause.NONE_SOLVES_WITHOUT, MemoryCause.REACHED_BY_NOBODY)


@dataclass(frozen=True)
class Effect:
    """Effect of an arm's memory, share of the scale."""

    arm: str
    estimate: float
    interval: Interval


@dataclass(frozen=True)
class NearMiss:
    """An effect whose 95 % interval excludes 0, while the level of this look does not allow the claim."""

    arm: str
    p: float
    allowed: float
    more: int | None
    """More seeds an arm with which the level would allow this p-value; None where there is no such number."""


@dataclass(frozen=True)
class Reach:
    """How far apart two events may be that training connects, agent steps, beside what the task may ask."""

    horizons: tuple[tuple[str, int | None], ...]
    """Arms with memory and their credit horizons; None where not known."""
    span: int | None
    """What the task asks to remember, where it is stated."""
    episode: int | None
    """Length of an episode, where it was logged."""
    knobs: tuple[str, ...] = ()
    """Settings that make the horizons longer which are shorter than the span (else the episode), or not known."""
    assumed: tuple[str, ...] = ()
    """Arms with cells that memexp does not know, which count as recurrent states."""

    @property
    def needed(self) -> int | None:
        return self.episode if self.span is None else self.span


@dataclass(frozen=True)
class SolvingSeed:
    """A seed of an arm without memory that solves the environment."""

    arm: str
    seed: int
    share: float  # Its best window, share of the scale
    lost: bool  # Whether its final return is below the threshold again


class LeftOutCause(Enum):
    NO_TWIN = "no memory-ablated twin"
    NO_FINISHED_RUN = "no finished run of {arm}"
    INCONSISTENT = "inconsistent: max_logprob_gap {gap:.2g} > {limit:g} in {run}"
    FEW_SEEDS = "{seeds[0]} v {seeds[1]} finished seeds, the minimum is {least} v {least}"


@dataclass(frozen=True)
class LeftOut:
    """Why an arm with memory takes no part in the verdict. Only the fields that its cause needs are set."""

    cause: LeftOutCause
    arm: str = ""  # The arm or the twin without a finished run
    seeds: tuple[int, int] = (0, 0)  # Finished seeds of the arm and its twin
    run: str = ""  # The run whose learning pass and acting pass differ most
    gap: float = 0.0  # Its max_logprob_gap
    limit: float = 0.0  # What its precision allows


@dataclass(frozen=True)
class MemoryVerdict:
    """A verdict about memory. Only the fields that its cause needs are set."""

    kind: MemoryKind
    cause: MemoryCause
    top: str = "the ceiling"
    """What the top of the scale is."""
    solved: float | None = None
    """Share of the scale that counts as solved; None where it is not known."""
    effects: tuple[Effect, ...] = ()
    """Effects that the verdict rests on."""
    arms: tuple[str, ...] = ()
    """Arms that the cause is about."""
    memoryless: tuple[tuple[str, float], ...] = ()
    """Arms without memory that the cause is about, with the IQM of their final returns, share of the scale."""
    hurt: tuple[str, ...] = ()
    """Arms whose memory surely costs more than the smallest effect."""
    solving_seed: SolvingSeed | None = None
    seeds: int = 0
    """Fewest seeds of `arms`, where there are too few."""
    reach: Reach | None = None
    """Credit horizons beside what the task asks."""
    rest: float = 0.0
    """Share of the scale that no arm reaches."""
    near_misses: tuple[NearMiss, ...] = ()
    offers: tuple[str, ...] = ()
    """What could serve as a known top."""
    far: tuple[str, ...] = ()
    """Runs that end far above the random policy."""
    left_out: LeftOut | None = None
