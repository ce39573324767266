"""The arrays that hold every world, first axis = world, and how large they must be for a set of games.

Shapes: W worlds, A agents, O objects (stations and chests), R = 10 resources. The columns are named in columns.py.
"""

from typing import NamedTuple

import numpy as np

from memexp.envs.grid import columns as col


class Sizes(NamedTuple):
    """The largest counts any world needs. `height` and `width` are cells, the border included."""

    height: int
    width: int
    agents: int = 1
    objects: int = 1
    chests: int = 0
    types: int = 1
    protocols: int = 1
    vibes: int = 1
    """Length of the longest vibe list of a protocol."""
    rows: int = 1
    rewards: int = 1


class State(NamedTuple):
    """Everything that a step reads or writes. The first group is the game (set once an episode), then what changes."""

    world: np.ndarray
    """int32 [W, WORLD_COLUMNS]: scalars of a world."""
    types: np.ndarray
    """int32 [W, K, TYPE_COLUMNS]: object types."""
    protocols: np.ndarray
    """int32 [W, P, PROTOCOL_COLUMNS]: the protocols of a type stand together, highest MIN_AGENTS first."""
    protocol_keys: np.ndarray
    """int64 [W, P]: the vibes that a protocol needs as one number (see stations.vibe_key)."""
    protocol_vibes: np.ndarray
    """uint8 [W, P, V]: the same as a list."""
    limits: np.ndarray
    """int32 [W, R, 2]: limit group and limit of each resource in an agent's inventory."""
    rows: np.ndarray
    """int32 [W, L, ROW_COLUMNS]: costs, regeneration, shares, chest transfers, goals, initial amounts."""
    reward_stats: np.ndarray
    """int32 [W, Q]: rewarded statistics; below AGENT_STATS an agent's column, from there on the game's."""
    reward_weights: np.ndarray
    """float32 [W, Q, 2]: weight and cap (inf: none)."""

    grid: np.ndarray
    """int16 [W, height * width]: what stands in a cell."""
    agents: np.ndarray
    """int32 [W, A, AGENT_COLUMNS]."""
    objects: np.ndarray
    """int32 [W, O, OBJECT_COLUMNS]."""
    inventory: np.ndarray
    """int32 [W, A + chests, R]: amounts."""
    held: np.ndarray
    """uint8 [W, A + chests, R + 1]: resources with a positive amount, the latest to become positive last; [R] = how many."""
    rng: np.ndarray
    """uint64 [W]: state of a world's random numbers, never 0."""
    order: np.ndarray
    """int16 [W, A]: the order in which the agents act."""
    scratch: np.ndarray
    """int16 [W, 32]: lists of up to eight agents or vibes, used within one rule."""
    agent_stats: np.ndarray
    """float32 [W, A, AGENT_STATS]."""
    game_stats: np.ndarray
    """float32 [W, GAME_STATS]."""
    invalid_seen: np.ndarray
    """int32 [W, A, 8, 2]: invalid action indices and how often each was counted (0: free place)."""
    reward_sums: np.ndarray
    """float32 [W, A]: the weighted sum of rewarded statistics after the previous step."""

    obs: np.ndarray
    """uint8 [W, A, 200, 3]: location, feature, value."""
    final_obs: np.ndarray
    """uint8 [W, A, 200, 3]: the last observation of the episode that ended in the latest step."""
    rewards: np.ndarray
    """float32 [W, A]: of the latest step."""
    returns: np.ndarray
    """float32 [W, A]: sum of the rewards of the episode."""
    terminated: np.ndarray
    """bool [W]: the latest step ended the episode."""
    window: np.ndarray
    """int32 [121, 2], common to all worlds: the cells of the window in token order, as offset into grid and location byte."""


def allocate(num_worlds: int, sizes: Sizes) -> State:
    """Empty worlds: load tables and a map, then `begin` them."""
    W, A, R, slots = num_worlds, sizes.agents, col.NUM_RESOURCES, sizes.agents + sizes.chests

    def zeros(dtype: type, *shape: int) -> np.ndarray:
        return np.zeros((W, *shape), dtype)

    return State(
        world=zeros(np.int32, col.WORLD_COLUMNS),
        types=zeros(np.int32, sizes.types, col.TYPE_COLUMNS),
        protocols=zeros(np.int32, sizes.protocols, col.PROTOCOL_COLUMNS),
        protocol_keys=zeros(np.int64, sizes.protocols),
        protocol_vibes=zeros(np.uint8, sizes.protocols, sizes.vibes),
        limits=zeros(np.int32, R, 2),
        rows=zeros(np.int32, sizes.rows, col.ROW_COLUMNS),
        reward_stats=zeros(np.int32, sizes.rewards),
        reward_weights=zeros(np.float32, sizes.rewards, 2),
        grid=zeros(np.int16, sizes.height * sizes.width),
        agents=zeros(np.int32, A, col.AGENT_COLUMNS),
        objects=zeros(np.int32, sizes.objects, col.OBJECT_COLUMNS),
        inventory=zeros(np.int32, slots, R),
        held=zeros(np.uint8, slots, R + 1),
        rng=np.ones(W, np.uint64),
        order=np.tile(np.arange(A, dtype=np.int16), (W, 1)),
        scratch=zeros(np.int16, 32),
        agent_stats=zeros(np.float32, A, col.AGENT_STATS),
        game_stats=zeros(np.float32, col.GAME_STATS),
        invalid_seen=zeros(np.int32, A, col.NUM_INVALID_SEEN, 2),
        reward_sums=zeros(np.float32, A),
        obs=np.full((W, A, col.NUM_TOKENS, 3), col.UNUSED, np.uint8),
        final_obs=np.full((W, A, col.NUM_TOKENS, 3), col.UNUSED, np.uint8),
        rewards=zeros(np.float32, A),
        returns=zeros(np.float32, A),
        terminated=zeros(np.bool_),
        window=window_order(sizes.width),
    )


def window_order(stride: int) -> np.ndarray:
    """The window's cells in token order: by Manhattan distance, then row, then column; offset and location `[121, 2]`."""
    reach = range(-col.RADIUS, col.RADIUS + 1)
    cells = sorted(((r, c) for r in reach for c in reach), key=lambda rc: (abs(rc[0]) + abs(rc[1]), rc[0], rc[1]))
    return np.array([(r * stride + c, 16 * (r + col.RADIUS) + c + col.RADIUS) for r, c in cells], np.int32)
