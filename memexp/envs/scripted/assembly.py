"""Scripted policies of assembly_lines: go to the nearest usable station, and search for unknown stations.

Each use of a station of the chain is progress: an agent can carry all resources of the chain at once.
"""

import numpy as np

from memexp.envs.assembly_lines import HEART_LIMIT
from memexp.envs.assembly_tasks import RESOURCES
from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, scripted_entry
from memexp.envs.grid.rng import draw
from memexp.envs.scripted.belief_map import (
    CELL,
    GOAL,
    TIME,
    forget,
    roll,
    shifted,
    side_of,
    step_towards,
    update_belief,
)  # fmt: skip
from memexp.envs.scripted.full import learn_world, map_cell
from memexp.envs.scripted.paths import NOWHERE, ahead, keep_path, random_move, search, want_nothing
from memexp.envs.scripted.view import CELLS, FREE, HERE, KINDS, LAST_ACTION, NOTHING, THING, UNKNOWN, WALL, look

WALL_TAG = -1  # which tag walls have depends on the task
_HEART = RESOURCES.index("heart")
_PATIENCE = 10
"""Most steps that the memoryless policy waits for a station."""
_STRAY = 20
"""The memoryless policy makes a random move once in this many steps."""
_AT_THE_WALL = 2
"""Distance from the walls, cells, at which the memoryless policy walks around: no obstacles are there."""


@scripted_entry()
def act_with_memory(m, obs, resets, seed, step, actions):
    """Actions [N] from all observations of each agent."""
    for n in range(obs.shape[0]):
        update_belief(m, n, obs, resets[n], seed, step, WALL_TAG, NOTHING)
        note_recipes(m, n)
        actions[n] = work(m, n)


@scripted_entry()
def act_without_memory(m, obs, resets, seed, step, actions):
    """Actions [N] from the current observation of each agent alone."""
    for n in range(obs.shape[0]):
        update_belief(m, n, obs, True, seed, step, WALL_TAG, NOTHING)
        note_recipes(m, n)
        actions[n] = work_or_walk_around(m, n)


@scripted_entry()
def act_with_full_sight(m, s, obs, resets, seed, step, actions):
    """Actions [N] from the whole state."""
    for n in range(obs.shape[0]):
        roll(m, n, seed, step)
        look(m.seen, obs, n, WALL_TAG)
        if resets[n]:
            forget(m, n, n)
        learn_world(m, s, n, n, resets[n], NOTHING)
        m.me[n, CELL] = map_cell(m, s, s.agents[n, 0, col.CELL])
        m.me[n, TIME] = s.world[n, col.STEP]
        actions[n] = work(m, n)


@compiled
def note_recipes(m, n):
    """Remember the inputs and outputs of the stations in view."""
    for i in range(CELLS):
        kind = m.seen.kind[i]
        if kind >= THING:
            takes, gives = 0, 0
            for r in range(col.NUM_RESOURCES):
                takes |= np.int64(m.seen.takes[i, r] > 0) << r
                gives |= np.int64(m.seen.gives[i, r] > 0) << r
            m.takes[n, kind], m.gives[n, kind] = takes, gives


@compiled
def want_usable_stations(m, n):
    """Want the stations whose inputs agent n has and whose output it lacks; returns whether it has room for hearts."""
    held = 0
    for r in range(col.NUM_RESOURCES):
        full = HEART_LIMIT if r == _HEART else 1
        held |= np.int64(m.seen.amounts[HERE, r] >= full) << r
    want_nothing(m)
    for k in range(THING, KINDS):
        takes, gives = m.takes[n, k], m.gives[n, k]
        if gives != 0 and takes & ~held == 0 and gives & held == 0:
            m.cost[k] = 0
    return (held >> _HEART) & 1 == 0


@compiled
def knows_the_chain(m, n):
    """Whether agent n knows a station for hearts and for every input of the stations that it knows."""
    made, taken = 0, 1 << _HEART
    for k in range(THING, KINDS):
        made |= m.gives[n, k]
        if m.gives[n, k] != 0:
            taken |= m.takes[n, k]
    return taken & ~made == 0


