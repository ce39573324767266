"""`Schedule`: the task of each episode of each environment, for every kind of curriculum.

Every rank holds a copy of the whole schedule, for the environments of all ranks. During a rollout the copy does not
change. At the end of an update every copy processes the episodes of all ranks in the same order. So the tasks depend on
the seed and on what was played, not on the number of ranks.
"""

import zlib
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from memexp.curriculum.config import CurriculumConfig
from memexp.curriculum.learning_progress import LearningProgress
from memexp.curriculum.uniform import training_tasks
from memexp.envs.base import Episodes, mix64

_POOL, _UNPLANNED = 0x9001, 0x0DD5  # purposes of seeds derived from the seed of the run


class Note(NamedTuple):
    """What a rank tells the others at the end of an update."""

    envs: list[int]  # global indices of its environments that have started an episode
    episodes: list[int]  # number of the latest episode that each of them has started
    fingerprint: int  # of the sender's copy of the schedule: all copies must be equal


class Schedule(ABC):
    """The TaskSource of the environments: (global env index, episode) -> task.

    The same arguments give the same task until the next `advance`.
    """

    @abstractmethod
    def __call__(self, env: int, episode: int) -> int:
        """The task of an episode that starts now."""

    def note(self) -> Note | None:
        """What this rank tells the others before all of them `advance`."""
        return None

    def advance(self, episodes: Episodes, notes: list[Any]) -> None:
        """Process the finished `episodes` and the notes of all ranks, and plan the next tasks."""
        return

    def stats(self) -> dict[str, float]:
        """Metrics for the log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state needed to continue exactly after an `advance`. It is the same on all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        return


class Uniform(Schedule):
    """All tasks are equally likely."""

    def __init__(self, seed: int) -> None:
        self._tasks = training_tasks(seed)

    def __call__(self, env: int, episode: int) -> int:
        return self._tasks(env, episode)


class Planned(Schedule):
    """Requests tasks from the learning-progress curriculum in advance, in the order of environments.

    The task of the next episode of each environment is always planned. If an environment starts several episodes in one
    rollout, a hash of (seed, env index, episode) picks the other tasks from the pool.
    """

    def __init__(self, config: CurriculumConfig, seed: int, num_envs: int) -> None:
        self.curriculum = LearningProgress(config, mix64(seed, _POOL))
        self._seed = mix64(seed, _UNPLANNED)
        self._begun: dict[int, int] = {}  # of this rank: latest episode started since the last advance
        self._episode = np.zeros(num_envs, np.int64)  # latest episode started before the last advance
        first = [self.curriculum.request() for _ in range(2 * num_envs)]
        self._tasks = np.array(first, np.int64).reshape(2, num_envs).T.copy()  # of that episode and of the next one
        self._pool = self.curriculum.active
        self._given = self._unplanned = 0  # episodes started, and those with an unplanned task

    def __call__(self, env: int, episode: int) -> int:
        self._begun[env] = max(episode, self._begun.get(env, 0))
        return self._task_of(env, episode)

    def peek(self, env: int, episode: int) -> int | None:
        """The planned task of an episode, which stays planned until the episode starts; None: not planned yet."""
        ahead = episode - int(self._episode[env])
        return int(self._tasks[env, ahead]) if 0 <= ahead <= 1 else None

    def _task_of(self, env: int, episode: int) -> int:
        planned = self.peek(env, episode)
        return int(self._pool[mix64(self._seed, env, episode) % len(self._pool)]) if planned is None else planned

    def note(self) -> Note:
        envs = sorted(self._begun)
        return Note(envs, [self._begun[env] for env in envs], self._fingerprint())

    def advance(self, episodes: Episodes, notes: list[Note]) -> None:
        """Report the returns of the episodes by environment, then by time; then request the tasks that are due.

        Raises RuntimeError if the copies of the ranks differ.
        """
        if len({note.fingerprint for note in notes}) > 1:
            raise RuntimeError("the curricula of the ranks differ: the ranks did not compute the same numbers")
        begun = sorted(pair for note in notes for pair in zip(note.envs, note.episodes, strict=True))
        due = [(env, episode) for env, episode in begun if episode > self._episode[env]]
        running = [self._task_of(env, episode) for env, episode in due]  # before the pool changes
        if episodes:
            for row in np.argsort(episodes["world"], kind="stable").tolist():
                self.curriculum.report(int(episodes["task"][row]), float(episodes["return"][row]))
        for (env, episode), task in zip(due, running, strict=True):
            started = episode - int(self._episode[env])
            self._given += started
            self._unplanned += started - 1
            self._tasks[env] = task, self.curriculum.request()
            self._episode[env] = episode
        self._pool = self.curriculum.active
        self._begun.clear()

    def stats(self) -> dict[str, float]:
        """`LearningProgress.stats`, and unplanned: share of all started episodes with an unplanned task."""
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


def build(config: CurriculumConfig, seed: int, num_envs: int) -> Schedule:
    """The schedule of a config, for `num_envs` environments over all ranks."""
    if config.kind == "uniform":
        return Uniform(seed)
    return Planned(config, seed, num_envs)
