"""Gymnasium's spaces as those of `memexp.spaces`, and observations of several parts as bytes.

PufferLib's own encoding writes whatever it gets: a part that is missing keeps the value of the step before, and a float
becomes a whole number. So every space that is not a Box becomes a Box of bytes here, and every part is checked.
"""

import math
import operator
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from gymnasium import spaces

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
    TextSpace,
    VectorSpace,
)

TEXT = TextSpace(words=96, numbers=1024)
"""Longest text, and numbers of its words."""
_ALL = "the observation"
MOST = float(np.finfo(np.float32).max)
NOT_FINITE = "no finite number in single precision"


class NotInSpaceError(ValueError):
    """An observation is not in its space. The message names the part, its value and what is wrong with it."""


def observation_space(
    space: spaces.Space, name: str, words: MutableMapping[str, str], mask: str | None = None
) -> ObservationSpace:
    """The space for the encoder. words: how each part is read, by its path (readings.py). mask: path of the mask.

    Raises UsageError, which starts with `name`, for a part that no encoder reads.
    """
    if isinstance(space, spaces.Box):
        return _box(space, words["observation"])
    words = ChainMap({mask: "numbers"} if mask else {}, words)
    parts = {part.name: part for part in _parts(space, name, words)}
    masked = parts.pop(mask, None) if mask else None
    if not parts:
        why = "is nothing but a mask" if masked else "is always the same text"
        raise UsageError(f"{name}: the observation {why}: there is nothing to learn from")
    return StructSpace((*parts.values(),), _layout(space).itemsize, masked)


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


def _box(space: spaces.Box | spaces.MultiBinary, word: str) -> VectorSpace | ImageSpace | CellsSpace:
    """A Box as `word` says. A table is a map or image of one channel; names in a row are the channels of one cell."""
    shape = space.shape
    if word == "numbers":
        return VectorSpace(math.prod(shape), normalise=isinstance(space, spaces.Box))
    height, width, channels = (1, 1, *shape) if len(shape) == 1 else (*shape, 1)[:3]
    size = (height, width, channels)
    return CellsSpace(size) if word == "names" else ImageSpace(size, channels_first=height < channels)


def _parts(space: spaces.Space, name: str, words: Mapping[str, str]) -> Iterator[Part]:
    fields = dict(_layout(space).fields or {})
    for (path, leaf), field in zip(leaves(space), fields.values(), strict=True):
        dtype, shape = _storage(leaf)
        if is_text(leaf):
            kind: Any = TEXT
        elif isinstance(leaf, spaces.Box | spaces.MultiBinary):
            kind = _box(leaf, words[path or "observation"])
            shape = kind.shape if isinstance(kind, ImageSpace | CellsSpace) else (math.prod(shape),)
        else:
            kind = CategoriesSpace(_counts(leaf, name, path))
            shape = (len(kind.counts),)
            if words[path or "observation"] == "numbers":
                kind = VectorSpace(*shape, normalise=True)
        yield Part(path or _ALL, kind, field[1], shape, str(dtype))


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
        f"MultiBinary, texts, Dict and Tuple can be read): add a wrapper that {fix} (env.wrappers)"
    )


def called(part: str) -> str:
    """A part's name in a sentence."""
    return part if part == _ALL else f"'{part}' of the observation"


def leaves(space: spaces.Space, path: str = "") -> Iterator[tuple[str, spaces.Space]]:
    """(path, space) of each part that is neither Dict nor Tuple and that can vary; without parts the path is empty."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        if _only_text(space) is None:
            yield path, space
        return
    for key, part in _named(space):
        yield from leaves(part, _below(path, space, key))


def _named(space: spaces.Dict | spaces.Tuple) -> Iterator[tuple[Any, spaces.Space]]:
    """(key or index, space) of each part."""
    yield from space.items() if isinstance(space, spaces.Dict) else enumerate(space)


def _below(path: str, space: spaces.Space, key: Any) -> str:
    name = str(key) if isinstance(space, spaces.Dict) else f"f{key}"
    return f"{path}.{name}" if path else name


def is_text(space: spaces.Space) -> bool:
    return space.dtype is not None and space.dtype.kind == "U"


def _only_text(space: spaces.Space) -> str | None:
    """The one text that the space contains, such as the mission of many MiniGrid environments; None: it can vary."""
    if not is_text(space) or isinstance(space, spaces.Text) or getattr(space, "ordered_placeholders", None):
        return None
    text = str(space.sample())
    return None if space.contains(f"{text}.") else text


def _storage(leaf: spaces.Space) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and shape that hold a part."""
    if is_text(leaf):
        return np.dtype(np.int16), (TEXT.words, 2)
    whole = isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete)
    return np.dtype(np.int32 if whole else leaf.dtype), leaf.shape or ()


