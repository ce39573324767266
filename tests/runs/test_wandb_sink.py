"""Weights & Biases as a second sink: offline it writes beside the run, and never decides how a run goes."""

import pytest
from helpers.training import tiny

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


@pytest.mark.slow
def test_an_offline_run_is_kept_beside_the_metrics(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert train(tiny(run="mirrored", wandb__mode="auto")).status == "completed"
    logs = list(Run.named("mirrored").path.glob("wandb/offline-run-*/run-mirrored.wandb"))
    assert len(logs) == 1
    assert b"policy/entropy" in logs[0].read_bytes()
