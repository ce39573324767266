"""A run from start to end: metrics, resume, signals, damage, several ranks."""

import fcntl
import gzip
import itertools
import json
import signal
import subprocess
import threading

import pytest
import torch
from helpers.commands import type_command
from helpers.training import (
    NEVER_URGENT,
    output_of,
    start_process,
    stop_after,
    tiny,
    tiny_assembly,
    tiny_cvc,
    wait_for,
    without_clock,
)
from safetensors.torch import load_file

from memexp.config import UsageError
from memexp.envs.base import EnvError
from memexp.ppo import trainer
from memexp.ppo.checkpoint import Checkpoint, CheckpointError, load_latest, name_of, write
from memexp.ppo.config import TrainConfig
from memexp.ppo.distributed import Ranks
from memexp.ppo.shutdown import StopSignal
from memexp.ppo.train import train
from memexp.runs import RESTART, Run
from memexp.runs.status import State, state_of
from memexp.runs.writer import Writer


def weights(name):
    return load_file(max(Run.named(name).checkpoints.glob("[0-9]*")) / "weights.safetensors")


def test_a_run_leaves_everything_that_the_contract_names():
    outcome = train(tiny(run="whole", evaluation__episodes=8), argv=["memexp", "train"])
    run = Run.named("whole")
    assert outcome.status == run.exit.status == "completed"
    lines = run.metrics()
    assert [line["agent_steps"] for line in lines] == [128 * (i + 1) for i in range(6)]
    wanted = {"wall_s", "sps", "episode/count", "policy/entropy", "loss/policy", "loss/value", "loss/approx_kl"}
    wanted |= {"loss/clipfrac", "consistency/max_logprob_gap"}
    assert all(wanted <= line.keys() for line in lines)
    assert all(line["consistency/max_logprob_gap"] < 1e-4 for line in lines)
    assert "eval/return" in lines[-1]
    assert 0.2 < run.info.random_return < 0.8
    assert run.info.num_actions == 3
    assert run.episodes().height == sum(line["episode/count"] for line in lines)
    assert run.config["trainer"]["num_envs"] == 16
    length = run.config["env"]["length"]
    assert json.loads((run.path / "provenance.json").read_text())["random_steps"] == 16 * 3 * (length + 1)


@pytest.mark.parametrize("place", ["warm-up", "random level"])
def test_a_run_that_fails_before_its_first_update_says_so_in_exit_json(place):
    world = {"name": "any", "id": "module:helpers.third_party:Going", "backend": "serial", "options": {"how": "crash"}}
    if place == "random level":  # its worlds warm up for no step, and crash where the random policy plays
        world["max_steps"] = 1
        world["options"] = {"how": "crash", "at": 1}
    config = TrainConfig.model_validate({**tiny(run="early").model_dump(), "env": world})
    with pytest.raises(EnvError, match="the wheel came off"):
        train(config)
    run = Run.named("early")
    assert run.exit.status == "failed"
    assert run.exit.reason.startswith("before the first update: EnvError: ")
    assert "the wheel came off" in run.exit.reason
    assert state_of(run) == "failed"


def test_a_run_whose_environment_turns_out_never_to_end_has_failed():
    world = {"name": "any", "id": "module:helpers.third_party:Endless", "backend": "serial"}
    config = TrainConfig.model_validate({**tiny(run="endless").model_dump(), "env": world})
    with pytest.raises(UsageError, match="say when to cut them"):
        train(config)
    assert Run.named("endless").exit.status == "failed"
    with pytest.raises(UsageError, match="num_envs"):
        train(tiny(run="wrong", trainer__num_envs=9))
    assert not Run.named("wrong").path.exists()


def test_a_run_that_cannot_begin_leaves_the_word_of_the_process_that_works_on_it():
    world = {"name": "any", "id": "module:helpers.third_party:Going", "backend": "serial", "options": {"how": "crash"}}
    config = TrainConfig.model_validate({**tiny(run="busy").model_dump(), "env": world})
    holder = Writer(Run.named("busy").lock)
    with pytest.raises(EnvError):
        train(config)
    holder.leave()
    assert Run.named("busy").exit is None


@pytest.mark.parametrize("nothing", ["thread", "process"])
def test_a_run_that_has_no_memory_for_a_thread_or_a_process_has_failed_and_says_so(monkeypatch, nothing):
    """So it is under `ulimit -v`: exit.json is written without them."""
    error = RuntimeError("can't start new thread") if nothing == "thread" else OSError(12, "Cannot allocate memory")

    def refuse(self, *_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*((threading.Thread, "start") if nothing == "thread" else (subprocess, "Popen")), refuse)
        with pytest.raises(type(error)):
            train(tiny(run="poor"))
    run = Run.named("poor")
    assert run.exit is not None
    assert (run.exit.status, run.exit.reason) == ("failed", f"before the first update: {type(error).__name__}: {error}")
    assert state_of(run) is State.FAILED
    assert run.info.arm == "S"
    assert train(tiny(run="poor")).status == "completed"