def _layout(space: spaces.Space) -> np.dtype:
    """The memory layout of an observation that is not a Box: its parts one after the other, aligned."""
    return np.dtype([(str(i), *_storage(leaf)) for i, (_, leaf) in enumerate(leaves(space))], align=True)


class AsBytes:
    """Encodes observations of `space` as uint8 `[num_bytes]`. The next call overwrites the returned array.

    Each part of each observation is checked: a call raises NotInSpaceError, or it has written every part. batch: `(N,)`
    for N observations at once, as Gymnasium's vector environments have them; then the bytes are `[N, num_bytes]`.
    """

    def __init__(self, space: spaces.Space, batch: tuple[int, ...] = ()):
        self.struct = np.zeros(batch, _layout(space))  # the latest observation: field i is part i of `leaves`
        fields = iter([self.struct[name] for name in self.struct.dtype.names or ()])
        self._write = _writer(space, "", fields, batch)
        self._bytes = self.struct.reshape(*batch, 1).view(np.uint8)
        self.space = spaces.Box(0, 255, self._bytes.shape, np.uint8)

    def __call__(self, obs: Any) -> np.ndarray:
        self._write(obs)
        return self._bytes


def _writer(
    space: spaces.Space, path: str, fields: Iterator[np.ndarray], batch: tuple[int, ...]
) -> Callable[[Any], None]:
    """A function that checks an observation of `space` and writes its parts into the next ones of `fields`."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = [(key, _writer(part, _below(path, space, key), fields, batch)) for key, part in _named(space)]
        keys = dict(parts).keys()
        named = isinstance(space, spaces.Dict)

        def write(obs: Any) -> None:
            if named:
                whole = isinstance(obs, Mapping) and obs.keys() == keys
            else:
                whole = isinstance(obs, tuple | list) and len(obs) == len(parts)
            if not whole:
                raise not_in(obs, space, path)
            for key, write_part in parts:
                write_part(obs[key])

        return write
    if (only := _only_text(space)) is not None:

        def compare(obs: Any) -> None:
            if not all(isinstance(text, str) and text == only for text in (obs if batch else [obs])):
                raise not_in(obs, space, path)

        return compare
    field, read = next(fields), reader(space, batch)

    def write_leaf(obs: Any) -> None:
        value = read(obs)
        if value is None:
            raise not_in(obs, space, path)
        field[...] = value

    return write_leaf


def not_in(obs: Any, space: spaces.Space, path: str) -> NotInSpaceError:
    why = f"is not in its observation_space, {short(space)}"
    if isinstance(space, spaces.Dict) and isinstance(obs, Mapping):
        differences = ("lacks", space.keys() - obs.keys()), ("has an unknown", obs.keys() - space.keys())
        why = " and ".join(f"{how} {', '.join(sorted(map(repr, keys)))}" for how, keys in differences if keys)
    elif isinstance(space, spaces.Tuple) and isinstance(obs, tuple | list):
        why = f"has {len(obs)} parts, not {len(space)}"
    elif is_text(space) and _only_text(space) is None and isinstance(obs, str):
        why = f"has more than {TEXT.words} words"
    elif isinstance(space, spaces.Box) and (numbers := _array(obs, space.shape, "f")) is not None:
        wrong = numbers[~(abs(numbers) <= MOST)]
        why = f"holds {wrong[0]}, {NOT_FINITE}" if len(wrong) else why
    return NotInSpaceError(f"{called(path or _ALL)} {short(obs)}, which {why}")


def reader(space: spaces.Space, batch: tuple[int, ...] = ()) -> Callable[[Any], Any]:
    """A function that gives an observation of a space without parts as numbers; None: it is not in the space.

    batch: `(N,)` for N observations at once. Bounds of a Box are not checked: they are often guesses, and nothing here
    uses them.
    """
    dtype, shape = _storage(space)
    shape = (*batch, *shape)
    if is_text(space):
        return (lambda obs: _numbers_of_texts(obs, *batch)) if batch else _numbers_of_text
    if isinstance(space, spaces.Discrete):
        first, last = int(space.start), int(space.start + space.n) - 1
        if batch:
            return lambda obs: _unless(_array(obs, shape, "biu"), lambda names: (names < first) | (names > last))

        def category(obs: Any) -> int | None:
            try:
                number = operator.index(obs)
            except TypeError:
                return None
            return number if first <= number <= last else None

        return category
    if isinstance(space, spaces.MultiDiscrete):
        low, high = space.start, space.start + space.nvec
        return lambda obs: _unless(_array(obs, shape, "biu"), lambda numbers: (numbers < low) | (numbers >= high))
    if isinstance(space, spaces.MultiBinary):  # it contains floats, too
        return lambda obs: _unless(_array(obs, shape, "biuf"), lambda bits: (bits != 0) & (bits != 1))
    return lambda obs: _numbers(obs, dtype, shape)


def _unless(numbers: np.ndarray | None, wrong: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    return None if numbers is None or np.count_nonzero(wrong(numbers)) else numbers


def _array(obs: Any, shape: tuple[int, ...], kinds: str) -> np.ndarray | None:
    """`obs` as an array; None if its shape or its kind of number is wrong."""
    try:
        array = np.asarray(obs)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.shape == shape and array.dtype.kind in kinds else None


def _numbers(obs: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray | None:
    """`obs` as an array of this type; None for another shape, if the type cannot hold one of the numbers, and if one is
    not finite in single precision, in which policies compute."""
    is_float = dtype.kind == "f"
    array = _array(obs, shape, "biuf" if is_float else "biu")
    if array is None or (array.dtype == dtype and not is_float):
        return array
    cast = single = array
    if array.dtype != dtype or dtype.itemsize > 4:  # `errstate` takes as long as all the rest
        with np.errstate(over="ignore"):
            cast = array.astype(dtype)
            single = cast.astype(np.float32) if is_float else cast
    is_right = np.isfinite(single) if is_float else cast == array
    return cast if np.count_nonzero(is_right) == array.size else None


def _numbers_of_text(obs: Any) -> np.ndarray | None:
    return _numbers_of_words(obs) if isinstance(obs, str) else None


def _numbers_of_texts(obs: Any, count: int) -> np.ndarray | None:
    texts = [numbers for text in obs if (numbers := _numbers_of_text(text)) is not None]
    return np.stack(texts) if len(texts) == len(obs) == count else None


@lru_cache(maxsize=4096)
def _numbers_of_words(text: str) -> np.ndarray | None:
    """Two numbers in 1 .. TEXT.numbers for each word or sign, `[TEXT.words, 2]`, 0 after the last; None: too many.

    They are hashes of the word, so that no list of words must be known or kept. Two words share both numbers once in a
    million pairs (Svenstrup et al. 2017, arXiv:1709.03933).
    """
    words = re.findall(r"\w+|[^\w\s]", text)
    if len(words) > TEXT.words:
        return None
    numbers = np.zeros((TEXT.words, 2), np.int16)
    for i, word in enumerate(words):
        numbers[i] = (
            np.frombuffer(blake2b(word.encode(errors="surrogatepass"), digest_size=4).digest(), "<u2") % TEXT.numbers
            + 1
        )
    if len(_TEXTS) < 4096:
        _TEXTS[numbers.tobytes()] = text
    return numbers


_TEXTS: dict[bytes, str] = {}  # numbers of words -> a text that was read in this process


def text_of(numbers: np.ndarray) -> str:
    """The text whose numbers of words `[TEXT.words, 2]` these are, if this process read it; else how many words."""
    return _TEXTS.get(numbers.tobytes(), f"{int((numbers[:, 0] > 0).sum())} words")


def short(value: Any) -> str:
    """A value in at most 80 characters; of an array also dtype and shape."""
    kind = f" ({value.dtype}, shape {value.shape})" if isinstance(value, np.ndarray) else ""
    text = " ".join(str(value).split())
    return (text if len(text) <= 80 else f"{text[:77]}...") + kind
