"""Signals that ask a run to stop."""

import signal

import pytest

from memexp.ppo.shutdown import Stopped, StopSignal


def test_a_signal_is_noted_or_raised_at_once_and_one_that_came_before_is_raised_too():
    with StopSignal() as stop:
        with stop.interrupts(False):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        with pytest.raises(Stopped), stop.interrupts(True):
            pytest.fail("what would not end in time was begun")
    with StopSignal() as stop, pytest.raises(Stopped), stop.interrupts(True):
        signal.raise_signal(signal.SIGTERM)
