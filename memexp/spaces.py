"""What observations and actions look like: the words that worlds and policies share. Imports nothing of memexp."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class VectorSpace:
    """Observations are float32 `[N, size]`."""

    size: int
    normalise: bool = False
    """Their scale is not known beforehand: the policy normalises them by running means and deviations."""


@dataclass(frozen=True)
class TokenSpace:
    """Observations are uint8 `[N, num_tokens, 3]`: location (16*row + column), feature id, value; 255 = unused.

    `normalization[f]` is the largest usual value of feature f, `categories[f]` the number of its values if they are
    names and not amounts (0: amounts; larger values count as the last one); features of `unplaced` stand at the
    agent's own cell only. `window` is the side of the square seen, cells.
    """

    num_tokens: int
    normalization: tuple[float, ...]
    categories: tuple[int, ...]
    unplaced: tuple[int, ...] = ()
    window: int = 11

    @property
    def num_features(self) -> int:
        return len(self.normalization)


@dataclass(frozen=True)
class CategoriesSpace:
    """Observations are whole numbers `[N, len(counts)]`; number i is one of 0 .. counts[i] - 1, a name."""

    counts: tuple[int, ...]


@dataclass(frozen=True)
class ImageSpace:
    """Observations are numbers `[N, *shape]`: height, width, channels, or channels first."""

    shape: tuple[int, int, int]
    channels_first: bool = False


@dataclass(frozen=True)
class CellsSpace:
    """Observations are uint8 `[N, height, width, channels]`: a map of few cells, whose numbers are names."""

    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A piece of a StructSpace: its numbers stand at `offset` bytes, of torch's type `dtype`."""

    name: str
    space: "VectorSpace | CategoriesSpace | ImageSpace | CellsSpace"
    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class StructSpace:
    """Observations are uint8 `[N, num_bytes]`, which hold several parts of types of their own."""

    parts: tuple[Part, ...]
    num_bytes: int


ObservationSpace = VectorSpace | TokenSpace | CategoriesSpace | ImageSpace | CellsSpace | StructSpace


@dataclass(frozen=True)
class DiscreteActions:
    """Actions are int64 `[N]`, each one of 0 .. count - 1."""

    count: int

    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class MultiDiscreteActions:
    """Actions are int64 `[N, len(counts)]`: several choices at once, number i one of 0 .. counts[i] - 1."""

    counts: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.counts),)

    @property
    def count(self) -> int:
        """Number of different actions."""
        return math.prod(self.counts)


@dataclass(frozen=True)
class ContinuousActions:
    """Actions are float32 `[N, size]`; what lies outside of -1 .. 1 is taken as the bound, where there is one."""

    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def count(self) -> None:
        """They cannot be counted."""
        return


ActionSpace = DiscreteActions | MultiDiscreteActions | ContinuousActions
