"""Training on other people's environments, through the command that a user types: what comes out, and what is told."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from helpers.commands import type_command
from helpers.third_party import Showing
from helpers.training import output_of, stop_after, wait_for, without_clock

from memexp.analysis.load import read_seed
from memexp.envs.config import ThirdParty
from memexp.ppo.config import TrainConfig
from memexp.ppo.train import with_readings_of
from memexp.runs import Run

SMALL = {
    "trainer.num_envs": 4, "trainer.horizon": 8, "trainer.num_minibatches": 2, "trainer.total_timesteps": 96,
    "cortex.d_hidden": 16, "evaluation.random_episodes": 4, "wandb.mode": "disabled",
}  # fmt: skip
THINGS = "module:helpers.third_party"


def words(env, **more):
    """KEY=VALUE words of a small run on `env`; '__' stands for '.'."""
    return [
        f"{key}={value}"
        for key, value in {"env": env, **SMALL, **{k.replace("__", "."): v for k, v in more.items()}}.items()
    ]


def train(capsys, env, **more):
    return type_command(capsys, "train", "any", *words(env, **{"run": "small", **more}))


def test_an_environment_that_nobody_here_wrote_is_trained_and_its_levels_are_known(capsys):
    typed = train(capsys, "gym:CartPole-v1", evaluation__episodes=4, trainer__total_timesteps=192)
    assert typed.code == 0, typed.err
    run = Run.named("small")
    assert (run.info.env, run.info.num_actions, run.info.solved_return) == ("CartPole-v1", 2, 475)
    assert run.info.solved_by == "the reward threshold in Gymnasium's registry"
    assert 8 < run.info.random_return < 60
    metrics = run.metrics()
    assert metrics[-1]["agent_steps"] == 192
    assert metrics[-1]["eval/return"] > 5
    assert max(line["consistency/max_logprob_gap"] for line in metrics) < 1e-5


@pytest.mark.parametrize("mode", ["Disabled", "SameStep", "NextStep"])
def test_a_batch_is_trained_examined_evaluated_and_watched(capsys, mode):
    options = f"{{of: Scored, mode: {mode}}}"
    typed = train(capsys, "helpers.batches:batch", options=options, labels__metric="success", evaluation__episodes=4)
    assert typed.code == 0, typed.err
    run = Run.named("small")
    metrics, episodes = run.metrics(), run.episodes()
    assert max(line["consistency/max_logprob_gap"] for line in metrics) < 1e-5
    assert [line["agent_steps"] for line in metrics] == [32, 64, 96]
    assert set(episodes["length"]) == {4}
    assert metrics[-1]["eval/return"] == run.info.random_return == 1 + 2 + 3 + 4
    assert run.info.random_metric == 1
    given = words("helpers.batches:batch", options=options, run="examined")
    assert type_command(capsys, "doctor", "any", *given).code == 0
    assert "return 10.000 after 4 steps" in type_command(capsys, "play", "small", "--ascii").out
    told = json.loads(type_command(capsys, "eval", "small", "--episodes", "3", "--json").out)
    assert "success" in str(told)


@pytest.mark.parametrize("seen", Showing.SEEN)
def test_every_kind_of_observation_is_learnt_from_as_it_was_acted_on(capsys, seen):
    typed = train(capsys, f"{THINGS}:Showing", options=f"{{seen: {seen}}}", evaluation__random_episodes=0)
    assert typed.code == 0, typed.err
    metrics = Run.named("small").metrics()
    assert len(metrics) == 3
    assert max(line["consistency/max_logprob_gap"] for line in metrics) < 1e-4


def test_a_run_keeps_how_it_reads_the_observation_and_is_resumed_with_no_other_reading(capsys):
    typed = train(capsys, f"{THINGS}:Showing", options="{seen: dict}", trainer__total_timesteps=32)
    assert typed.code == 0, typed.err
    why = "(values from 0 to 255 while the random policy plays)"
    assert f"c.d: pixels, 7 x 7 x 3 {why}" in typed.out
    run = Run.named("small")
    assert run.info.observation is not None
    assert run.info.observation[2] == f"c.d: pixels, 7 x 7 x 3 {why}"
    assert run.config["env"]["reading"] == {"a": "numbers", "b": "names", "c.d": "pixels", "c.e": "names"}
    fresh = ThirdParty(id=f"{THINGS}:Showing", options={"seen": "dict"})
    begun = with_readings_of(run, TrainConfig(env=fresh))
    assert isinstance(begun.env, ThirdParty)
    assert begun.env.reading == run.config["env"]["reading"]
    typed = train(
        capsys, f"{THINGS}:Showing", options="{seen: dict}", trainer__total_timesteps=32, reading="{c.d: names}"
    )
    assert typed.code == 2
    assert "exists with env.reading.c.d=pixels, not names" in typed.err


@pytest.mark.parametrize("done", ["choices", "torques", "free", "late choice"])
def test_every_kind_of_action_is_learnt(capsys, done):
    typed = train(capsys, f"{THINGS}:Showing", options=f"{{done: {done}}}", pattern="X", mem_len=4)
    assert typed.code == 0, typed.err
    run = Run.named("small")
    assert max(line["consistency/max_logprob_gap"] for line in run.metrics()) < 1e-4
    assert run.info.num_actions == {"choices": 6, "late choice": 3}.get(done)


@pytest.mark.parametrize("done", ["choices", "torques"])
def test_the_doctor_examines_every_kind_of_action(capsys, done):
    given = words(f"{THINGS}:Showing", options=f"{{done: {done}}}", run="examined")
    typed = type_command(capsys, "doctor", "any", *given, "--json")
    assert typed.code == 0, typed.err
    share = json.loads(typed.out)["entropy_share"]
    assert share is None if done == "torques" else share <= 0.5


def test_numbers_of_the_last_info_are_columns_of_episodes_and_may_be_judged(capsys):
    typed = train(capsys, f"{THINGS}:Scored", labels__metric="success", trainer__total_timesteps=64)
    assert typed.code == 0, typed.err
    run = Run.named("small")
    episodes = run.episodes()
    told = {name for name in episodes.columns if name.startswith("env/")}
    assert told == {"env/success", "env/score", "env/array", "env/rare", "env/cut"}
    assert set(episodes["env/success"]) == {1.0}
    assert set(episodes["env/score"]) == {2.5}
    assert 0 < episodes["env/rare"].is_nan().sum() < len(episodes)
    assert run.metrics()[-1]["env/success"] == 1
    assert (run.info.metric, run.info.random_metric) == ("success", 1)
    seed = read_seed(run)
    assert seed.info.ceiling_return == seed.info.random_return == 1
    assert set(seed.returns[~np.isnan(seed.returns)]) == {1.0}


LACKING = r"metric: \d+ of \d+ episodes have no '{0}' at their end, and a mean over the others would mislead"


@pytest.mark.parametrize(("env", "metric"), [("Scored", "rare"), ("ScoredPair", "success")])
def test_a_number_that_some_episodes_lack_is_never_judged_and_its_mean_is_called_partial(capsys, env, metric):
    more = {"labels__metric": metric, "run": "other", "evaluation__random_episodes": 0}
    typed = train(capsys, f"{THINGS}:{env}", **more)
    assert typed.code == 0, typed.err
    assert len(re.findall(LACKING.format(metric), typed.out)) == 1
    run = Run.named("other")
    lines, episodes = run.metrics(), run.episodes()
    assert sum(line.get(f"lacking/{metric}", 0) for line in lines) == episodes[f"env/{metric}"].is_nan().sum() > 0
    assert "lacking/score" not in lines[-1]
    with pytest.raises(ValueError, match=LACKING.format(metric)):
        read_seed(run)
    run.write_info(run.info.model_copy(update={"metric": "score"}))
    assert np.nanmean(read_seed(run).returns) == {"Scored": 2.5, "ScoredPair": 3}[env]


def test_a_metric_that_episodes_of_the_random_policy_lack_is_refused_before_the_training(capsys):
    typed = train(capsys, f"{THINGS}:Scored", labels__metric="rare", evaluation__random_episodes=8)
    assert typed.code == 2
    assert re.search(LACKING.format("rare") + ".*; they are of the random policy", typed.err)


def test_the_random_policy_is_measured_where_agents_are_done_before_their_environment(capsys):
    typed = train(capsys, f"{THINGS}:Pair")
    assert typed.code == 0, typed.err
    assert Run.named("small").info.random_return == (1 + 2 + 3 + 4 + 1 + 2) / 2


def test_the_mean_of_a_number_that_some_episodes_lack_is_called_partial_also_if_it_is_not_judged(capsys):
    typed = train(capsys, f"{THINGS}:Scored")
    assert len(re.findall(r"env/rare is a mean over some episodes: \d+ of the last \d+ do not have it", typed.out)) == 1


def test_an_unknown_metric_names_those_that_exist(capsys):
    typed = train(capsys, f"{THINGS}:Scored", labels__metric="sucess")
    assert typed.code == 2
    assert "no episode of the random policy has 'sucess'; did you mean 'success'?" in typed.err
    assert train(capsys, f"{THINGS}:Scored", run="other", evaluation__random_episodes=0).code == 0
    run = Run.named("other")
    run.write_info(run.info.model_copy(update={"metric": "sucess"}))
    with pytest.raises(ValueError, match="no episode has 'sucess'; did you mean 'success'"):
        read_seed(run)


def test_the_doctor_fails_an_environment_that_never_ends_unless_a_limit_is_given(capsys):
    typed = type_command(capsys, "doctor", "any", *words(f"{THINGS}:Endless", run="examined"))
    assert typed.code == 1
    assert "no episode ended within 10,000 steps" in typed.out
    assert "ln(allowed actions)" in typed.out
    given = words(f"{THINGS}:Endless", run="examined", max_steps=20)
    assert type_command(capsys, "doctor", "any", *given).code == 0


@pytest.mark.parametrize(
    ("env", "options", "code", "told"),
    [
        (f"{THINGS}:Going", "{how: crash}", 1, "ZeroDivisionError: the wheel came off"),
        (f"{THINGS}:Going", "{how: crash}", 1, r"third_party.py.*line \d+, in step"),
        (f"{THINGS}:Going", "{how: nan reward}", 1, "the reward nan, no finite number .*env 0, episode 0"),
        (f"{THINGS}:Going", "{how: nan observation}", 1, "the observation .*, which holds nan.*env 0, episode 0"),
        (f"{THINGS}:Graphic", "{}", 2, "'hint' of the observation is Graph, which no encoder reads"),
        (f"{THINGS}:Parted", "{path: [cue]}", 1, "the observation .* which lacks 'cue'.*env 0, episode 0, step 2"),
        ("gym:CartPoll-v1", "{}", 2, "did you mean 'CartPole-v1'"),
        ("CartPole-v1", "{}", 2, "did you mean 'gym:CartPole-v1'"),
    ],
)
def test_what_goes_wrong_in_an_environment_is_told(capsys, env, options, code, told):
    typed = train(capsys, env, options=options)
    assert typed.code == code
    assert re.search(told, typed.err), typed.err
    assert "pufferlib" not in typed.err
    assert all(line.startswith("memexp: ") for line in typed.err.splitlines())


@pytest.mark.parametrize("code", ["0", "null", "the simulator has gone"])
def test_a_run_whose_environment_ends_the_interpreter_has_failed(capsys, monkeypatch, code):
    monkeypatch.setattr(sys, "tracebacklimit", 0, raising=False)  # so SkyPilot leaves it after some errors
    typed = train(capsys, f"{THINGS}:Closed", options=f"{{code: {code}}}")
    assert typed.code == 1
    assert Run.named("small").exit.status == "failed"
    said = {"0": "0", "null": "None"}.get(code, repr(code))
    for told in (typed.err, Run.named("small").exit.reason):
        assert f"sys.exit({said}) was called" in told


def test_a_run_that_failed_before_its_first_update_is_found_and_may_begin_anew(capsys):
    labels = {"labels.matrix": "m", "labels.env": "wheel"}
    typed = train(capsys, f"{THINGS}:Closed", options="{code: 1}", seed=3, **labels)
    assert typed.code == 1
    info = Run.named("small").info
    assert (info.matrix, info.env, info.seed, info.random_return) == ("m", "wheel", 3, None)
    assert "failed" in type_command(capsys, "status", "m").out
    typed = train(capsys, "gym:CartPole-v1", seed=4, **labels)
    assert typed.code == 0, typed.err
    info = Run.named("small").info
    assert (info.seed, info.random_return is None) == (4, False)


def test_a_run_that_foreign_code_ends_outside_an_environment_has_failed(capsys, monkeypatch):
    monkeypatch.setattr("memexp.ppo.trainer.Trainer.train_step", lambda self: sys.exit("no licence"))
    typed = train(capsys, "gym:CartPole-v1")
    assert typed.code == 1
    assert "sys.exit('no licence') was called" in typed.err
    assert (Run.named("small").exit.status, "no licence" in Run.named("small").exit.reason) == ("failed", True)


@pytest.mark.parametrize(
    "command", [("doctor", "any", *words(f"{THINGS}:Closed", run="small")), ("bench", "any", f"env={THINGS}:Closed"),
                ("play", "any", f"id={THINGS}:Closed", "--ascii"), ("funnel", "any", f"id={THINGS}:Closed")]
)  # fmt: skip
def test_every_command_tells_that_an_environment_ended_the_interpreter(capsys, command):
    typed = type_command(capsys, *command)
    assert typed.code == 1
    assert "sys.exit('the simulator has gone') was called" in typed.err


def test_an_environment_that_changes_the_working_directory_takes_no_run_along(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMEXP_HOME", "here")
    for _ in range(2):
        monkeypatch.chdir(tmp_path)
        typed = train(capsys, f"{THINGS}:Wandering")
        assert typed.code == 0, typed.err
    assert (tmp_path / "here" / "runs" / "small" / "exit.json").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["here"]
    assert len(Run.named("small").metrics()) == 3  # the second command had nothing to do


def test_the_traceback_is_told_even_if_a_library_has_switched_tracebacks_off(capsys, monkeypatch):
    monkeypatch.setattr(sys, "tracebacklimit", 0, raising=False)
    typed = train(capsys, f"{THINGS}:Going", options="{how: crash}")
    assert re.search(r"third_party.py.*line \d+, in step", typed.err), typed.err


def test_an_error_in_the_middle_of_training_ends_the_run_as_failed(capsys, monkeypatch):
    monkeypatch.setattr("memexp.envs.puffer.env.WARM_UP", 1)  # else it happens before training
    typed = train(capsys, f"{THINGS}:Going", options="{how: crash}", evaluation__random_episodes=0, trainer__horizon=4)
    assert typed.code == 1
    assert "the wheel came off" in Run.named("small").exit.reason
    assert Run.named("small").exit.status == "failed"


@pytest.mark.slow
def test_an_environment_that_never_ends_is_told_before_training(capsys):
    typed = train(capsys, f"{THINGS}:Endless", evaluation__random_episodes=1)
    assert typed.code == 2
    assert "no episode ended within 10,000 steps" in typed.err
    assert "env.max_steps=500" in typed.err


@pytest.mark.parametrize("done", ["choice", "choices", "torques"])
@pytest.mark.parametrize("greedy", [(), ("--greedy",)], ids=["sampled", "greedy"])
def test_a_run_can_be_watched_as_lines(capsys, done, greedy):
    assert train(capsys, f"{THINGS}:Showing", options=f"{{done: {done}}}", evaluation__random_episodes=0).code == 0
    typed = type_command(capsys, "play", "small", "--ascii", *greedy)
    assert typed.code == 0, typed.err
    assert "return 6.000 after 6 steps" in typed.out


@pytest.mark.parametrize("env", ["gym:CartPole-v1", "vec:CartPole-v1", "helpers.batches:lengths"])
def test_a_resumed_run_begins_new_episodes_the_same_way_every_time(capsys, home, monkeypatch, env):
    lines = []
    for name in ("one", "other"):
        own = {"run": name, "trainer__checkpoint_minutes": 0, "trainer__total_timesteps": 192}
        with monkeypatch.context() as patch:
            stop_after(3, patch)
            assert type_command(capsys, "train", "any", *words(env, **own)).code == 75
        assert type_command(capsys, "train", "any", *words(env, **own)).code == 0
        lines.append(list(map(without_clock, Run.named(name).metrics())))
    assert lines[0] == lines[1]
    assert len(lines[0]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_leaves_no_worker(how):
    own = {"env__backend": "multiprocessing", "env__workers": 2, "trainer__total_timesteps": 10**8}
    typed = words("gym:CartPole-v1", run="stopped", evaluation__random_episodes=0, **own)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "memexp", "train", "any", *typed]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run = Run.named("stopped")
    wait_for(lambda: run.exists() and len(run.metrics()) > 3, process)
    workers = [child for child in psutil.Process(process.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    assert len(workers) >= 2
    process.send_signal(how)
    output_of(process)
    _, alive = psutil.wait_procs(workers, 30)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]
