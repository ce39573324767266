"""The arrays that hold all worlds, and their sizes. The first axis is the world.

Shapes: W worlds, A agents, O objects (stations and chests), R = 10 resources. columns.py names the columns.
"""

from typing import NamedTuple

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.occupancy import bit_numbers, num_words, rank_table


class Sizes(NamedTuple):
    """The largest counts that any world needs. `height` and `width` are cells, including the border."""

    height: int
    width: int
    agents: int = 1
    objects: int = 1
    chests: int = 0
    types: int = 1
    protocols: int = 1
    vibes: int = 1  # length of the longest vibe list of a protocol
    rows: int = 1
    rewards: int = 1
    milestones: int = 1


class State(NamedTuple):
    """Everything that a step reads or writes: first the game (set once per episode), then what changes."""

    world: np.ndarray  # int64 [W, WORLD_COLUMNS]: scalars of a world
    types: np.ndarray  # int64 [W, K, TYPE_COLUMNS]: object types
    protocols: np.ndarray  # int64 [W, P, VIBES + V]: grouped by type, highest MIN_AGENTS first
    limits: np.ndarray  # int64 [W, R, 2]: limit group and limit of each resource of an agent
    rows: np.ndarray  # int64 [W, L, ROW_COLUMNS]: see columns.KEY
    reward_terms: np.ndarray  # float32 [W, Q, 3]: rewarded statistics with weight and cap (inf: none)

    grid: np.ndarray  # int16 [W, height * width]: what stands in a cell
    agents: np.ndarray  # int32 [W, A, AGENT_COLUMNS]
    invalid_seen: np.ndarray  # int64 [W, A, NUM_INVALID_SEEN, 2]: invalid action indices with their counts (0: unused)
    objects: np.ndarray  # int32 [W, O, OBJECT_COLUMNS]
    inventory: np.ndarray  # int32 [W, A + chests, INVENTORY_COLUMNS]
    rng: np.ndarray  # uint64 [W]: state of a world's random numbers, never 0
    agent_stats: np.ndarray  # float32 [W, A, AGENT_STAT_COLUMNS]
    game_stats: np.ndarray  # float32 [W, GAME_STATS]
    milestones: np.ndarray  # int32 [W, A, M]: step of first reaching each milestone, NOT_YET before

    obs: np.ndarray  # uint8 [W, A, 200, 3]: location, feature, value
    final_obs: np.ndarray  # uint8 [W, A, 200, 3]: last observation of an episode ended in the latest step
    rewards: np.ndarray  # float32 [W, A]: of the latest step
    terminated: np.ndarray  # bool [W]: the latest step ended the episode
    window: np.ndarray  # int64 [121, 2], common to all worlds: see window_order
    occupied: np.ndarray  # int64 [W, words, height]: which cells are occupied, see occupancy.py
    ranks: np.ndarray  # int32 [11, 96, 4], common to all worlds: see occupancy.py
    bit_numbers: np.ndarray  # int64 [32], common to all worlds


COMMON = ("window", "ranks", "bit_numbers")
"""Constant arrays that all worlds share."""


def allocate(num_worlds: int, sizes: Sizes) -> State:
    """Empty worlds. To use one, load tables and a map, then `begin` an episode."""
    W, A, R, slots = num_worlds, sizes.agents, col.NUM_RESOURCES, sizes.agents + sizes.chests

    def zeros(dtype: type, *shape: int) -> np.ndarray:
        return np.zeros((W, *shape), dtype)

    window = window_order(sizes.width)
    return State(
        world=zeros(np.int64, col.WORLD_COLUMNS),
        types=zeros(np.int64, sizes.types, col.TYPE_COLUMNS),
        protocols=zeros(np.int64, sizes.protocols, col.VIBES + sizes.vibes),
        limits=zeros(np.int64, R, 2),
        rows=zeros(np.int64, sizes.rows, col.ROW_COLUMNS),
        reward_terms=zeros(np.float32, sizes.rewards, 3),
        grid=zeros(np.int16, sizes.height * sizes.width),
        agents=zeros(np.int32, A, col.AGENT_COLUMNS),
        invalid_seen=zeros(np.int64, A, col.NUM_INVALID_SEEN, 2),
        objects=zeros(np.int32, sizes.objects, col.OBJECT_COLUMNS),
        inventory=zeros(np.int32, slots, col.INVENTORY_COLUMNS),
        rng=np.ones(W, np.uint64),
        agent_stats=zeros(np.float32, A, col.AGENT_STAT_COLUMNS),
        game_stats=zeros(np.float32, col.GAME_STATS),
        milestones=np.full((W, A, sizes.milestones), col.NOT_YET, np.int32),
        obs=np.full((W, A, col.NUM_TOKENS, 3), col.UNUSED, np.uint8),
        final_obs=np.full((W, A, col.NUM_TOKENS, 3), col.UNUSED, np.uint8),
        rewards=zeros(np.float32, A),
        terminated=zeros(np.bool_),
        window=window,
        occupied=zeros(np.int64, num_words(sizes.width), sizes.height),
        ranks=rank_table(window),
        bit_numbers=bit_numbers(),
    )


def window_order(stride: int) -> np.ndarray:
    """(grid offset, location byte) of the window's cells `[121, 2]`, ordered by Manhattan distance, row, column."""
    reach = range(-col.RADIUS, col.RADIUS + 1)
    cells = sorted(((r, c) for r in reach for c in reach), key=lambda rc: (abs(rc[0]) + abs(rc[1]), rc[0], rc[1]))
    return np.array([(r * stride + c, 16 * (r + col.RADIUS) + c + col.RADIUS) for r, c in cells], np.int64)
