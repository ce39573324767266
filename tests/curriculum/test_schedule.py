"""The schedule gives every world its tasks: the same on any number of ranks, ahead of time, and after a resume."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.curriculum import schedule
from memexp.curriculum.config import NUM_TASKS, CurriculumConfig
from memexp.curriculum.schedule import Planned, Schedule
from memexp.envs.base import concatenated, mix64
from memexp.ppo.resharding import pack, unpack

WORLDS = 8
CONFIG = CurriculumConfig(kind="learning_progress", num_active_tasks=5, max_memory_tasks=20, ema_timescale=0.1)


class Worlds:
    """One rank's worlds: the length of an episode depends on its task, its return on its task, world and number."""

    def __init__(self, tasks: Schedule, first: int, count: int, longest: int):
        self.tasks, self.longest = tasks, longest
        self.running = {world: (0, tasks(world, 0)) for world in range(first, first + count)}
        self.age = {world: mix64(world) % longest for world in self.running}  # out of phase
        self.cut = dict.fromkeys(self.running, True)
        self.asked = [(world, 0, task) for world, (_, task) in self.running.items()]

    def play(self, steps: int) -> dict[str, np.ndarray]:
        """Some steps; the columns of the whole episodes that finished, in the order of time."""
        finished = []
        for _ in range(steps):
            for world, (episode, task) in self.running.items():
                self.age[world] += 1
                if self.age[world] < 1 + mix64(task) % self.longest:
                    continue
                if not self.cut[world]:
                    finished.append((world, task, mix64(world, episode, task) % 100 / 80))
                self.running[world] = (episode + 1, self.tasks(world, episode + 1))
                self.asked.append((world, *self.running[world]))
                self.age[world], self.cut[world] = 0, False
        if not finished:
            return {}
        world, task, score = (np.array(column) for column in zip(*finished, strict=True))
        return {"world": world, "task": task, "return": score}


class Run:
    """Several ranks in one process; `asked` are all (world, episode, task) of the run."""

    def __init__(self, ranks: int, seed: int = 0, longest: int = 12, config: CurriculumConfig = CONFIG):
        self.schedules = [schedule.build(config, seed, WORLDS) for _ in range(ranks)]
        share = WORLDS // ranks
        self.worlds = [Worlds(tasks, rank * share, share, longest) for rank, tasks in enumerate(self.schedules)]

    def update(self, steps: int) -> None:
        parts = [(worlds.play(steps), worlds.tasks.note()) for worlds in self.worlds]
        episodes = concatenated(part for part, _ in parts)
        for replica in self.schedules:
            replica.advance(episodes, [note for _, note in parts])

    @property
    def asked(self) -> list[tuple[int, int, int]]:
        return sorted(call for worlds in self.worlds for call in worlds.asked)


@given(seed=st.integers(0, 2**31), longest=st.integers(1, 30), updates=st.lists(st.integers(1, 20), max_size=12))
@settings(max_examples=40)
def test_the_stream_of_tasks_does_not_depend_on_the_number_of_ranks(seed, longest, updates):
    runs = [Run(ranks, seed, longest) for ranks in (1, 2, 4)]
    for steps in updates:
        for run in runs:
            run.update(steps)
            assert len({repr(replica.stats()) for replica in run.schedules}) == 1
    assert runs[0].asked == runs[1].asked == runs[2].asked
    assert runs[0].schedules[0].stats() == runs[2].schedules[3].stats()


def test_seeds_differ_and_the_same_seed_is_the_same_run():
    streams = []
    for seed in (1, 1, 2):
        run = Run(2, seed)
        for _ in range(10):
            run.update(7)
        streams.append(run.asked)
    assert streams[0] == streams[1] != streams[2]


@given(longest=st.integers(1, 30), before=st.integers(0, 8), steps=st.integers(1, 20))
@settings(max_examples=30)
def test_a_schedule_that_is_restored_in_mid_run_gives_the_stream_of_one_that_never_stopped(longest, before, steps):
    straight = Run(2, 3, longest)
    for _ in range(before):
        straight.update(steps)
    saved = pack(straight.schedules[0].state_dict())
    resumed = Run(2, 3, longest)
    resumed.update(5)  # what it did before it is restored does not matter
    for old, new in zip(straight.worlds, resumed.worlds, strict=True):
        new.tasks.load_state_dict(unpack(saved))
        new.running, new.age, new.cut = dict(old.running), dict(old.age), dict(old.cut)
        new.asked = list(old.asked)
    for run in (straight, resumed):
        for _ in range(8):
            run.update(steps)
    assert straight.asked == resumed.asked
    assert straight.schedules[0].stats() == resumed.schedules[1].stats()


