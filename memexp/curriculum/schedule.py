"""Which task each episode of each world plays: one interface for every kind of curriculum.

Every rank holds a replica of the whole schedule, for all worlds. Worlds ask their own rank's replica between two
updates, when it does not change; at an update's end all replicas learn what all ranks' worlds did, in the same order.
So the stream of tasks depends on the seed and on what was played, not on the number of ranks.
"""

import zlib
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from memexp.curriculum.config import CurriculumConfig
from memexp.curriculum.learning_progress import LearningProgress
from memexp.curriculum.uniform import training_tasks
from memexp.envs.base import Episodes, mix64

_POOL, _UNPLANNED = 0x9001, 0x0DD5  # what a seed derived from the run's seed is for


class Note(NamedTuple):
    """What one rank tells the others at an update's end."""

    worlds: list[int]
    """Global numbers of its worlds that have begun an episode."""
    episodes: list[int]
    """Number of the latest episode that each of them has begun."""
    fingerprint: int
    """Of the sender's replica: all are alike."""


class Schedule(ABC):
    """Called by the worlds as their TaskSource: (global world number, episode) -> task.

    The same question has the same answer until the next `advance`, whatever was asked between.
    """

    @abstractmethod
    def __call__(self, world: int, episode: int) -> int:
        """The task of an episode that begins."""

    def note(self) -> Note | None:
        """What this rank has to tell the others before they `advance` together."""
        return None

    def advance(self, episodes: Episodes, notes: list[Any]) -> None:
        """Learn from the finished `episodes` of all ranks and from every rank's note, and plan ahead."""
        return

    def stats(self) -> dict[str, float]:
        """What the curriculum is doing, for the log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to continue exactly after an `advance`: arrays and plain values, the same on all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        return


class Uniform(Schedule):
    """Every task is as likely; nothing is learned."""

    def __init__(self, seed: int) -> None:
        self._tasks = training_tasks(seed)

    def __call__(self, world: int, episode: int) -> int:
        return self._tasks(world, episode)


class Planned(Schedule):
    """Tasks requested from the learning-progress curriculum ahead of time, in the order of worlds.

    Each world always has its next episode's task. A world that begins more episodes than one between two updates takes
    the others from the pool, by a hash of (seed, world, episode).
    """

    def __init__(self, config: CurriculumConfig, seed: int, num_worlds: int) -> None:
        self.curriculum = LearningProgress(config, mix64(seed, _POOL))
        self._seed = mix64(seed, _UNPLANNED)
        self._begun: dict[int, int] = {}  # this rank's worlds: latest episode begun since the last advance
        self._episode = np.zeros(num_worlds, np.int64)  # latest episode begun before the last advance
        first = [self.curriculum.request() for _ in range(2 * num_worlds)]
        self._tasks = np.array(first, np.int64).reshape(2, num_worlds).T.copy()  # of that episode and of the next
        self._pool = self.curriculum.active
        self._given = self._unplanned = 0  # episodes begun, and those of them whose task was not planned

    def __call__(self, world: int, episode: int) -> int:
        self._begun[world] = max(episode, self._begun.get(world, 0))
        return self._task_of(world, episode)

    def foretell(self, world: int, episode: int) -> int | None:
        """The task of an episode that has not begun, for worlds that prepare it ahead; None: not planned yet.

        What is planned stays so until the episode begins. Nobody is told that it has.
        """
        ahead = episode - int(self._episode[world])
        return int(self._tasks[world, ahead]) if 0 <= ahead <= 1 else None

    def _task_of(self, world: int, episode: int) -> int:
        ahead = episode - int(self._episode[world])
        if 0 <= ahead <= 1:
            return int(self._tasks[world, ahead])
        return int(self._pool[mix64(self._seed, world, episode) % len(self._pool)])

    def note(self) -> Note:
        worlds = sorted(self._begun)
        return Note(worlds, [self._begun[world] for world in worlds], self._fingerprint())

    def advance(self, episodes: Episodes, notes: list[Note]) -> None:
        """Report the episodes' returns world by world in the order of time, then request the tasks that are due.

        Raises RuntimeError if the replicas have come apart.
        """
        if len({note.fingerprint for note in notes}) > 1:
            raise RuntimeError("the ranks' curricula have come apart: they do not compute the same numbers")
        begun = sorted(pair for note in notes for pair in zip(note.worlds, note.episodes, strict=True))
        due = [(world, episode) for world, episode in begun if episode > self._episode[world]]
        running = [self._task_of(world, episode) for world, episode in due]  # before the pool changes
        if episodes:
            for row in np.argsort(episodes["world"], kind="stable").tolist():
                self.curriculum.report(int(episodes["task"][row]), float(episodes["return"][row]))
        for (world, episode), task in zip(due, running, strict=True):
            started = episode - int(self._episode[world])
            self._given += started
            self._unplanned += started - 1
            self._tasks[world] = task, self.curriculum.request()
            self._episode[world] = episode
        self._pool = self.curriculum.active
        self._begun.clear()

    def stats(self) -> dict[str, float]:
        """Those of `LearningProgress.stats`; unplanned: share of all episodes begun whose task was not planned."""
        return self.curriculum.stats() | {"unplanned": self._unplanned / max(self._given, 1)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "curriculum": self.curriculum.state_dict(),
            "episode": self._episode.copy(),
            "tasks": self._tasks.copy(),
            "given": self._given,
            "unplanned": self._unplanned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.curriculum.load_state_dict(state["curriculum"])
        np.copyto(self._episode, state["episode"])
        np.copyto(self._tasks, state["tasks"])
        self._given, self._unplanned = state["given"], state["unplanned"]
        self._pool = self.curriculum.active
        self._begun.clear()

    def _fingerprint(self) -> int:
        return zlib.crc32(self._tasks.tobytes() + self._pool.tobytes())


def build(config: CurriculumConfig, seed: int, num_worlds: int) -> Schedule:
    """The schedule that a curriculum config describes, for `num_worlds` worlds over all ranks."""
    if config.kind == "uniform":
        return Uniform(seed)
    return Planned(config, seed, num_worlds)