def test_every_line_says_where_its_time_went():
    train(tiny_cvc(run="split"))
    for line in Run.named("split").metrics():
        assert 0 < line["time/engine"] < line["time/rollout"]
        assert line["time/update"] > 0
        assert line["time/logging"] >= 0


def test_a_profiled_run_has_a_trace_and_the_time_split_of_so_many_updates():
    train(tiny(run="profiled", trainer__profile=2))
    folder = Run.named("profiled").path / "profile"
    assert sorted(path.name for path in folder.iterdir()) == [
        "update-3.json.gz", "update-3.txt", "update-4.json.gz", "update-4.txt",
    ]  # fmt: skip
    trace = json.loads(gzip.decompress((folder / "update-3.json.gz").read_bytes()))
    assert "Optimizer.step#AdamW.step" in {event["name"] for event in trace["traceEvents"]}
    table = (folder / "update-3.txt").read_text()
    assert [line.split()[0] for line in table.splitlines()[:4]] == ["rollout", "engine", "update", "logging"]


def test_on_a_cpu_the_graph_switch_changes_nothing():
    train(tiny(run="called", trainer__target_kl=0.002))
    train(tiny(run="graphed", trainer__target_kl=0.002, trainer__graph=True))
    called, graphed = (map(without_clock, Run.named(name).metrics()) for name in ("called", "graphed"))
    assert list(called) == list(graphed)


def test_a_run_of_a_grid_game_is_told_what_scripted_players_reach(capsys):
    train(tiny_assembly(run="levels", evaluation__reference_episodes=4))
    info = Run.named("levels").info
    assert (info.memoryless_return, info.ceiling_return, info.oracle_return) == (15, 15, 15)
    assert 0 <= info.random_return < 3
    assert list(info.random_funnel) == ["moved", "link_1", "first_heart", "second_heart"]
    assert "measuring scripted policies, 4 episodes each" in capsys.readouterr().out


def test_a_completed_run_is_not_run_again():
    config = tiny(run="once")
    train(config)
    before = Run.named("once").metrics()
    assert train(config).status == "completed"
    assert Run.named("once").metrics() == before


OWN = "A,helpers.own_cells:Nested"
RUNS = {
    "tmaze-S": lambda **names: tiny("tmaze", cortex__pattern="S", trainer__grad_norm_growth=1.05, **names),
    "chain_recall-X": lambda **names: tiny("chain_recall", env__episode_length=20, cortex__pattern="X", **names),
    "chain_recall-AgSA": lambda **names: tiny("chain_recall", env__episode_length=20, cortex__pattern="AgSA", **names),
    "chain_recall-own": lambda **names: tiny("chain_recall", env__episode_length=20, cortex__pattern=OWN, **names),
    "assembly_lines-S": lambda **names: tiny_assembly(trainer__horizon=100, trainer__total_timesteps=9600, **names),
    "cvc_random_maps-S": lambda **names: tiny_cvc(**names),
}


