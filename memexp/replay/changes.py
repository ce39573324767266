"""A compact form of an episode: of M numbers per step, only the changes are kept.

For each number the steps at which it changed and the new values are kept. To pack them, three lists (the number of
changes of each number, steps, values; the last two as differences) are stored byte by byte, all lowest bytes first, and
deflated. web/episode.js unpacks them.
"""

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Changes:
    """M int32 numbers in every step 0 .. T of an episode, as K changes sorted by number, then by step."""

    last: int  # T
    first: np.ndarray  # int64 [M + 1]: number m has the changes first[m] .. first[m + 1] - 1, the first one in step 0
    steps: np.ndarray  # int64 [K]
    values: np.ndarray  # int32 [K]

    def at(self, step: int) -> np.ndarray:
        """All numbers in a step `[M]`."""
        width = self.last + 1
        number = np.arange(len(self.first) - 1)
        keys = np.repeat(number, np.diff(self.first)) * width + self.steps
        return self.values[np.searchsorted(keys, number * width + step, side="right") - 1]

    def pack(self) -> bytes:
        """The changes as deflated bytes (zlib format)."""
        lists = (np.diff(self.first), _differences(self.steps), _differences(self.values))
        return zlib.compress(b"".join(_planes(numbers) for numbers in lists), 9)


class ChangeLog:
    """Collects the changes of M numbers, step by step."""

    def __init__(self) -> None:
        self._now: np.ndarray | None = None
        self._parts: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._step = -1

    def add(self, numbers: np.ndarray) -> None:
        """Add the numbers of the next step, int32 `[M]`."""
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
    """Each number minus the previous one, modulo 2^32."""
    return np.diff(numbers.astype(np.int32), prepend=np.int32(0))


def _planes(numbers: np.ndarray) -> bytes:
    """The bytes of int32 numbers: the lowest byte of all numbers first, then the second of all, ..."""
    return numbers.astype("<i4").view(np.uint8).reshape(-1, 4).T.tobytes()
