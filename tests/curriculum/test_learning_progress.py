"""The learning-progress curriculum: the original's recorded runs, its rules word by word, and what always holds."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from helpers.golden import golden_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.config import UsageError
from memexp.curriculum.config import NUM_TASKS, CurriculumConfig
from memexp.curriculum.learning_progress import LearningProgress, normalized
from memexp.ppo.resharding import pack, unpack

Plain = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "curriculum.py"))["Plain"]

RECORDED = {
    "task_id": "task",
    "fast": "fast",
    "slow": "slow",
    "raw_score": "raw",
    "eviction_score": "low",
    "completions": "count",
}


def rows_of(curriculum: LearningProgress) -> dict[str, np.ndarray]:
    """What is known about the tasks of the pool, in the order of `active`."""
    names = dict.fromkeys(RECORDED.values())
    return {name: curriculum._of_pool(getattr(curriculum, f"_{name}")) for name in names}


def small(**changes) -> CurriculumConfig:
    """A pool of six tasks whose averages move fast."""
    defaults = {"num_active_tasks": 6, "max_memory_tasks": 12, "ema_timescale": 0.2, "memory": 3}
    return CurriculumConfig(kind="learning_progress", **defaults | changes)


@pytest.mark.parametrize("file", golden_cases("", "learning_progress_trace.json"))
def test_recorded_runs_of_the_original_are_reproduced(file):
    for run in json.loads(file.read_text())["runs"]:
        hyper = run["hyperparameters"] | {
            name: run[name] for name in ("num_active_tasks", "min_presentations_for_eviction")
        }
        known = CurriculumConfig.model_fields.keys() & hyper.keys()
        config = CurriculumConfig(kind="learning_progress", **{name: hyper[name] for name in known})
        curriculum = LearningProgress(config, run["rng_seed"])
        assert curriculum.active.tolist() == run["initial_task_ids"]
        snapshots = {snapshot["after_step"]: snapshot["tasks"] for snapshot in run["snapshots"]}
        for step, (task, evicted, score) in enumerate(run["steps"]):
            before = set(curriculum.active.tolist())
            assert curriculum.request() == task
            assert before - set(curriculum.active.tolist()) == ({evicted} - {None})
            curriculum.report(task, score)
            if step not in snapshots:
                continue
            rows, weights = rows_of(curriculum), curriculum.weights()
            for ours, theirs in RECORDED.items():
                reported = [row for row, one in enumerate(snapshots[step]) if one[ours] is not None]
                wanted = [snapshots[step][row][ours] for row in reported]
                np.testing.assert_allclose(rows[theirs][reported], wanted, rtol=0, atol=1e-12)
            np.testing.assert_allclose(weights, [one["normalized"] for one in snapshots[step]], rtol=0, atol=1e-12)
        assert (curriculum.created, curriculum.evicted) == (run["num_created"], run["num_evicted"])


CONFIGS = st.builds(
    lambda pool, beside, **rest: small(num_active_tasks=pool, max_memory_tasks=pool + beside, **rest),
    pool=st.integers(1, 8),
    beside=st.integers(0, 6),
    min_presentations_for_eviction=st.integers(1, 6),
    ema_timescale=st.sampled_from([0.001, 0.1, 0.5, 1.0]),
    exploration_bonus=st.sampled_from([0.0, 0.1, 0.5]),
    progress_smoothing=st.sampled_from([0.0, 0.05, 0.5]),
    lp_gain=st.sampled_from([0.0, 0.1, 1e17]),  # the last makes different scores equal once they are normalized
)
SCORES = st.floats(-0.5, 1.5) | st.sampled_from([0.0, 1.0])
STEPS = st.lists(st.tuples(st.integers(0, 3), SCORES, st.integers(0, 20)), min_size=1, max_size=120)
"""How many requests come first, a score, and how many tasks ago the task that it is for was given."""


def play(curriculum, steps) -> list[int]:
    """Requests and reports, some of them late; the tasks that were given."""
    given = [curriculum.request()]
    for requests, score, ago in steps:
        given += [curriculum.request() for _ in range(requests)]
        curriculum.report(given[-1 - ago % len(given)], score)
    return given


@given(config=CONFIGS, seed=st.integers(0, 2**32), steps=STEPS)
@settings(max_examples=150)
def test_it_gives_the_tasks_that_the_rules_word_by_word_give(config, seed, steps):
    fast, plain = LearningProgress(config, seed), Plain(config, seed)
    assert play(fast, steps) == play(plain, steps)
    assert fast.active.tolist() == plain.pool
    np.testing.assert_allclose(fast.weights(), plain.weights(), rtol=0, atol=1e-9)
    assert fast.stats()["remembered"] == len(plain.records)


def test_there_is_room_for_a_late_report_when_no_task_of_the_pool_is_remembered():
    curriculum = LearningProgress(small(num_active_tasks=2, max_memory_tasks=2), 0)
    pool = curriculum.active.tolist()
    for task in range(NUM_TASKS, NUM_TASKS + 5):
        curriculum.report(task, 1.0)
    assert curriculum.active.tolist() == pool
    assert curriculum.stats()["remembered"] == 2


@given(config=CONFIGS, seed=st.integers(0, 2**32), steps=STEPS)
def test_the_pool_is_always_full_of_different_tasks_and_gives_none_but_its_own(config, seed, steps):
    curriculum = LearningProgress(config, seed)
    gone: set[int] = set()
    for requests, score, ago in steps:
        given = []
        for _ in range(requests + 1):
            before = set(curriculum.active.tolist())
            given.append(curriculum.request())
            pool = curriculum.active.tolist()
            assert len(pool) == len(set(pool)) == config.num_active_tasks
            assert all(0 <= task < NUM_TASKS for task in pool)
            assert given[-1] in pool
            gone = (gone | before) - set(pool)
            assert given[-1] not in gone
        curriculum.report(given[ago % len(given)], score)
        weights, stats = curriculum.weights(), curriculum.stats()
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1) or not weights.any()
        assert stats["created"] == stats["evicted"] + config.num_active_tasks
        assert stats["remembered"] <= config.max_memory_tasks
        assert stats["effective_tasks"] >= 1 - 1e-9
        assert stats["effective_tasks"] <= config.num_active_tasks + 1e-9


@given(raw=st.lists(st.floats(0, 1e16) | st.sampled_from([0.0, 0.1]), max_size=30))
def test_normalized_scores_sum_to_one_and_keep_the_order(raw):
    scores = np.array(raw)
    weights = normalized(scores)
    assert (weights[scores <= 0] == 0).all()
    assert weights.sum() == pytest.approx(float((scores > 0).any()))
    assert (np.diff(weights[np.argsort(scores, kind="stable")]) >= -1e-15).all()


@given(config=CONFIGS, seed=st.integers(0, 2**32), before=STEPS, after=STEPS)
def test_a_saved_curriculum_goes_on_as_if_never_interrupted(config, seed, before, after):
    straight = LearningProgress(config, seed)
    play(straight, before)
    resumed = LearningProgress(config, seed + 1)
    resumed.load_state_dict(unpack(pack(straight.state_dict())))
    assert resumed.stats() == straight.stats()
    assert play(resumed, after) == play(straight, after)
    assert resumed.stats() == straight.stats()


def test_a_task_that_teaches_nothing_is_replaced_after_five_episodes_and_one_that_is_learned_stays():
    curriculum = LearningProgress(small(), 0)
    learned, *others = curriculum.active.tolist()
    for episode in range(5):
        assert set(curriculum.active.tolist()) == {learned, *others}
        for task in (learned, *others):
            curriculum.report(task, episode / 4 if task == learned else 0.0)
    created = [curriculum.request() for _ in others]
    assert curriculum.active.tolist() == [learned, *created]
    share = dict(zip(curriculum.active.tolist(), curriculum.weights().tolist(), strict=True))
    assert max(share, key=share.__getitem__) == learned
    drawn = [curriculum.request() for _ in range(400)]
    assert drawn.count(learned) == pytest.approx(400 * share[learned], abs=40)


def test_every_metric_has_the_value_that_its_definition_gives():
    """Worked out by hand: p = 2 score - 1; fast moves by 1/2, slow by 1/4 of the way to the newest p."""
    config = small(num_active_tasks=3, max_memory_tasks=6, ema_timescale=0.5, slow_timescale_factor=0.5, memory=2)
    rules = {"progress_smoothing": 0, "lp_gain": 0.2, "min_presentations_for_eviction": 2}
    curriculum = LearningProgress(config.model_copy(update=rules), 0)
    falling, good, unplayed = curriculum.active.tolist()
    for score in (1.0, 0.0):
        curriculum.report(falling, score)  # p 1, -1: fast 0, slow 1/2
    for score in (0.0, 1.0, 1.0):
        curriculum.report(good, score)  # p -1, 1, 1: fast 1/2, slow -1/8
    raw = np.array([0.5, 5 / 8 + 0.2 * 0.5, 0.1])  # the gap, and a fifth of the fast average where it is positive
    logistic = 1 / (1 + np.exp(-(raw - raw.mean()) / raw.std()))
    weights = logistic / logistic.sum()
    np.testing.assert_allclose(curriculum.weights(), weights, rtol=1e-12)
    assert curriculum.stats() == pytest.approx(
        {
            "pool": 3, "remembered": 3, "created": 3, "evicted": 0, "completions": 5,
            "mean_progress": raw.mean(), "max_progress": 5 / 8 + 0.1,
            "effective_tasks": np.exp(-(weights * np.log(weights)).sum()),
            "evictable": 1 / 3,  # `falling`: the lowest but one; `good` is higher, `unplayed` has not been played
            "played": 2 / 3, "score": (0.5 + 1.0) / 2, "fast": 1 / 4, "slow": 3 / 16,
        }
    )  # fmt: skip
    fresh = curriculum.request()
    assert curriculum.active.tolist() == [good, unplayed, fresh]
    assert curriculum.stats()["evicted"] == 1


def test_late_reports_of_replaced_tasks_are_remembered_until_there_are_too_many():
    curriculum = LearningProgress(small(max_memory_tasks=8), 0)
    pool = curriculum.active.tolist()
    for task in range(NUM_TASKS, NUM_TASKS + 2):
        curriculum.report(task, 1.0)
    assert curriculum.stats()["remembered"] == 8
    curriculum.report(pool[0], 1.0)
    curriculum.report(NUM_TASKS + 2, 1.0)  # the oldest, pool[0], is forgotten, but stays in the pool
    assert curriculum.stats()["remembered"] == 8
    assert curriculum.active.tolist() == pool
    assert rows_of(curriculum)["count"].tolist() == [0] * 6


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"max_memory_tasks": 5}, "max_memory_tasks=5 cannot hold num_active_tasks=6"),
        ({"num_active_tasks": 0}, "num_active_tasks: .*greater than or equal to 1"),
        ({"ema_timescale": 0}, "ema_timescale: .*greater than 0"),
        ({"slow_timescale_factor": 1.5}, "slow_timescale_factor: .*less than or equal to 1"),
        ({"progress_smoothing": 0.6}, r"progress_smoothing: .*less than or equal to 0\.5"),
        ({"exploration_bonus": -1}, "exploration_bonus: .*greater than or equal to 0"),
        ({"kind": "learning_progres"}, "kind: .*'learning_progress'"),
        ({"exploration_bonas": 0.1}, "unknown key 'exploration_bonas'; did you mean 'exploration_bonus'"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes, told):
    with pytest.raises(UsageError, match=told):
        CurriculumConfig.parse({"num_active_tasks": 6, "max_memory_tasks": 12} | changes)
