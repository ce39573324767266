"""The plan tells what is left to do, what it costs, and refuses a name that stands for another experiment."""

import fcntl

import pytest
from helpers.commands import type_command

from memexp.config import UsageError
from memexp.launch.plan.plan import make_plan
from memexp.launch.plan.recipe import find_recipe
from memexp.launch.plan.run_spec import default_name, recipe_specs
from memexp.runs import Exit, Run, RunInfo
from memexp.runs.status import state_of

TMAZE = find_recipe("tmaze")


def started(spec) -> Run:
    """The directory that a trainer makes for the spec."""
    run, config = Run.named(spec.run), spec.config
    run.write_config(config.model_dump())
    run.write_info(
        RunInfo(
            run=spec.run,
            env="tmaze",
            arm=config.arm,
            pattern=config.cortex.pattern,
            mem_len=config.cortex.mem_len,
            memory="on",
            seed=0,
            total_timesteps=spec.agent_steps,
        )
    )
    return run


def test_a_run_goes_from_new_over_running_to_done_and_only_new_and_unfinished_ones_are_due():
    spec = recipe_specs(TMAZE, {"run": "one"})[0]

    def plan():
        return make_plan("one", [spec], None)

    assert (plan().counts, len(plan().due)) == ({"new": 1}, 1)
    run = started(spec)
    assert (plan().counts, len(plan().due)) == ({"interrupted": 1}, 1)
    with open(run.path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (plan().counts, len(plan().due)) == ({"running": 1}, 0)
    for status, state, due in (("preempted", "preempted", 1), ("failed", "failed", 1), ("completed", "completed", 0)):
        run.finish(Exit(status=status))  # type: ignore[arg-type]
        assert (plan().counts, len(plan().due)) == ({state: 1}, due)


def test_asking_for_the_state_of_a_run_leaves_no_trace(home):
    assert state_of(Run.named("nothing")) == "new"
    assert not home.exists()


def test_a_name_that_stands_for_another_experiment_is_refused():
    run = started(recipe_specs(TMAZE, {"run": "one", "pattern": "S"})[0])
    run.finish(Exit(status="completed"))
    with pytest.raises(UsageError, match=r"run 'one' exists with cortex.pattern=S, not L"):
        make_plan("one", recipe_specs(TMAZE, {"run": "one", "pattern": "L"}), None)
    same = {"run": "one", "trainer.threads": "2", "labels.price_per_hour": "3", "wandb.mode": "disabled"}
    assert make_plan("one", recipe_specs(TMAZE, same), None).due == []


def test_copies_are_runs_that_differ_in_seed_and_name_alone():
    first, second = recipe_specs(TMAZE, {"run": "one", "seed": "4"}, copies=2)
    assert [(spec.run, spec.config.seed) for spec in (first, second)] == [("one.s4", 4), ("one.s5", 5)]
    assert first.config.model_copy(update={"run": None, "seed": 0}) == second.config.model_copy(
        update={"run": None, "seed": 0}
    )


def test_a_run_without_a_name_is_called_after_its_words_whatever_their_order():
    names = {default_name(TMAZE, dict(pairs)) for pairs in ([("a", "1"), ("b.c", "x/y")], [("b.c", "x/y"), ("a", "1")])}
    assert names == {"tmaze.a-1.c-x-y"}
    assert default_name(find_recipe("cvc_random_maps_train.train"), {}) == "cvc-random-maps"


def test_many_long_words_give_a_short_name_that_tells_them_apart():
    """`--scout` and `bench` type the whole environment, wrappers included."""
    words = {f"env.option_{i}": "x" * 20 for i in range(8)}
    names = [default_name(TMAZE, words | {"seed": seed}) for seed in ("1", "2")]
    assert len({*names}) == 2
    assert all(name.startswith("tmaze.option-0-xxxx") and len(name) <= 112 for name in names)


def test_a_plan_names_the_modules_that_its_runs_import_and_imports_none(tmp_path, monkeypatch, capsys):
    (tmp_path / "maze.py").write_text("open('CANARY', 'w')\n")
    (tmp_path / "m.yaml").write_text(
        "name: m\narchitectures: {S: {pattern: 'S,my.cells:MinGRU'}}\nsteps: [1k]\nseeds: 1\nenvironments:\n"
        "  a: {recipe: any, args: {env: 'module:maze:Maze', wrappers: ['minigrid.wrappers:FullyObsWrapper']}}\n"
    )
    monkeypatch.chdir(tmp_path)
    typed = type_command(capsys, "launch", "m.yaml", "--local", "--dry-run")
    assert typed.code == 0
    assert "they import maze, minigrid.wrappers, my.cells\n" in typed.out
    assert not (tmp_path / "CANARY").exists()
