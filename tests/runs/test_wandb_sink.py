"""Weights & Biases as a second sink: offline it writes beside the run, and never decides how a run goes."""

import pytest
from helpers.training import start_process, tiny

from memexp.config import UsageError
from memexp.ppo.train import train
from memexp.runs import Run
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