@compiled
def work(m, n):
    """Go to the station that can be used soonest, or to an unknown cell while a station of the chain is unknown."""
    if not want_usable_stations(m, n):
        return 0
    if not knows_the_chain(m, n):
        m.cost[UNKNOWN] = 0
    if search(m, n, n) == NOWHERE:
        return 0
    return next_move(m, n)


@compiled
def next_move(m, n):
    """The first move of the path, or noop if the next cell is the goal and still cools down."""
    move = m.path[n, 0]
    if ahead(m, n) == 1 and m.kind[n, m.me[n, GOAL]] >= THING and m.ready[n, m.me[n, GOAL]] > m.me[n, TIME] + 1:
        return 0
    return step_towards(m, n, move)


@compiled
def work_or_walk_around(m, n):
    """Use a station in view, else walk clockwise along the walls of the room, past every station."""
    if not want_usable_stations(m, n):
        return 0
    if draw(m, n, _STRAY) == 0:
        return random_move(m, n)
    price = search(m, n, n)
    if price != NOWHERE and price <= ahead(m, n) + _PATIENCE:
        return next_move(m, n)
    return walk(m, n, direction_around(m, n))


@compiled
def wall_at(m, move):
    """Distance of the nearest wall across the whole window in the direction of a move; RADIUS + 1: none in view."""
    for d in range(1, col.RADIUS + 1):
        complete = True
        for j in range(-col.RADIUS, col.RADIUS + 1):
            south, east = ((-d, j), (d, j), (j, -d), (j, d))[move - 1]
            i = HERE + south * col.WINDOW + east
            complete = complete and (m.seen.kind[i] == WALL)
        if complete:
            return d
    return col.RADIUS + 1


@compiled
def direction_around(m, n):
    """The move clockwise around the room: along a near wall, else towards a wall in view, else straight on."""
    north, south, west, east = wall_at(m, 1), wall_at(m, 2), wall_at(m, 3), wall_at(m, 4)
    if north <= _AT_THE_WALL and east > _AT_THE_WALL:
        return 4
    if east <= _AT_THE_WALL and south > _AT_THE_WALL:
        return 2
    if south <= _AT_THE_WALL and west > _AT_THE_WALL:
        return 3
    if west <= _AT_THE_WALL and north > _AT_THE_WALL:
        return 1
    nearest = min(min(north, south), min(west, east))
    if nearest <= col.RADIUS:
        return 1 if north == nearest else (2 if south == nearest else (3 if west == nearest else 4))
    last = m.seen.globals[LAST_ACTION]
    return last if 1 <= last <= col.NUM_MOVES else random_move(m, n)


@compiled
def walk(m, n, move):
    """The first move towards the cell in view that is farthest in the direction of `move`, less its path length."""
    want_nothing(m)
    search(m, n, n)  # with nothing wanted, it reaches every cell that can be reached
    side, here = side_of(m), m.me[n, CELL]
    best, goal = 0, NOWHERE
    for q in range(1, m.count[1]):
        c = m.queue[q]
        worth = 3 * progress(side, here, c, move) - m.steps[c]
        if m.kind[n, c] == FREE and worth > best:
            best, goal = worth, c
    if goal == NOWHERE:
        return random_move(m, n)
    keep_path(m, n, n, goal)
    return step_towards(m, n, m.path[n, 0])


@compiled
def progress(side, here, c, move):
    """Number of cells from `here` to cell c in the direction of a move."""
    for d in range(-col.RADIUS, col.RADIUS + 1):
        line = shifted(side, here, d, 0) if move <= 2 else shifted(side, here, 0, d)
        same = (line ^ c) & ~(side - 1) == 0 if move <= 2 else (line ^ c) & (side - 1) == 0
        if same:
            return d if move in (2, 4) else -d
    return 0
