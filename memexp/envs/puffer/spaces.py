"""Gymnasium's spaces as those of `memexp.spaces`, and observations of several parts as bytes.

PufferLib's emulation turns any observation into one Box, but it takes a lone Discrete space for eight bytes instead of
four. So this module turns every space that is not a Box into a Box of bytes, with PufferLib's own layout.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from pufferlib.emulation import dtype_from_space, emulate

from memexp.config import UsageError
from memexp.spaces import (
    ActionSpace,
    CategoriesSpace,
    CellsSpace,
    ContinuousActions,
    DiscreteActions,
    ImageSpace,
    MultiDiscreteActions,
    ObservationSpace,
    Part,
    StructSpace,
    VectorSpace,
)

SMALL_MAP = 16
"""Bytes on a map of at most this many cells a side are categories of objects, not pixels."""
_ALL = "the observation"


def observation_space(space: spaces.Space, name: str) -> ObservationSpace:
    """The space for the encoder. Raises UsageError, which starts with `name`, for a part that no encoder reads."""
    if isinstance(space, spaces.Box):
        return _box(space)
    return StructSpace(tuple(_parts(space, name)), layout(space).itemsize)


def layout(space: spaces.Space) -> np.dtype:
    """The memory layout of an observation that is not a Box."""
    return np.dtype([("all", dtype_from_space(space))], align=True)


def action_space(space: spaces.Space, name: str) -> ActionSpace:
    """The space for the actor. Raises UsageError, which starts with `name`, for an unsupported space."""
    if isinstance(space, spaces.Discrete):
        return DiscreteActions(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return MultiDiscreteActions(tuple(int(n) for n in space.nvec))
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        return ContinuousActions(space.shape[0])
    raise UsageError(
        f"{name}: actions are {space}; only Discrete, MultiDiscrete (one dimension, from 0) and Box (one dimension of "
        "floats) are supported: add a wrapper that turns them into one of these (env.wrappers)"
    )


def _box(space: spaces.Box) -> VectorSpace | ImageSpace | CellsSpace:
    shape = space.shape
    if len(shape) == 2 and space.dtype == np.uint8 and min(shape) > SMALL_MAP:
        return ImageSpace((*shape, 1))
    if len(shape) != 3:
        return VectorSpace(int(np.prod(shape)), normalise=True)
    if space.dtype == np.uint8 and max(shape) <= SMALL_MAP and space.high.max() > 1:
        return CellsSpace(shape)
    return ImageSpace(shape, channels_first=shape[0] < shape[2])


def _parts(space: spaces.Space, name: str) -> Iterator[Part]:
    for path, leaf, offset in _leaves(space, layout(space)["all"], 0, ""):
        if isinstance(leaf, spaces.Box):
            kind = _box(leaf)
            shape = kind.shape if isinstance(kind, ImageSpace | CellsSpace) else (int(np.prod(leaf.shape)),)
            yield Part(path or _ALL, kind, offset, shape, str(leaf.dtype))
        elif isinstance(leaf, spaces.MultiBinary):
            size = int(np.prod(leaf.shape))
            yield Part(path or _ALL, VectorSpace(size), offset, (size,), str(leaf.dtype))
        else:
            counts = _counts(leaf, name, path)
            yield Part(path or _ALL, CategoriesSpace(counts), offset, (len(counts),), "int32")


def _counts(leaf: spaces.Space, name: str, path: str) -> tuple[int, ...]:
    """Number of categories of each column. A range that starts above 0 counts from 0."""
    if isinstance(leaf, spaces.Discrete) and leaf.start >= 0:
        return (int(leaf.start + leaf.n),)
    if isinstance(leaf, spaces.MultiDiscrete) and leaf.nvec.ndim == 1 and (leaf.start >= 0).all():
        return tuple(int(n) for n in leaf.start + leaf.nvec)
    part = called(path or _ALL)
    leave = 'leaves it out, such as gymnasium.wrappers:FilterObservation(filter_keys=["..."]), or '
    fix = f"{leave if path else ''}encodes it"
    raise UsageError(
        f"{name}: {part} is {type(leaf).__name__}, which no encoder reads (Box, Discrete, MultiDiscrete, "
        f"MultiBinary, Dict and Tuple can be read): add a wrapper that {fix} (env.wrappers)"
    )


def called(part: str) -> str:
    """A part's name in a sentence."""
    return part if part == _ALL else f"'{part}' of the observation"


def _leaves(space: Any, dtype: np.dtype, offset: int, path: str) -> Iterator[tuple[str, spaces.Space, int]]:
    """(path, space, offset in bytes) of each part that is neither Dict nor Tuple."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield path, space, offset
        return
    named = space.items() if isinstance(space, spaces.Dict) else ((f"f{i}", part) for i, part in enumerate(space))
    for key, part in named:
        below, at = dict(dtype.fields or {})[key][:2]  # type: ignore[index]
        yield from _leaves(part, below, offset + at, f"{path}.{key}" if path else key)


class AsBytes:
    """Encodes observations of `space` as uint8 `[num_bytes]`. The next call overwrites the returned array."""

    def __init__(self, space: spaces.Space):
        self._struct = np.zeros(1, layout(space))
        self._bytes = self._struct.view(np.uint8)
        self.space = spaces.Box(0, 255, self._bytes.shape, np.uint8)

    def __call__(self, obs: Any) -> np.ndarray:
        emulate(self._struct["all"], obs)
        return self._bytes


def without_constants(env: gymnasium.Env) -> gymnasium.Env:
    """The environment without constant parts of its observation, such as MiniGrid's mission where it has only one."""
    space = env.observation_space
    if isinstance(space, spaces.Dict):
        varying = [key for key, part in space.items() if getattr(part, "ordered_placeholders", part) is not None]
        if len(varying) < len(space):
            return gymnasium.wrappers.FilterObservation(env, varying)
    return env
