"""The shortcuts by which the engine looks around agree with looking at every cell."""

import numba
import numpy as np
import pytest
import torch
from helpers.cvc import RICH, SMALL, act, hold, scene, world
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.envs.config import CVC_OBJECTS, CvcRandomMaps
from memexp.envs.cvc_random_maps import PROTOCOL_VIBES, game_of
from memexp.envs.cvc_tasks import sample_task
from memexp.envs.grid import columns as col
from memexp.envs.grid import occupancy, stations
from memexp.envs.grid.state import State, window_order
from memexp.envs.grid.tables import Chest, build, vibe_key


@numba.njit
def surrounded(s, obj):
    return occupancy.surrounded(s, 0, obj)


@numba.njit
def current_protocol(s, obj):
    return stations.current_protocol(s, 0, obj)


@numba.njit
def protocol_by_looking(s, obj):
    """The same without shortcuts."""
    kind = s.objects[0, obj, col.TYPE]
    count = stations.find_agents_around(s, 0, s.objects[0, obj, col.OBJECT_CELL], -1)
    vibes = np.zeros(8, np.int64)
    for i in range(count):
        vibes[i] = s.agents[0, s.world[0, stations.AROUND + i], col.VIBE]
    vibes.sort()
    key = np.int64(0)
    for vibe in vibes:
        key = (key << 8) | vibe
    p = stations.find_protocol(s, 0, kind, key, count)
    return p if p >= 0 else stations.find_protocol(s, 0, kind, np.int64(0), count)


def check_occupancy(s: State, w: int) -> None:
    """`occupied` says of every cell of the map, and ROW and COLUMN of every object, what the grid says."""
    height, width = s.world[w, [col.HEIGHT, col.WIDTH]].tolist()
    stride = int(s.window[4, 0])
    filled = s.grid[w].reshape(-1, stride)[:height, :width] != col.EMPTY
    for word in range(s.occupied.shape[1]):
        columns = filled[:, 32 * word : 32 * word + occupancy.REACH]
        expected = columns @ (1 << np.arange(columns.shape[1], dtype=np.int64))
        assert np.array_equal(s.occupied[w, word, :height], expected)
    objects = s.objects[w, : s.world[w, col.NUM_OBJECTS]]
    assert np.array_equal(objects[:, col.ROW] * stride + objects[:, col.COLUMN], objects[:, col.OBJECT_CELL])


def random_actions(env, steps: int, seed: int) -> torch.Tensor:
    return torch.randint(env.num_actions, (steps, env.num_agents), generator=torch.Generator().manual_seed(seed))


wide = st.sampled_from([5, 11, 12, 21, 22, 23, 40, 53, 54, 55, 64, 90])
"""Widths on both sides of where another word begins."""


@given(st.integers(0, 2**32), wide, st.sampled_from([6, 17]))
@settings(max_examples=20)
def test_what_is_noted_of_the_map_agrees_with_it_after_any_play(seed, width, height):
    env = world(1, seed, map_width=width, map_height=height, num_cogs=6, num_vibes=13, max_steps=30, **RICH)
    env.reset()
    s = env.state
    for row in random_actions(env, 45, seed):  # into a second episode
        env.step(torch.where(row > 8, row % 4 + 1, row))
        check_occupancy(s, 0)
    stride = int(s.window[4, 0])
    around = [r * stride + c for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]
    for obj in range(s.world[0, col.NUM_OBJECTS]):
        near = s.grid[0, s.objects[0, obj, col.OBJECT_CELL] + np.array(around)]
        assert surrounded(s, obj) == (near != col.EMPTY).any()
        if s.objects[0, obj, col.TYPE] != CVC_OBJECTS.index("chest"):
            assert current_protocol(s, obj) == protocol_by_looking(s, obj)


def test_a_smaller_map_after_a_larger_one_has_nothing_left_of_it():
    knobs = CvcRandomMaps(**(SMALL | {"map_width": [5, 90], "map_height": [6, 40]}))
    area = {task: sample_task(task, knobs).width * sample_task(task, knobs).height for task in range(50)}
    large, small = max(area, key=area.__getitem__), min(area, key=area.__getitem__)
    env = world(1, tasks=lambda world, episode: (large, small)[episode], map_width=[5, 90], map_height=[6, 40])
    env.reset()
    check_occupancy(env.state, 0)
    env.state.world[0, col.MAX_STEPS] = 1
    env.step(torch.zeros(env.num_agents, dtype=torch.int64))
    assert env.task_id(0) == small
    check_occupancy(env.state, 0)