def planned(seed: int = 0) -> Planned:
    return Planned(CONFIG, seed, WORLDS)


def test_the_next_task_of_every_world_is_there_before_its_episode_begins():
    tasks = planned()
    requested: list[int] = []
    request = tasks.curriculum.request
    tasks.curriculum.request = lambda: requested.append(request()) or requested[-1]
    for episode in range(1, 5):
        asked = [tasks(world, episode) for world in range(WORLDS)]
        assert asked == [tasks(world, episode) for world in range(WORLDS)]
        assert episode == 1 or asked == requested
        requested.clear()
        tasks.advance({}, [tasks.note()])
        assert len(requested) == WORLDS
    assert tasks.stats()["unplanned"] == 0


def test_an_episode_beyond_the_plan_takes_a_task_of_the_pool_whenever_it_asks():
    tasks, other = planned(), planned()
    pool = set(tasks.curriculum.active.tolist())
    ahead = [(world, episode) for world in range(WORLDS) for episode in range(2, 40)]
    given = {call: tasks(*call) for call in ahead}
    assert set(given.values()) == pool
    assert {call: other(*call) for call in reversed(ahead)} == given
    tasks.advance({}, [tasks.note()])
    assert tasks(3, 39) == given[3, 39]  # the running one keeps its task
    assert tasks.stats()["unplanned"] == pytest.approx(38 / 39)


def test_returns_are_reported_world_by_world_in_the_order_of_time():
    tasks = planned()
    reports: list[tuple[int, float]] = []
    tasks.curriculum.report = lambda task, score: reports.append((task, score))
    columns = {"world": [5, 1, 5, 0], "task": [51, 11, 52, 1], "return": [0.5, 0.1, 0.25, 0.0]}
    tasks.advance({name: np.array(column) for name, column in columns.items()}, [tasks.note()])
    assert reports == [(1, 0.0), (11, 0.1), (51, 0.5), (52, 0.25)]


def test_replicas_that_have_come_apart_are_an_error():
    left, right = planned(0), planned(1)
    with pytest.raises(RuntimeError, match="curricula of the ranks differ"):
        left.advance({}, [left.note(), right.note()])


def test_uniform_tasks_depend_on_seed_world_and_episode_alone_and_log_nothing():
    runs = [Run(ranks, 5, config=CurriculumConfig()) for ranks in (1, 4)]
    for run in runs:
        for _ in range(6):
            run.update(7)
    assert runs[0].asked == runs[1].asked
    assert all(0 <= task < NUM_TASKS for _, _, task in runs[0].asked)
    assert runs[0].schedules[0].stats() == runs[0].schedules[0].state_dict() == {}


def test_planned_tasks_are_drawn_evenly_from_a_fresh_pool_for_every_env_and_episode():
    tasks = Planned(CONFIG, 3, 4000)
    pool = tasks.curriculum.active.tolist()
    for episode in range(4):  # 0 and 1 are requested, 2 and 3 are not planned
        counts = np.array([sum(tasks(env, episode) == task for env in range(4000)) for task in pool])
        assert counts.sum() == 4000
        assert ((counts - 800) ** 2 / 800).sum() < 23.5  # chi-square, 4 degrees of freedom: once in 10,000
    for one in range(4):
        for other in range(one):
            same = np.mean([tasks(env, one) == tasks(env, other) for env in range(4000)])
            assert 0.17 < same < 0.23


def test_no_environment_repeats_one_task():
    run = Run(1, 5, longest=3, config=CONFIG.model_copy(update={"min_presentations_for_eviction": 1}))
    for _ in range(30):
        run.update(6)
    for world in range(WORLDS):
        given = [task for other, _, task in run.asked if other == world]
        assert len(set(given)) > 5
        assert max(map(given.count, given)) < 0.6 * len(given)
