"""Recorded episodes of the original engine come out the same, value by value."""

import pytest
from helpers.golden import golden_cases
from helpers.replay import replay


@pytest.mark.parametrize("path", golden_cases("assembly_lines") + golden_cases("cvc_random_maps"))
def test_a_recorded_episode_replays_bit_by_bit(path, record_property):
    steps = replay(path)
    record_property("steps_compared", steps)
    assert steps > 0
