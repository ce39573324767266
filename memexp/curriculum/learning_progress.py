"""The learning-progress curriculum: a pool of tasks, drawn by how fast their scores change.

The rules are those of MettaGrid's training (Metta-AI/metta, commit 7310d3a133), with the same numbers. Each task has a
fast and a slow exponential average of p = 2 * score - 1. The gap between them is its progress. A request first searches
a task to evict: one that was played often enough and is among the lowest 40 % of all remembered tasks. If there is one,
a new task replaces it and is played. Else a task of the pool is drawn by its normalized score.

MettaGrid scores all tasks for each task that it compares. Here a report updates the score of its own task only, and the
weights are computed once between reports, so the cost of a request is linear in the number of tasks.
"""

import random
from collections import deque
from typing import Any

import numpy as np

from memexp.curriculum.config import NUM_TASKS, CurriculumConfig

EVICTABLE_SHARE = 0.4
"""A task may be evicted if its score is at most the one at this share of all scores, sorted ascending."""
NEVER = np.inf
"""Eviction score of tasks that must stay."""


class LearningProgress:
    """One curriculum. `request` returns a task to play, `report` takes the score of a finished episode.

    Tasks are rows of arrays `[0:n]` in the order of creation: the tasks of the pool, and tasks that were evicted before
    an episode of them finished. A row is remembered (`_born` >= 0) until there are too many.
    """

    def __init__(self, config: CurriculumConfig, seed: int) -> None:
        self._config = config
        self._random = random.Random(seed)
        rows = config.num_active_tasks + config.max_memory_tasks + 1  # the last: until the oldest is forgotten
        self._n = 0
        self._task = np.zeros(rows, np.int64)
        self._active = np.zeros(rows, np.bool_)  # in the pool
        self._born = np.zeros(rows, np.int64)  # index of its creation; -1: in the pool, but not remembered
        self._count = np.zeros(rows, np.int64)  # reports
        self._fast, self._slow, self._raw, self._low, self._ready = np.zeros((5, rows))
        # _raw: learning progress; _low: the same without its lower bound; _ready: _low if the task may be evicted
        self._columns = (
            self._task, self._active, self._born, self._count,
            self._fast, self._slow, self._raw, self._low, self._ready,
        )  # fmt: skip
        self._scores: dict[int, deque[float]] = {}  # latest scores of each task with reports
        self._pool: set[int] = set()
        self._remembered = 0
        self._births = 0
        self.created = 0
        self.evicted = 0
        self.completions = 0
        self._drawn_by: tuple[np.ndarray, np.ndarray] | None = None  # (tasks, cumulative weights); None: outdated
        while len(self._pool) < config.num_active_tasks:
            self._create()

    @property
    def active(self) -> np.ndarray:
        """Tasks of the pool, in the order of creation."""
        return self._of_pool(self._task)

    def request(self) -> int:
        """The task to play next."""
        if self._drawn_by is None:
            row = self._row_to_evict()
            if row is not None:
                self._pool.discard(int(self._task[row]))
                self._forget(row)
                self.evicted += 1
                return self._create()
            weights = self.weights()
            self._drawn_by = self.active, np.cumsum(weights)
        tasks, cumulative = self._drawn_by
        if cumulative[-1] <= 0:
            return int(tasks[self._random.choice(range(len(tasks)))])
        # As random.choices, without its loop over the pool.
        at = np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right")
        return int(tasks[min(at, len(tasks) - 1)])

    def report(self, task: int, score: float) -> None:
        """Record that an episode of `task` has finished with `score` (mean return), even if the task was evicted."""
        self._drawn_by = None
        c, (found,) = self._config, np.nonzero(self._task[: self._n] == task)
        row = int(found[0]) if len(found) else self._append(task, active=False)
        if self._born[row] < 0:
            self._remember(row)
        s = min(max(float(score), 0.0), 1.0)
        self._scores.setdefault(task, deque(maxlen=c.memory)).append(s)
        x = (s - 0.5) / 0.5
        if self._count[row] == 0:
            fast = slow = x
        else:
            a, b = c.ema_timescale, c.ema_timescale * c.slow_timescale_factor
            fast = a * x + (1 - a) * float(self._fast[row])
            slow = b * x + (1 - b) * float(self._slow[row])
        self._fast[row], self._slow[row] = fast, slow
        self._count[row] += 1
        self.completions += 1
        self._score(row)
        self._trim()

    def weights(self) -> np.ndarray:
        """Normalized scores of the pool's tasks, in the order of `active`: the weights of a draw."""
        return normalized(self._of_pool(self._raw))

    def stats(self) -> dict[str, float]:
        """Metrics for the log. Totals are since the start, means are over the pool.

        effective_tasks: exp(entropy of the weights); evictable, played: shares of the pool; fast, slow: averages of p
        over tasks with reports; score: mean of their latest scores.
        """
        n = self._n
        active, played = self._active[:n], self._active[:n] & (self._count[:n] > 0)
        weights = self.weights()
        some = weights[weights > 0]
        of_all = self._weights_of_all()
        low_enough = of_all <= np.sort(of_all)[int(EVICTABLE_SHARE * self._remembered)]
        evictable = active & low_enough & (self._ready[:n] < NEVER) & (self._remembered > 1)
        scores = [sum(self._scores[task]) / len(self._scores[task]) for task in self._task[:n][played].tolist()]
        stats = {
            "pool": float(len(self._pool)),
            "remembered": float(self._remembered),
            "created": float(self.created),
            "evicted": float(self.evicted),
            "completions": float(self.completions),
            "mean_progress": float(self._raw[:n][active].mean()),
            "max_progress": float(self._raw[:n][active].max()),
            "effective_tasks": float(np.exp(-np.sum(some * np.log(some)))) if len(some) else float(len(weights)),
            "evictable": float(np.count_nonzero(evictable) / np.count_nonzero(active)),
            "played": float(np.count_nonzero(played) / np.count_nonzero(active)),
        }
        if scores:
            stats |= {"score": float(np.mean(scores))}
            stats |= {"fast": float(self._fast[:n][played].mean()), "slow": float(self._slow[:n][played].mean())}
        return stats

    def state_dict(self) -> dict[str, Any]:
        """The state needed to continue exactly: arrays and plain values."""
        version, words, gauss = self._random.getstate()
        return {
            "columns": [column[: self._n].copy() for column in self._columns],
            "scored": np.array(list(self._scores), np.int64),
            "num_scores": np.array([len(scores) for scores in self._scores.values()], np.int64),
            "scores": np.array([score for scores in self._scores.values() for score in scores]),
            "births": self._births,
            "created": self.created,
            "evicted": self.evicted,
            "completions": self.completions,
            "random": {"version": version, "words": np.array(words, np.int64), "gauss": gauss},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._n = len(state["columns"][0])
        for column, saved in zip(self._columns, state["columns"], strict=True):
            column[: self._n] = saved
        stops = np.cumsum(state["num_scores"])
        parts = np.split(state["scores"], stops[:-1]) if len(stops) else []
        scored = zip(state["scored"].tolist(), parts, strict=True)
        self._scores = {task: deque(part.tolist(), maxlen=self._config.memory) for task, part in scored}
        self._births, self.created = state["births"], state["created"]
        self.evicted, self.completions = state["evicted"], state["completions"]
        saved = state["random"]
        self._random.setstate((saved["version"], tuple(saved["words"].tolist()), saved["gauss"]))
        self._pool = set(self.active.tolist())
        self._remembered = int(np.count_nonzero(self._born[: self._n] >= 0))
        self._drawn_by = None

    def _row_to_evict(self) -> int | None:
        """The row to evict, or None: the row with the smallest eviction score (the first of equals), if it may leave.

        Normalized scores rise with eviction scores, so it is enough to check this row.
        """
        n = self._n
        row = int(self._ready[:n].argmin())
        if self._ready[row] == NEVER or self._remembered < 2:
            return None
        at_most = int(EVICTABLE_SHARE * self._remembered)
        if np.count_nonzero((self._born[:n] >= 0) & (self._raw[:n] < self._raw[row])) <= at_most:
            return row
        # Different scores may be equal after normalization.
        weights = self._weights_of_all()
        return row if np.count_nonzero(weights < weights[row]) <= at_most else None

    def _weights_of_all(self) -> np.ndarray:
        """Normalized scores among all remembered tasks, by row `[n]`; infinite for other tasks.

        They are summed in the order of creation, as in MettaGrid, so that even the last digit is the same.
        """
        born = self._born[: self._n]
        rows = born >= 0
        order = born[rows]
        if (order[1:] < order[:-1]).any():  # a forgotten task has a report again
            rows = np.flatnonzero(rows)[np.argsort(order)]
        weights = np.full(self._n, np.inf)
        weights[rows] = normalized(self._raw[: self._n][rows])
        return weights

    def _of_pool(self, column: np.ndarray) -> np.ndarray:
        return column[: self._n][self._active[: self._n]]

    def _create(self) -> int:
        """Add a new task to the pool."""
        task = self._random.randint(0, NUM_TASKS - 1)
        while task in self._pool:
            task = self._random.randint(0, NUM_TASKS - 1)
        (former,) = np.nonzero(self._task[: self._n] == task)
        if len(former):
            self._forget(int(former[0]))
        self._append(task, active=True)
        self._pool.add(task)
        self.created += 1
        self._trim()
        return task

    def _append(self, task: int, active: bool) -> int:
        """Add a row without reports."""
        row = self._n
        self._n += 1
        self._task[row], self._active[row] = task, active
        self._remember(row)
        self._clear(row)
        return row

    def _remember(self, row: int) -> None:
        self._born[row] = self._births
        self._births += 1
        self._remembered += 1

    def _clear(self, row: int) -> None:
        """Discard the reports of a row."""
        self._drawn_by = None
        self._scores.pop(int(self._task[row]), None)
        self._count[row], self._fast[row], self._slow[row] = 0, 0.0, 0.0
        self._score(row)

    def _forget(self, row: int) -> None:
        """Remove a row; later rows move up."""
        self._clear(row)
        self._remembered -= int(self._born[row] >= 0)
        self._n -= 1
        for column in self._columns:
            column[row : self._n] = column[row + 1 : self._n + 1]

    def _trim(self) -> None:
        """Forget the oldest tasks beyond `max_memory_tasks`. A task of the pool only loses its reports."""
        while self._remembered > self._config.max_memory_tasks:
            born = self._born[: self._n]
            row = int(np.where(born >= 0, born, self._births).argmin())
            if self._active[row]:
                self._clear(row)
                self._born[row] = -1
                self._remembered -= 1
            else:
                self._forget(row)

    def _score(self, row: int) -> None:
        """Compute the scores of a row from its averages."""
        c, count = self._config, int(self._count[row])
        if count < 2:
            raw = low = c.exploration_bonus
        else:
            fast = _stretched(float(self._fast[row]), c.progress_smoothing)
            slow = _stretched(float(self._slow[row]), c.progress_smoothing)
            low = abs(fast - slow) + c.lp_gain * max(fast, 0.0)
            raw = max(low, c.exploration_bonus)
        self._raw[row], self._low[row] = raw, low
        can_leave = self._active[row] and count >= c.min_presentations_for_eviction
        self._ready[row] = low if can_leave else NEVER


def normalized(raw: np.ndarray) -> np.ndarray:
    """Scores `[n]` -> weights `[n]` that sum to 1: the logistic function of standardized scores.

    A score that is not positive has weight 0. If none is positive, all weights are 0.
    """
    positive = raw > 0
    if not positive.all():
        weights = np.zeros(len(raw))
        if positive.any():
            weights[positive] = normalized(raw[positive])
        return weights
    z = raw
    if len(raw) > 2:
        # The same bits as np.mean and np.std, in a third of the time.
        z = raw - np.add.reduce(raw) / len(raw)
        deviation = np.sqrt(np.add.reduce(z * z) / len(raw))
        if deviation > 0:
            z = z / deviation
    weights = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
    return weights / np.add.reduce(weights)


def _stretched(p: float, q: float) -> float:
    """p (1 - q) / (p + q (1 - 2p)), which stretches small p (Kanitscheider et al. 2021, arXiv:2106.14876)."""
    if q == 0:
        return p
    below = p + q * (1 - 2 * p)
    return p * (1 - q) / (below if below > 0 else 1.0)
