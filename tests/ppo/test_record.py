"""What a run shows while it works."""

from types import SimpleNamespace

import pytest
from helpers.training import tiny

from memexp.ppo import record as module
from memexp.ppo.record import counting
from memexp.ppo.train import train


@pytest.fixture
def clock(monkeypatch):
    """The time that the module sees, seconds."""
    now = SimpleNamespace(monotonic=lambda: now.time, time=100.0)
    monkeypatch.setattr(module, "time", now)
    return now


def test_what_takes_long_is_told_now_and_then_with_rate_and_time_left(clock):
    said: list[str] = []
    tell = counting(said.append, "measuring", 64, "episodes")
    for second, done in [(1, 1), (2, 4.4), (3, 8), (11, 30), (12, 32), (20, 48), (23, 64)]:
        clock.time = 100.0 + second
        tell(done)
    assert said == [
        "measuring: 4 of 64 episodes, 2.2 a second, 27s left",
        "measuring: 32 of 64 episodes, 2.67 a second, 12s left",
        "measuring: 64 of 64 episodes, 2.78 a second, 0s left",
    ]


def test_what_is_quick_is_not_told(clock):
    said: list[str] = []
    tell = counting(said.append, "measuring", 3, "episodes")
    for done in (1, 2, 3):
        tell(done)
    assert said == []


def test_a_run_tells_how_far_the_measuring_of_levels_is(monkeypatch, capsys):
    monkeypatch.setattr(module, "FIRST_S", -1.0)
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    assert train(tiny(run="maze")).status == "completed"
    assert "measuring the policy 'random': 8 of 8 episodes" in capsys.readouterr().out
