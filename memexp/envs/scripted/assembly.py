"""Players of assembly_lines: go to the nearest station that can be used now, and look for those not yet known.

Any use of a station of the chain is progress: as many different resources are carried as the chain has.
"""

import numpy as np

from memexp.envs.assembly_lines import HEART_LIMIT
from memexp.envs.assembly_tasks import RESOURCES
from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.rng import draw
from memexp.envs.scripted.belief_map import (
    CELL,
    GOAL,
    TIME,
    follow_last_move,
    forget,
    note_recipe,
    note_view,
    roll,
    shifted,
    side_of,
    step_towards,
)
from memexp.envs.scripted.full import learn_world, place_in_world
from memexp.envs.scripted.jit import entry
from memexp.envs.scripted.paths import NOWHERE, ahead, keep_path, random_move, search, want_nothing
from memexp.envs.scripted.view import CELLS, FREE, HERE, KINDS, LAST_ACTION, NOTHING, THING, UNKNOWN, WALL, look

WALL_TAG = -1  # which tag walls have depends on the task
_HEART = RESOURCES.index("heart")
_PATIENCE = 10
"""How long a player without memory waits for a station, steps, before it walks on."""
_STRAY = 20
"""It makes a random move once in so many steps."""
_AT_THE_WALL = 2
"""It walks around the room at this distance from the walls, cells: there are no obstacles there."""


@entry()
def act_with_memory(m, obs, resets, seed, step, actions):
    """Actions [N] of players that see what an agent sees and remember it."""
    for n in range(obs.shape[0]):
        roll(m, n, seed, step)
        look(m.seen, obs, n, WALL_TAG)
        if resets[n]:
            forget(m, n, n)
        else:
            m.me[n, TIME] += 1
            follow_last_move(m, n)
        note_view(m, n, n, NOTHING)
        note_recipes(m, n)
        actions[n] = work(m, n)


@entry()
def act_without_memory(m, obs, resets, seed, step, actions):
    """Actions [N] of players that see what an agent sees and have forgotten everything before."""
    for n in range(obs.shape[0]):
        roll(m, n, seed, step)
        look(m.seen, obs, n, WALL_TAG)
        forget(m, n, n)
        note_view(m, n, n, NOTHING)
        note_recipes(m, n)
        actions[n] = work_or_walk_around(m, n)


@entry()
def act_with_full_sight(m, s, obs, resets, seed, step, actions):
    """Actions [N] of players that see everything."""
    for n in range(obs.shape[0]):
        roll(m, n, seed, step)
        look(m.seen, obs, n, WALL_TAG)
        if resets[n]:
            forget(m, n, n)
        learn_world(m, s, n, n, resets[n], NOTHING)
        m.me[n, CELL] = place_in_world(m, s, s.agents[n, 0, col.CELL])
        m.me[n, TIME] = s.world[n, col.STEP]
        actions[n] = work(m, n)


@compiled
def note_recipes(m, n):
    """Remember what the stations in sight turn into what."""
    for i in range(CELLS):
        if m.seen.kind[i] >= THING:
            note_recipe(m, n, m.seen.kind[i], i)


@compiled
def want_usable_stations(m, n):
    """Look for the stations whose inputs are held and whose output is not; returns whether hearts can still be made."""
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
    """Whether player n knows a station for hearts and for everything that its stations take."""
    made, taken = 0, 1 << _HEART
    for k in range(THING, KINDS):
        made |= m.gives[n, k]
        if m.gives[n, k] != 0:
            taken |= m.takes[n, k]
    return taken & ~made == 0


@compiled
def work(m, n):
    """Go to what can be used soonest, or to the nearest unknown cell as long as a station is missing."""
    if not want_usable_stations(m, n):
        return 0
    if not knows_the_chain(m, n):
        m.cost[UNKNOWN] = 0
    if search(m, n, n) == NOWHERE:
        return 0
    return next_move(m, n)


@compiled
def next_move(m, n):
    """The first move of player n's path, or waiting where the next cell is its goal and not ready yet."""
    move = m.path[n, 0]
    if ahead(m, n) == 1 and m.kind[n, m.me[n, GOAL]] >= THING and m.ready[n, m.me[n, GOAL]] > m.me[n, TIME] + 1:
        return 0
    return step_towards(m, n, move)


@compiled
def work_or_walk_around(m, n):
    """Use what is in sight, else walk around the room clockwise along its walls, past every station."""
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
    """Distance of the nearest line of wall across the whole window in a move's direction; beyond sight: RADIUS + 1."""
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
    """The move that leads clockwise around the room; towards the wall where one is in sight, else straight on."""
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
    """The first move towards the cell in sight that lies farthest in the direction of `move`, detours discounted."""
    want_nothing(m)
    search(m, n, n)  # reaches every cell that can be reached
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
    """How many cells farther than `here` cell c lies in the direction of a move."""
    for d in range(-col.RADIUS, col.RADIUS + 1):
        line = shifted(side, here, d, 0) if move <= 2 else shifted(side, here, 0, d)
        same = (line ^ c) & ~(side - 1) == 0 if move <= 2 else (line ^ c) & (side - 1) == 0
        if same:
            return d if move in (2, 4) else -d
    return 0
