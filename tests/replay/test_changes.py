"""An episode as changes: exact in every step, through packing and back."""

import numpy as np
from helpers.episodes import series_of, unpack
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memexp.replay.changes import ChangeLog

LOW, HIGH = -(2**31), 2**31 - 1
ANY = arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.integers(LOW, HIGH))
FEW = arrays(np.int32, st.tuples(st.integers(1, 40), st.integers(1, 6)), elements=st.integers(0, 1))


@given(st.one_of(ANY, FEW))
def test_every_number_of_every_step_comes_back(numbers):
    log = ChangeLog()
    for row in numbers:
        log.add(row)
    changes = log.close()
    unpacked = unpack(changes.pack(), len(numbers) - 1, numbers.shape[1])
    for one in (changes, unpacked):
        assert np.array_equal([one.at(step) for step in range(len(numbers))], numbers)
        assert np.array_equal(np.transpose([series_of(one, m) for m in range(numbers.shape[1])]), numbers)


def test_what_never_changes_is_kept_once():
    log = ChangeLog()
    for _ in range(100):
        log.add(np.array([7, -1], np.int32))
    assert len(log.close().values) == 2