@given(st.binary(min_size=121, max_size=121))
@settings(max_examples=30)
def test_places_of_occupied_cells_are_those_of_the_window_in_its_order(data):
    filled = np.frombuffer(data, np.uint8).reshape(col.WINDOW, col.WINDOW) % 2 == 1
    window = window_order(100)
    table, low = occupancy.rank_table(window), occupancy.LOW
    words = np.zeros(4, np.int64)
    for row in range(col.WINDOW):
        bits = int(filled[row] @ (1 << np.arange(col.WINDOW)))
        words |= table[row, bits & ((1 << low) - 1)] | table[row, (1 << low) + (bits >> low)]
    places = [part * occupancy.PART + bit for part in range(4) for bit in range(31) if words[part] >> bit & 1]
    assert places == [i for i, location in enumerate(window[:, 1]) if filled[location // 16, location % 16]]


def test_the_window_is_seen_from_near_to_far_row_by_row():
    window = window_order(100)
    rows, columns = window[:, 1] // 16 - 5, window[:, 1] % 16 - 5
    assert (rows * 100 + columns == window[:, 0]).all()
    order = list(zip(abs(rows) + abs(columns), rows, columns, strict=True))
    assert order == sorted(order)
    assert len(set(order)) == 121


@given(st.integers(1, 2**31 - 1))
def test_the_lowest_bit_is_found_by_its_product(bits):
    numbers = occupancy.bit_numbers()
    isolated = bits & -bits
    assert numbers[(isolated * occupancy._DE_BRUIJN) >> 27 & 31] == isolated.bit_length() - 1


@pytest.mark.parametrize("variant", PROTOCOL_VIBES)
def test_a_station_without_neighbours_has_the_protocol_that_asks_for_nobody(variant):
    game = game_of(sample_task(0, CvcRandomMaps(assembler_protocols=[variant])), 16)
    tables = build(game)
    for row, kind in zip(tables.types, game.types, strict=True):
        if isinstance(kind, Chest):
            continue
        asked = [p.min_agents or vibe_key(p.vibes) for p in sorted(kind.protocols, key=lambda p: -p.min_agents)]
        alone = [i for i, asks in enumerate(asked) if not asks]
        assert row[col.ALONE] == (row[col.FIRST] + alone[0] if alone else -1)
        assert row[col.ONLY] == (row[col.FIRST] if asked == [0] else -1)


def test_a_lone_germanium_extractor_shows_what_one_agent_would_get():
    env = scene("@....g")
    shown = env.state.obs[0, 0]
    there = shown[shown[:, 0] == 16 * 5 + 10]
    assert there[there[:, 1] == col.F_OUTPUT + 3, 2].tolist() == [2]
    act(env, *["east"] * 4)
    shown = env.state.obs[0, 0]
    assert shown[(shown[:, 0] == 16 * 5 + 6) & (shown[:, 1] == col.F_OUTPUT + 3), 2].tolist() == [2]


def test_counters_hold_the_longest_episode_and_the_fullest_chest():
    env = scene("@H", "E.", max_steps=1_000_000, extractor_max_uses=0)
    s = env.state
    s.world[0, col.STEP] = 999_980
    s.inventory[0, 0, 0] = 50
    act(env, "south")  # uses the charger
    charger = s.objects[0, s.objects[0, :, col.TYPE] == CVC_OBJECTS.index("charger")][0]
    assert (charger[col.END], charger[col.USES]) == (999_991, 1)
    chest = s.inventory[0, 1]
    hold(env, 0, carbon=10)
    chest[1] = 65_530
    act(env, "carbon_b", "east")
    assert (chest[1], s.agent_stats[0, 0, col.DEPOSITED_BY + 1]) == (65_535, 5)
    for name, most in {"agents": 2**31, "objects": 2**31, "inventory": 2**31, "occupied": 2**63}.items():
        assert np.iinfo(getattr(s, name).dtype).max == most - 1
