"""Signals that ask a run to stop."""

import signal

import pytest

from memexp.ppo.signals import Stop, Stopped


def test_a_signal_is_noted_or_raised_at_once_and_one_that_came_before_is_raised_too():
    with Stop() as stop:
        with stop.at_once(False):
            signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        with pytest.raises(Stopped), stop.at_once(True):
            pytest.fail("what would not end in time was begun")
    with Stop() as stop, pytest.raises(Stopped), stop.at_once(True):
        signal.raise_signal(signal.SIGTERM)
