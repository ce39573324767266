"""Weights & Biases as a second sink: offline it writes beside the run, and never decides how a run goes."""

import threading
from types import SimpleNamespace

import pytest
from helpers.training import start_process, tiny

from memexp.config import UsageError
from memexp.ppo.train import train
from memexp.ppo.trainer import Trainer
from memexp.runs import Run, wandb_sink
from memexp.runs.wandb_sink import resolve_mode


def test_without_a_key_w_and_b_is_offline(monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UsageError, match="did you mean 'offline'"):
        resolve_mode("auto")


@pytest.mark.parametrize(
    ("word", "mode"),
    [("run", "online"), ("dryrun", "offline"), ("shared", "shared"), ("offline", "offline"), ("disabled", "disabled")],
)
def test_wandb_mode_means_what_w_and_b_means_by_it(monkeypatch, word: str, mode: str):
    monkeypatch.setenv("WANDB_MODE", word)
    assert resolve_mode("auto") == mode


@pytest.mark.slow
def test_an_offline_run_is_kept_beside_the_metrics(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")  # in a process of its own: W&B keeps the mode it first saw
    process = start_process(tiny(run="mirrored", wandb__mode="auto"))
    output, _ = process.communicate()
    assert process.returncode == 0, output.decode()
    logs = list(Run.named("mirrored").path.glob("wandb/offline-run-*/run-mirrored.wandb"))
    assert len(logs) == 1
    assert b"policy/entropy" in logs[0].read_bytes()


def test_a_misspelt_mode_is_refused_before_anything_is_written(monkeypatch, home):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UsageError, match="did you mean 'offline'"):
        train(tiny(run="misspelt", wandb__mode="auto"))
    assert not home.exists()


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_run_goes_on_without_w_and_b_where_it_fails(broken, monkeypatch, capsys):
    import wandb

    def fail(*arguments, **options):
        raise wandb.Error("no\nnetwork")

    def quiet(*arguments, **options):
        return SimpleNamespace(**{"log": quiet, "finish": quiet, broken: fail})

    monkeypatch.setattr(wandb, "init", fail if broken == "init" else quiet)
    outcome = train(tiny(run="alone", wandb__mode="offline"))
    assert outcome.status == "completed"
    assert len(Run.named("alone").metrics()) == 6
    assert capsys.readouterr().err.count("going on without W&B: Error: no network") == 1


def test_a_run_ends_though_wandb_never_does(monkeypatch, capsys):
    import wandb

    killed = threading.Event()
    mirror = SimpleNamespace(log=lambda *_, **__: None, finish=lambda exit_code: killed.wait())
    monkeypatch.setattr(wandb, "init", lambda **_: mirror)
    monkeypatch.setattr(wandb_sink, "FINISH_S", 0.1)
    monkeypatch.setattr(wandb_sink, "_kill_service", killed.set)
    assert train(tiny(run="silent", wandb__mode="offline")).status == "completed"
    assert "going on without W&B: it has not ended within" in capsys.readouterr().err


@pytest.mark.parametrize("failed", [False, True])
def test_a_failed_run_is_shown_as_failed(failed, monkeypatch):
    import wandb

    codes = []
    mirror = SimpleNamespace(log=lambda *_, **__: None, finish=lambda exit_code: codes.append(exit_code))
    monkeypatch.setattr(wandb, "init", lambda **_: mirror)
    if failed:
        monkeypatch.setattr(Trainer, "learning_rate", lambda self: 1 / 0)
    train(tiny(run="shown", wandb__mode="offline"))
    assert codes == [failed]
