"""Inventories keep their limits, and sharing out neither makes nor loses anything."""

import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.envs.grid import columns as col
from memexp.envs.grid import inventories
from memexp.envs.grid.state import Sizes, State, allocate

NUM_AGENTS = 8


@numba.njit
def shared_update(s, resource, change, count):
    for i in range(count):
        s.world[0, col.SCRATCH + i] = i
    return inventories.shared_update(s, 0, resource, change, col.SCRATCH, count)


@numba.njit
def update(s, slot, resource, change):
    return inventories.update(s, 0, slot, resource, change)


def world(limits: list[tuple[int, int]]) -> State:
    s = allocate(1, Sizes(11, 11, agents=NUM_AGENTS))
    s.limits[0] = limits
    return s


limit_tables = st.lists(
    st.tuples(st.integers(-1, 2), st.just(0)), min_size=col.NUM_RESOURCES, max_size=col.NUM_RESOURCES
).flatmap(
    lambda rows: st.lists(st.integers(0, 300), min_size=3, max_size=3).map(
        lambda most: [(group, most[group] if group >= 0 else 0) for group, _ in rows]
    )
)
changes = st.lists(st.tuples(st.integers(0, col.NUM_RESOURCES - 1), st.integers(-400, 400)), max_size=30)


def amounts(s: State) -> np.ndarray:
    return s.inventory[0, :, : col.NUM_RESOURCES]


@given(limit_tables, changes)
@settings(deadline=None)
def test_an_inventory_stays_within_its_limits_and_lists_what_it_holds_in_order(limits, changes):
    s, order = world(limits), []
    for resource, change in changes:
        before = amounts(s)[0, resource]
        made = update(s, 0, resource, change)
        now = amounts(s)[0, resource]
        assert now - before == made
        assert abs(made) <= abs(change)
        if before == 0 < now:
            order.append(resource)
        elif before > 0 == now:
            order.remove(resource)
    for group in range(3):
        members = [r for r, (g, _) in enumerate(limits) if g == group]
        if members:
            assert amounts(s)[0, members].sum() <= limits[members[0]][1]
    held = s.inventory[0, 0, col.NUM_HELD]
    assert s.inventory[0, 0, col.HOLDS : col.HOLDS + held].tolist() == order
    assert (amounts(s) >= 0).all()


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=NUM_AGENTS),
    st.integers(-200, 200),
    st.integers(60, 120),
)
@settings(deadline=None)
def test_a_shared_change_is_made_as_far_as_there_is_room_and_as_evenly_as_possible(start, change, limit):
    s = world([(0, limit)] * col.NUM_RESOURCES)
    for slot, amount in enumerate(start):
        update(s, slot, 0, amount)
    before = np.array(start)
    made = shared_update(s, 0, change, len(start))
    change_each = amounts(s)[: len(start), 0] - before
    possible = (limit - before) if change > 0 else before
    assert made == change_each.sum()
    assert abs(made) == min(abs(change), possible.sum())
    paid = np.abs(change_each)
    unsettled = paid < possible  # those that could have given or taken more all got the same, give or take one
    if unsettled.any():
        assert paid.max() - paid[unsettled].min() <= 1
        assert (np.diff(paid[unsettled]) <= 0).all()
