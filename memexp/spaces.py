"""Observation and action spaces: what environments tell policies. Imports nothing of memexp."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

UNUSED_TOKEN = 255
"""Feature id of an unused token."""


@dataclass(frozen=True)
class VectorSpace:
    """Observations are float32 `[N, size]`."""

    size: int
    normalise: bool = False
    """The scale is unknown: the policy normalises by running means and standard deviations."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)


@dataclass(frozen=True)
class TokenSpace:
    """Observations are uint8 `[N, num_tokens, 3]`: location (16 * row + column), feature id (255: unused), value.

    `normalization[f]` is the largest usual value of feature f. `categories[f]` is the number of its values if they are
    categories (larger values count as the last one), 0 if they are amounts. Features in `unplaced` occur in the agent's
    own cell only. `window` is the side of the visible square, cells.
    """

    num_tokens: int
    normalization: tuple[float, ...]
    categories: tuple[int, ...]
    unplaced: tuple[int, ...] = ()
    window: int = 11

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_tokens, 3)

    @property
    def num_features(self) -> int:
        return len(self.normalization)


@dataclass(frozen=True)
class CategoriesSpace:
    """Observations are integers `[N, len(counts)]`; number i is a category in 0 .. counts[i] - 1."""

    counts: tuple[int, ...]


@dataclass(frozen=True)
class ImageSpace:
    """Observations are numbers `[N, *shape]`: height, width, channels, or channels first."""

    shape: tuple[int, int, int]
    channels_first: bool = False


@dataclass(frozen=True)
class CellsSpace:
    """Observations are whole numbers `[N, height, width, channels]`: a map whose numbers are categories 0 .. 255."""

    shape: tuple[int, int, int]


@dataclass(frozen=True)
class TextSpace:
    """Observations are int16 `[N, words, 2]`: two numbers in 1 .. `numbers` that stand for a word; 0 after the last."""

    words: int
    numbers: int


@dataclass(frozen=True)
class Part:
    """A part of a StructSpace: its numbers start at byte `offset` and have torch's type `dtype`."""

    name: str
    space: "VectorSpace | CategoriesSpace | ImageSpace | CellsSpace | TextSpace"
    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class StructSpace:
    """Observations are uint8 `[N, num_bytes]`, which hold several parts, each with its own type."""

    parts: tuple[Part, ...]
    num_bytes: int
    mask: Part | None = None
    """Not 0 for each action that is allowed now, side by side for several choices at once. No encoder reads it."""


ObservationSpace = VectorSpace | TokenSpace | CategoriesSpace | ImageSpace | CellsSpace | TextSpace | StructSpace


def read_part(obs: Tensor, part: Part) -> Tensor:
    """A part's numbers `[..., *shape]` from the bytes `[..., num_bytes]` of a StructSpace."""
    dtype = getattr(torch, part.dtype)
    size = torch.Size(part.shape).numel() * dtype.itemsize
    own = obs[..., part.offset : part.offset + size].clone(memory_format=torch.contiguous_format)
    return own.view(dtype).view(*obs.shape[:-1], *part.shape)


def allowed_actions(obs: Tensor, space: ObservationSpace) -> Tensor | None:
    """Whether each action is allowed, bool `[..., A]`, from observations `[..., *shape]`; None: all always are."""
    mask = space.mask if isinstance(space, StructSpace) else None
    return None if mask is None else read_part(obs, mask) != 0


def described(space: ObservationSpace, because: Mapping[str, str], actions: "ActionSpace | None" = None) -> list[str]:
    """A line for each part of an observation: its name, how the policy reads it, its size, and why.

    actions: those that a mask allows, to tell the choices apart.
    """
    parts = {part.name: part.space for part in space.parts} if isinstance(space, StructSpace) else {"": space}
    lines: list[str] = []
    for name, part in parts.items():
        name = name if name in because else "observation"
        why = f" ({because[name]})" if name in because else ""
        lines.append(f"{name}: {_described(part)}{why}")
    if isinstance(space, StructSpace) and space.mask:
        choices = actions.counts if isinstance(actions, MultiDiscreteActions) else (math.prod(space.mask.shape),)
        count = " + ".join(map(str, choices))
        lines.append(f"{space.mask.name}: which of {count} actions are allowed; policies do not read it")
    return lines


def _described(space: ObservationSpace) -> str:
    match space:
        case CellsSpace(shape=(1, 1, count)):
            return f"names, {count}"
        case CellsSpace(shape=shape):
            return f"map of names, {' x '.join(map(str, shape))}"
        case ImageSpace(shape=shape, channels_first=first):
            return f"pixels, {' x '.join(map(str, shape))}{', channels first' if first else ''}"
        case CategoriesSpace(counts=counts):
            return f"names, {len(counts)} (of {', '.join(map(str, counts))})"
        case TextSpace(words=words):
            return f"text of at most {words} words"
        case TokenSpace(num_tokens=count):
            return f"{count} tokens of three bytes"
        case VectorSpace(size=size):
            return f"numbers, {size}"
        case _:
            return f"{len(space.parts)} parts"


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
    """Actions are float32 `[N, size]`; bounded environments clip them to -1 .. 1."""

    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def count(self) -> None:
        """They cannot be counted."""
        return


ActionSpace = DiscreteActions | MultiDiscreteActions | ContinuousActions