@pytest.mark.parametrize("make", RUNS.values(), ids=RUNS)
def test_a_run_that_is_stopped_and_resumed_is_the_same_run(make, monkeypatch):
    straight, stopped = make(run="straight"), make(run="stopped", trainer__checkpoint_minutes=0)
    train(straight)
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        assert train(stopped).status == "preempted"
    assert train(stopped).status == "completed"
    a, b = (list(map(without_clock, Run.named(name).metrics())) for name in ("straight", "stopped"))
    assert a == b
    assert sum(line["episode/count"] for line in a) > 0
    old, new = weights("straight"), weights("stopped")
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.slow
def test_a_killed_run_resumes_with_continuous_metrics():
    update = 192  # agent steps
    config = tiny_cvc(run="killed", trainer__total_timesteps=update * 60, trainer__checkpoint_minutes=0)
    run = Run.named("killed")
    for lines_before_the_kill in (7, 23):
        process = start_process(config)
        wait_for(lambda n=lines_before_the_kill: len(run.metrics()) >= n, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run.exit is None
    assert train(config).status == "completed"
    train(tiny_cvc(run="undisturbed", trainer__total_timesteps=update * 60, trainer__checkpoint_minutes=0))
    assert [line["agent_steps"] for line in run.metrics()] == [update * (i + 1) for i in range(60)]
    assert list(map(without_clock, run.metrics())) == list(map(without_clock, Run.named("undisturbed").metrics()))
    assert run.episodes().height == Run.named("undisturbed").episodes().height


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_exits_as_preempted():
    config = tiny(run="told", trainer__total_timesteps=10**7, **NEVER_URGENT)
    run = Run.named("told")
    process = start_process(config)
    wait_for(lambda: len(run.metrics()) >= 3, process)
    process.send_signal(signal.SIGTERM)
    output = output_of(process)
    assert process.returncode == RESTART, output
    assert run.exit.status == "preempted"
    assert run.exit.agent_steps == run.metrics()[-1]["agent_steps"]
    assert max(run.checkpoints.glob("[0-9]*")).name == f"{run.exit.agent_steps:015d}"


def test_a_second_sigterm_does_not_kill_before_the_checkpoint_is_written():
    """Whoever signals a process group reaches torchrun and its processes, and torchrun signals these once more."""
    with StopSignal() as stop:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            assert stop.requested
            assert signal.getsignal(number) is not signal.SIG_DFL
            signal.raise_signal(number)


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny, tiny_cvc], ids=["one agent a world", "many agents a world"])
def test_two_gloo_ranks_make_the_update_of_one_rank(make):
    one, two = (make(run=name, seed=4, evaluation__episodes=9) for name in ("one", "two"))
    assert train(one).status == "completed"
    process = start_process(two, ranks=2)
    output = output_of(process)
    assert process.returncode == 0, output
    first, second = weights("one"), weights("two")
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-5)
    for a, b in zip(Run.named("one").metrics(), Run.named("two").metrics(), strict=True):
        assert a.keys() == b.keys()
        assert without_clock(b) == pytest.approx(without_clock(a), rel=1e-3, abs=1e-5)


def test_a_run_may_resume_on_another_kind_of_device():
    config, ranks = tiny(), Ranks(0, 1, torch.device("cpu"))
    point = trainer.Trainer(config, ranks).checkpoint()
    point.shared["action_noise"] = torch.zeros(16, dtype=torch.uint8)  # the state of a GPU's generator
    rolls = []
    for _ in range(2):
        resumed = trainer.Trainer(config, ranks)
        resumed.restore(point)
        rolls.append(resumed.noise.sample())
    assert torch.equal(*rolls)


def test_a_checkpoint_from_before_the_action_noise_was_named_so_still_loads():
    config, ranks = tiny(), Ranks(0, 1, torch.device("cpu"))
    old, resumed = trainer.Trainer(config, ranks), trainer.Trainer(config, ranks)
    point = old.checkpoint()
    point.shared["dice"] = point.shared.pop("action_noise")
    resumed.noise.sample()
    resumed.restore(point)
    assert torch.equal(resumed.noise.sample(), old.noise.sample())


def test_two_processes_never_train_one_run():
    config = tiny(run="held")
    run = Run.named("held")
    run.path.mkdir(parents=True)
    with open(run.path / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="run 'held' is running in another process"):
            train(config)
    assert train(config).status == "completed"


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(capsys):
    config = tiny(run="damaged", trainer__checkpoint_minutes=0)
    train(config)
    run = Run.named("damaged")
    (run.path / "exit.json").unlink()
    newest, _ = sorted(run.checkpoints.glob("[0-9]*"), reverse=True)
    file = newest / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-7] + b"garbage")
    assert train(config).status == "completed"
    assert f"checkpoint {newest} cannot be used: weights.safetensors is damaged" in capsys.readouterr().out
    assert [line["agent_steps"] for line in run.metrics()] == [128 * (i + 1) for i in range(6)]

    (run.path / "exit.json").unlink()
    before = run.metrics()
    for path in run.checkpoints.glob("[0-9]*"):
        (path / "shared.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"shared\.pt is damaged.*shared\.pt is damaged"):
        train(config)
    assert run.metrics() == before


def test_a_run_killed_just_before_its_exit_keeps_its_last_checkpoint_untouched():
    config = tiny(run="almost", trainer__checkpoint_minutes=0)
    train(config)
    run = Run.named("almost")
    before = {path: path.stat().st_ino for path in run.checkpoints.iterdir()}
    (run.path / "exit.json").unlink()
    assert train(config).status == "completed"
    assert {path: path.stat().st_ino for path in run.checkpoints.iterdir()} == before


def test_a_checkpoint_clears_away_torn_ones_and_those_of_a_future_that_was_given_up(tmp_path):
    ranks, writer = Ranks(0, 1, torch.device("cpu")), Writer()
    (tmp_path / "000000000000005").mkdir()
    for agent_steps, before in ((10, []), (20, [10]), (40, [20]), (30, [20])):  # 40 was damaged: 20 was resumed
        point = Checkpoint(agent_steps, {"w": torch.zeros(1)}, {}, {})
        write(tmp_path, point, map(name_of, before), ranks, writer)
    assert [answer for answer in writer.finish(60) if answer.error] == []
    writer.leave()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name_of(20), name_of(30)]


