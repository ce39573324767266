"""Cost of the learning-progress curriculum, microseconds a request with the report that follows it.

    python benchmarks/curriculum.py [--repeats 5] [--pools 64 500 2000] [--json]

`in turn`: each request is followed by its episode's report, so that nothing can be kept from one to the next.
`batches`: 64 reports, then 64 requests, as at the end of an update. `plain`: in turn, by a transcription of the rules
that scores all remembered tasks for each task that it looks at. Both give the same tasks, which is checked. Scores are
random with a level of each task's own; medians over the repeats, once evictions and draws have settled.
"""

import argparse
import json
import random
import statistics
import time
from dataclasses import dataclass

import numpy as np

from memexp.curriculum.config import NUM_TASKS, CurriculumConfig
from memexp.curriculum.learning_progress import LearningProgress

BATCH = 64


@dataclass
class Record:
    """What the plain curriculum remembers of a task."""

    count: int = 0
    fast: float = 0.0
    slow: float = 0.0


class Plain:
    """The rules word by word: a dict of tasks, everything computed when it is asked for."""

    def __init__(self, config: CurriculumConfig, seed: int) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.pool: list[int] = []
        self.records: dict[int, Record] = {}  # of the remembered tasks, oldest first
        while len(self.pool) < config.num_active_tasks:
            self._create()

    def request(self) -> int:
        evictable = [task for task in self.pool if self._may_be_evicted(task)]
        if evictable:
            task = min(evictable, key=self._low)
            self.pool.remove(task)
            self.records.pop(task, None)
            return self._create()
        weights = self.weights()
        return self.random.choices(self.pool, weights)[0] if sum(weights) > 0 else self.random.choice(self.pool)

    def report(self, task: int, score: float) -> None:
        c = self.config
        record = self.records.setdefault(task, Record())
        x = (min(max(score, 0.0), 1.0) - 0.5) / 0.5
        if record.count == 0:
            record.fast = record.slow = x
        else:
            a, b = c.ema_timescale, c.ema_timescale * c.slow_timescale_factor
            record.fast = a * x + (1 - a) * record.fast
            record.slow = b * x + (1 - b) * record.slow
        record.count += 1
        self._trim()

    def weights(self) -> list[float]:
        return self._normalized([self._raw(task) for task in self.pool])

    def _create(self) -> int:
        task = self.random.randint(0, NUM_TASKS - 1)
        while task in self.pool:
            task = self.random.randint(0, NUM_TASKS - 1)
        self.pool.append(task)
        self.records.pop(task, None)
        self.records[task] = Record()
        self._trim()
        return task

    def _trim(self) -> None:
        while len(self.records) > self.config.max_memory_tasks:
            del self.records[next(iter(self.records))]

    def _low(self, task: int) -> float:
        record, c = self.records.get(task, Record()), self.config
        if record.count < 2:
            return c.exploration_bonus
        return abs(self._bent(record.fast) - self._bent(record.slow)) + c.lp_gain * max(self._bent(record.fast), 0.0)

    def _raw(self, task: int) -> float:
        return max(self._low(task), self.config.exploration_bonus)

    def _bent(self, p: float) -> float:
        q = self.config.progress_smoothing
        below = p + q * (1 - 2 * p)
        return p if q == 0 else p * (1 - q) / (below if below > 0 else 1.0)

    def _may_be_evicted(self, task: int) -> bool:
        record = self.records.get(task, Record())
        if record.count < self.config.min_presentations_for_eviction or len(self.records) < 2:
            return False
        weights = dict(zip(self.records, self._normalized([self._raw(other) for other in self.records]), strict=True))
        return weights[task] <= sorted(weights.values())[int(0.4 * len(weights))]

    def _normalized(self, raw: list[float]) -> list[float]:
        scores = np.array(raw)
        positive = scores[scores > 0]
        if len(positive) > 2:
            positive = positive - positive.mean()
            deviation = np.sqrt(np.mean(positive * positive))
            positive = positive / deviation if deviation > 0 else positive
        logistic = 1 / (1 + np.exp(-np.clip(positive, -500, 500)))
        weights = np.zeros(len(scores))
        weights[scores > 0] = logistic / logistic.sum() if len(logistic) else logistic
        return weights.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pools", type=int, nargs="+", default=[64, 500, 2000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(pool, options.repeats) for pool in options.pools]
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'pool':>6}{'remembered':>12}{'in turn us':>12}{'batches us':>12}{'plain us':>14}{'plain / in turn':>17}")
    for row in rows:
        figures = f"{row['in_turn']:12.1f}{row['batches']:12.1f}{row['plain']:14,.0f}{row['ratio']:17,.0f}"
        print(f"{row['pool']:6}{row['remembered']:12}{figures}")


def measure(pool: int, repeats: int) -> dict[str, float]:
    """Median microseconds of each way at one size of the pool."""
    remembered = max(1000, pool * 3 // 2)
    config = CurriculumConfig(
        kind="learning_progress", num_active_tasks=pool, max_memory_tasks=remembered, ema_timescale=0.01
    )
    times: dict[str, list[float]] = {"in_turn": [], "batches": [], "plain": []}
    few = max(2, 1000 // pool)  # the plain one takes seconds a request
    for repeat in range(repeats):
        fast, plain = LearningProgress(config, repeat), Plain(config, repeat)
        for curriculum in (fast, plain):
            prepare(curriculum, list(plain.pool), remembered - pool)
        seconds, theirs = timed(plain, random.Random(repeat), few)
        times["plain"].append(seconds)
        _, ours = timed(fast, random.Random(repeat), few)
        if ours != theirs:
            raise SystemExit(f"the two curricula give different tasks: {ours} and {theirs}")
        timed(fast, random.Random(repeat), 8 * pool)
        times["in_turn"].append(timed(fast, random.Random(repeat), 2000)[0])
        times["batches"].append(timed(fast, random.Random(repeat), 2000, BATCH)[0])
    row = {name: statistics.median(values) for name, values in times.items()}
    return {"pool": pool, "remembered": remembered} | row | {"ratio": row["plain"] / row["in_turn"]}


def prepare(curriculum: LearningProgress | Plain, pool: list[int], late: int) -> None:
    """Give every task of the pool some episodes, and as many tasks beside it one that is late as are remembered."""
    scores = random.Random(0)
    for task in [*pool * 6, *range(NUM_TASKS, NUM_TASKS + late)]:
        curriculum.report(task, level(task) * scores.random())


def timed(
    curriculum: LearningProgress | Plain, scores: random.Random, requests: int, at_once: int = 1
) -> tuple[float, list[int]]:
    """Microseconds a request with its report, and the tasks given; `at_once` requests come before their reports."""
    tasks: list[int] = []
    start = time.perf_counter()
    while len(tasks) < requests:
        given = [curriculum.request() for _ in range(at_once)]
        for task in given:
            curriculum.report(task, level(task) * scores.random())
        tasks += given
    return (time.perf_counter() - start) / len(tasks) * 1e6, tasks


def level(task: int) -> float:
    """Largest score of a task: differs from task to task."""
    return task % 10 / 10


if __name__ == "__main__":
    main()
