"""An episode as changes: M numbers that are looked at in every step, of which few differ from the step before.

Kept are the steps in which a number changed and what it became, number by number. To be packed, the three lists (how
many changes each number has, steps, values; the last two as differences) are laid out byte by byte, all lowest bytes
first, and deflated. web/episode.js reads the same.
"""

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Changes:
    """What M int32 numbers were in every step 0 .. T of an episode. K changes, sorted by number, then by step."""

    last: int
    """T: the last step."""
    first: np.ndarray
    """int64 [M + 1]: the changes of number m are first[m] .. first[m + 1] - 1; the first of them is in step 0."""
    steps: np.ndarray
    """int64 [K]."""
    values: np.ndarray
    """int32 [K]."""

    def at(self, step: int) -> np.ndarray:
        """All numbers in a step, `[M]`."""
        width = self.last + 1
        number = np.arange(len(self.first) - 1)
        keys = np.repeat(number, np.diff(self.first)) * width + self.steps
        return self.values[np.searchsorted(keys, number * width + step, side="right") - 1]

    def of(self, number: int) -> np.ndarray:
        """One number in all steps, `[T + 1]`."""
        mine = slice(self.first[number], self.first[number + 1])
        return np.repeat(self.values[mine], np.diff(self.steps[mine], append=self.last + 1))

    def pack(self) -> bytes:
        """The changes as deflated bytes (zlib format)."""
        lists = (np.diff(self.first), _differences(self.steps), _differences(self.values))
        return zlib.compress(b"".join(_planes(numbers) for numbers in lists), 9)

    @classmethod
    def unpack(cls, data: bytes, last: int, numbers: int) -> "Changes":
        """The changes of `numbers` numbers over steps 0 .. `last` from their packed bytes."""
        raw = np.frombuffer(zlib.decompress(data), np.uint8)
        counts, (steps, values) = raw[: 4 * numbers], raw[4 * numbers :].reshape(2, -1)
        first = np.concatenate([[0], _from_planes(counts).cumsum()])
        return cls(last, first, _sums(_from_planes(steps)).astype(np.int64), _sums(_from_planes(values)))


class ChangeLog:
    """Takes down M numbers step by step, from step 0 on, and keeps the changes."""

    def __init__(self) -> None:
        self._now: np.ndarray | None = None
        self._parts: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._step = -1

    def note(self, numbers: np.ndarray) -> None:
        """The numbers of the next step, int32 `[M]`."""
        self._step += 1
        changed = np.arange(len(numbers)) if self._now is None else np.flatnonzero(numbers != self._now)
        self._parts.append((self._step, changed, numbers[changed]))
        self._now = numbers.copy()

    def close(self) -> Changes:
        """All changes so far."""
        number = np.concatenate([changed for _, changed, _ in self._parts])
        values = np.concatenate([values for _, _, values in self._parts])
        steps = np.repeat([step for step, _, _ in self._parts], [len(changed) for _, changed, _ in self._parts])
        order = np.argsort(number, kind="stable")
        total = 0 if self._now is None else len(self._now)
        first = np.searchsorted(number[order], np.arange(total + 1))
        return Changes(self._step, first, steps[order], values[order])


def _differences(numbers: np.ndarray) -> np.ndarray:
    """Each number less the one before, modulo 2^32."""
    return np.diff(numbers.astype(np.int32), prepend=np.int32(0))


def _sums(differences: np.ndarray) -> np.ndarray:
    """The numbers that have these differences."""
    return differences.cumsum(dtype=np.int32)


def _planes(numbers: np.ndarray) -> bytes:
    """The four bytes of each number: first the lowest of all, then the second of all ..."""
    return numbers.astype("<i4").view(np.uint8).reshape(-1, 4).T.tobytes()


def _from_planes(planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes.reshape(4, -1).T).view("<i4").reshape(-1)
