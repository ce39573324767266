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
    # A pair has a positive effect.
    MEMORYLESS_SEED_SOLVES = "{gains} But {seed}."
    NO_ARM_SOLVES = (
        "{gains} But no arm both reaches {solved} of the way and has an effect that is surely above {smallest:g}."
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
        "matter (less than {smallest:g} {way}): {effects}."
    )
    NONE_SOLVES_WITHOUT = (
        "With and without memory, the arms end at the same level. But no arm without memory reaches {solved} {way}: "
        "the rest may need memory."
    )
    BEYOND_CREDIT_HORIZON = (
        "Memory adds nothing. But the task's memory span of {span} steps is beyond what training could connect "
        "({horizons}). Train with a longer horizon or mem_len first."
    )
    STILL_PULLS_AHEAD = (
        "Memory adds nothing yet. But {arms} still gains on the twin: at this pace, the lead would be more than "
        "{smallest:g} after another third of the steps."
    )
    SOLVED_WITHOUT_MEMORY = "Without memory, {memoryless} {way}. Memory adds less than {smallest:g} in {arms}.{harm}"


# Causes of 'helps' that more seeds may remove.
CANNOT_EXCLUDE = (MemoryCause.SPREAD_CANNOT_EXCLUDE, MemoryCause.FEW_SEEDS_CANNOT_EXCLUDE)


@dataclass(frozen=True)
class Effect:
    """Effect of an arm's memory, share of the scale."""

    arm: str
    estimate: float
    interval: Interval


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
    best_arm: str | None = None
    """The arm that is the top of the scale; None for a ceiling."""
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
    memory_span: int | None = None
    """Agent steps that the task asks to remember."""
    horizons: tuple[tuple[str, int | None], ...] = ()
    """Arms with their credit horizons, shorter than the span or unknown."""
    left_out: LeftOut | None = None
