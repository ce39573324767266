"""Training runs with the learning-progress curriculum: metrics, resume, several ranks, held-out tasks."""

import polars as pl
import pytest
from helpers.commands import type_command
from helpers.training import output_of, start_process, stop_after, tiny, tiny_assembly

from memexp.config import UsageError
from memexp.curriculum.config import NUM_TASKS
from memexp.envs.grid.cpu_envs import CpuEnvs, EpisodeTable
from memexp.ppo.train import train
from memexp.runs import Run

LONG = {"trainer.horizon": 100, "trainer.total_timesteps": 1600 * 8}
"""Eight updates, in which some fifteen episodes finish."""


def short_pool(**changes):
    """A run whose pool is so small that tasks are evicted within it."""
    words = {key.replace(".", "__"): value for key, value in LONG.items()}
    pool = {"curriculum__num_active_tasks": 3, "curriculum__min_presentations_for_eviction": 1}
    return tiny_assembly(**words | pool | {"evaluation__random_episodes": 0} | changes)


def of_curriculum(name) -> list[dict[str, float]]:
    """The curriculum's metrics of each update of a run."""
    return [
        {key: value for key, value in line.items() if key.startswith("curriculum/")}
        for line in Run.named(name).metrics()
    ]


@pytest.fixture
def asked(monkeypatch):
    """(world, episode) -> task, of every episode that any assembly line begins."""
    calls: dict[tuple[int, int], int] = {}
    start = EpisodeTable.start

    def watched(self, w, task_id):
        start(self, w, task_id)
        calls[self.first_env + w, int(self.episode[w])] = task_id

    monkeypatch.setattr(EpisodeTable, "start", watched)
    return calls


def test_typing_a_run_shows_the_curriculum_in_its_metrics(capsys):
    words = {"run": "typed", "curriculum_style": "level_0", "pattern": "S", "num_layers": 1, "d_hidden": 16, **LONG}
    words |= {"trainer.num_envs": 16, "trainer.num_minibatches": 2, "evaluation.episodes": 0, "wandb.mode": "disabled"}
    words |= {"evaluation.random_episodes": 1, "evaluation.reference_episodes": 0}
    typed = type_command(
        capsys, "train", "assembly_lines_train.train", *(f"{key}={value}" for key, value in words.items())
    )
    assert typed.code == 0, typed.err
    lines = Run.named("typed").metrics()
    assert len(lines) == 8
    for line in lines:
        assert line["curriculum/pool"] == 64
        assert line["curriculum/created"] == 64 + line["curriculum/evicted"]
        assert 1 <= line["curriculum/effective_tasks"] <= 64.001
        assert line["curriculum/mean_progress"] == pytest.approx(0.1)
    finished = sum(line["episode/count"] for line in lines)
    assert lines[-1]["curriculum/completions"] == finished > 0


def test_uniform_tasks_log_nothing_about_a_curriculum():
    train(tiny_assembly(run="plain", curriculum__kind="uniform", trainer__total_timesteps=256))
    assert not any(of_curriculum("plain"))


def test_a_run_that_is_stopped_and_resumed_plays_the_same_tasks(asked, monkeypatch):
    train(short_pool(run="straight"))
    straight = dict(asked)
    asked.clear()
    with monkeypatch.context() as patch:
        stop_after(4, patch)
        assert train(short_pool(run="stopped")).status == "preempted"
    assert train(short_pool(run="stopped")).status == "completed"
    assert of_curriculum("straight") == of_curriculum("stopped")
    assert of_curriculum("stopped")[-1]["curriculum/evicted"] > 0
    assert straight == asked


@pytest.mark.slow
def test_two_gloo_ranks_play_the_tasks_of_one():
    still = {"trainer__learning_rate": 1e-12}  # the policy must not depend on the order in which gradients are added
    train(short_pool(run="one", **still))
    process = start_process(short_pool(run="two", **still), ranks=2)
    output = output_of(process)
    assert process.returncode == 0, output
    one, two = (
        Run.named(name).episodes().select("agent_steps", "world", "task", "return").sort(pl.all())
        for name in ("one", "two")
    )
    assert one.height > 0
    assert one.equals(two)
    assert of_curriculum("one") == of_curriculum("two")


def test_evaluation_plays_held_out_tasks_and_the_random_policy_uniform_ones_whatever_the_curriculum(monkeypatch):
    played: dict[str, list[list[int]]] = {}
    for kind in ("uniform", "learning_progress"):
        seen, begin = played.setdefault(kind, []), CpuEnvs._begin

        def watched(self, worlds, seen=seen, begin=begin):
            begin(self, worlds)
            if len(worlds) == self._table.num_envs:
                seen.append(self._table.task.tolist())

        with monkeypatch.context() as patch:
            patch.setattr(CpuEnvs, "_begin", watched)
            train(
                tiny_assembly(
                    run=f"held-out-{kind}",
                    curriculum__kind=kind,
                    trainer__total_timesteps=128,
                    evaluation__episodes=3,
                    evaluation__random_episodes=2,
                    evaluation__horizon_episodes=0,
                )
            )
    (desync, random, evaluation), (other_desync, *others) = played["uniform"], played["learning_progress"]
    assert others == [evaluation]  # the random policy's level is the same, and known already
    assert desync != other_desync
    assert min(evaluation) >= NUM_TASKS
    assert max(desync + other_desync + random) < NUM_TASKS


def test_the_curriculum_is_part_of_the_experiment():
    train(tiny_assembly(run="mine", trainer__total_timesteps=128))
    with pytest.raises(UsageError, match=r"run 'mine' exists with curriculum\.lp_gain=0\.1, not 0\.2"):
        train(tiny_assembly(run="mine", trainer__total_timesteps=128, curriculum__lp_gain=0.2))


def test_an_env_without_tasks_has_no_curriculum():
    with pytest.raises(UsageError, match=r"learning_progress needs an environment with tasks .*, which tmaze is not"):
        tiny(curriculum__kind="learning_progress")