def test_all_ranks_take_the_newest_checkpoint_that_is_whole_on_all_of_them():
    """Seen from the first of two ranks; the other cannot read its part of the newest checkpoint."""

    class FirstOfTwo(Ranks):
        def gather(self, value):
            if isinstance(value, list):  # of the checkpoints that there are
                return [value, value]
            return [value, next(answers)]

    train(tiny(run="shared", trainer__checkpoint_minutes=0))
    folder = Run.named("shared").checkpoints
    for manifest in folder.glob("*/manifest.json"):
        manifest.write_text(manifest.read_text().replace('"world_size": 1', '"world_size": 2'))
    answers = iter(["rank-00001.pt is damaged", None])
    older, newest = sorted(int(path.name) for path in folder.glob("[0-9]*"))
    assert newest > older
    found, told = load_latest(folder, FirstOfTwo(0, 2, torch.device("cpu")))
    assert found is not None
    assert found.agent_steps == older
    assert told == ["rank-00001.pt is damaged"]


def test_a_name_stands_for_one_experiment():
    train(tiny(run="mine"))
    with pytest.raises(UsageError, match=r"run 'mine' exists with trainer\.gamma=0\.95, not 0\.5"):
        train(tiny(run="mine", trainer__gamma=0.5))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tmaze", "labels.solved_return=2"], "solved_return 2 is above ceiling_return 1"),  # the environment's own
        (["any", "labels.solved_return=3", "labels.ceiling_return=2.5"], "solved_return 3 is above ceiling_return 2.5"),
        (["any", "env.ceiling_return=-9", "solved_return=-8.5"], "solved_return -8.5 is above ceiling_return -9"),
    ],
)
def test_a_return_that_counts_as_solved_lies_below_the_ceiling(capsys, words, said):
    typed = type_command(capsys, "train", *words, "run=wrong", "evaluation.random_episodes=0")
    assert (typed.code, typed.err) == (2, f"memexp: {said}\n")


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("price_per_hour=1e12", "labels: price_per_hour: must be less than 1000000000 (got 1000000000000.0)"),
        ("tuning={arm: S, values: {}}", "labels: tuning.kind: Field required"),
    ],
)
def test_a_label_that_run_json_cannot_hold_is_one_line_before_anything_is_written(capsys, home, label, said):
    typed = type_command(capsys, "train", "tmaze", f"labels.{label}", "run=wrong")
    assert (typed.code, typed.err) == (2, f"memexp: {said}\n")
    assert not home.exists()


def test_a_run_without_a_name_is_refused():
    with pytest.raises(UsageError, match="no name"):
        train(tiny())


@pytest.mark.parametrize(
    ("device", "told"),
    [("abacus", "unknown device 'abacus'"), ("mps", "unknown device 'mps'"), ("cuda:99", "torch can use . GPUs here")],
)
def test_a_device_that_cannot_train_is_refused_before_anything_is_written(device, told, home):
    with pytest.raises(UsageError, match=told):
        train(tiny(run="counted", trainer__device=device))
    assert not home.exists()


def test_unequal_shares_are_refused_before_anything_is_written(home):
    with pytest.raises(ValueError, match="does not divide"):
        tiny(run="unequal", trainer__num_envs=15)
    assert not home.exists()


@pytest.mark.parametrize(("target_kl", "steps"), [("none", 4), ("1e-12", 1), ("1e6", 4)])
def test_an_update_ends_early_once_the_policy_has_moved_too_far(target_kl, steps, monkeypatch):
    config = tiny(trainer__target_kl=target_kl, trainer__learning_rate=0.1)
    session = trainer.Trainer(config, Ranks(0, 1, torch.device("cpu")))
    taken, step = [], session.optimizer.step
    monkeypatch.setattr(session.optimizer, "step", lambda: taken.append(step()))
    session.train_step()
    assert len(taken) == steps


def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_the_last_checkpoint(monkeypatch):
    real, calls = trainer.gae, itertools.count()

    def gae_that_breaks_in_the_third_update(*arguments):
        factor = float("nan") if next(calls) == 2 else 1
        return tuple(x * factor for x in real(*arguments))

    config = tiny(run="nan", trainer__checkpoint_minutes=0)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "gae", gae_that_breaks_in_the_third_update)
        outcome = train(config)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("update 3: FloatingPointError: the gradient norm is nan")
    assert len(Run.named("nan").metrics()) == 2
    assert train(config).status == "completed"
