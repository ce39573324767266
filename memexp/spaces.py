"""What an observation looks like: the words that worlds and policies share. Imports nothing of memexp."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VectorSpace:
    """Observations are float32 `[N, size]`."""

    size: int


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


ObservationSpace = VectorSpace | TokenSpace
