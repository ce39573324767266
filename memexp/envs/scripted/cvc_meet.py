"""The meeting place: the assembler nearest to the middle of the map that has room for eight agents around it.

Agents do not communicate. The compass tells each of them where the middle is; ties are broken by row, then column. An
agent explores around the middle until it is certain which assembler that is. If its ring is full, the next one follows.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.rng import draw
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import (
    CELL,
    TIME,
    apart,
    beside,
    beyond,
    columns_between,
    rows_between,
    shifted,
    side_of,
    step_towards,
)
from memexp.envs.scripted.cvc_ring import RING, ring_offset, window_of
from memexp.envs.scripted.paths import NOWHERE, aim_at, open_ahead, random_move, search, want_nothing
from memexp.envs.scripted.view import EAST, FREE, SOUTH, UNKNOWN

LOOK_AGAIN = 10
"""Steps after which an agent searches its map again for the meeting place."""
_FIRST_RADIUS = 12
"""An agent that knows no assembler explores up to this distance from the middle, then twice as far, and so on."""
_FAR = 1 << 40


@compiled
def note_middle(m, n):
    """Remember the row or column of the middle: there the compass has no component along that axis."""
    side, here = side_of(m), m.me[n, CELL]
    if m.seen.globals[SOUTH] == 0:
        m.me[n, rules.HAS_ROW], m.me[n, rules.ROW] = 1, here // side
    if m.seen.globals[EAST] == 0:
        m.me[n, rules.HAS_COLUMN], m.me[n, rules.COLUMN] = 1, here % side


@compiled
def middle_of(m, n):
    """The cell in the middle of the map, as far as agent n knows it."""
    return m.me[n, rules.ROW] * side_of(m) + m.me[n, rules.COLUMN]


@compiled
def towards_middle(m, n):
    """A move in the direction of the compass, or around an obstacle."""
    south, east = m.seen.globals[SOUTH], m.seen.globals[EAST]
    vertical = 2 if south > 0 else 1
    horizontal = 4 if east > 0 else 3
    first = vertical if south != 0 and (east == 0 or draw(m, n, 2) == 0) else horizontal
    if south == 0 and east == 0:
        first = random_move(m, n)
    if not open_ahead(m, first):
        second = vertical if first == horizontal else horizontal
        helps = (south != 0) if first == horizontal else (east != 0)
        first = second if helps and open_ahead(m, second) else random_move(m, n)
    return step_towards(m, n, first) if open_ahead(m, first) else 0


@compiled
def places_around(m, p, spot):
    """How many of the eight cells around an assembler are free or unknown."""
    side, count = side_of(m), 0
    for i in range(RING):
        south, east = ring_offset(i)
        count += m.kind[p, shifted(side, spot, south, east)] <= FREE
    return count


@compiled
def order_key(m, n, p, spot):
    """Sort key of assemblers: room for eight agents, then distance from the middle, row, column."""
    side, middle = side_of(m), middle_of(m, n)
    rows, columns = rows_between(side, middle, spot), columns_between(side, middle, spot)
    crowded = 8 * side * side if places_around(m, p, spot) < RING else 0
    return crowded + 4 * side * (abs(rows) + abs(columns)) + 2 * (rows + side) + (columns > 0)


@compiled
def find_spot(m, n, p):
    """Choose the known assembler number RANK in the order of order_key (the last one if there are fewer)."""
    below, spot = -1, rules.NO_SPOT
    for _ in range(m.me[n, rules.RANK] + 1):
        best = _FAR
        for i in range(m.marks[p, 0]):
            key = order_key(m, n, p, m.marks[p, 1 + i])
            if below < key < best:
                best, spot = key, m.marks[p, 1 + i]
        below = best
    if spot != m.me[n, rules.SPOT]:
        m.me[n, rules.SPOT], m.me[n, rules.CERTAIN] = spot, 0
    m.me[n, rules.LOOKED] = m.me[n, TIME]


@compiled
def aim_at_gaps(m, n, p, radius):
    """Make the unknown cells within `radius` of the middle goals of the next search; returns their number."""
    side, middle, count = side_of(m), middle_of(m, n), 0
    for south in range(-radius, radius + 1):
        rest = radius - abs(south)
        for east in range(-rest, rest + 1):
            c = shifted(side, middle, south, east)
            if m.kind[p, c] == UNKNOWN:
                aim_at(m, c)
                count += 1
    return count


@compiled
def way_to_gap(m, n, p):
    """Find a path to an unknown cell where a better meeting place could be; returns whether there is one."""
    spot, side = m.me[n, rules.SPOT], side_of(m)
    want_nothing(m)
    if spot != rules.NO_SPOT and places_around(m, p, spot) == RING:
        aim_at_gaps(m, n, p, min(side // 2 - 1, apart(side, middle_of(m, n), spot) + 1))
        return search(m, n, p) != NOWHERE
    radius = _FIRST_RADIUS
    while radius < side // 2:
        if aim_at_gaps(m, n, p, radius) > 0 and search(m, n, p) != NOWHERE:
            return True
        radius *= 2
    m.cost[UNKNOWN] = 0
    return search(m, n, p) != NOWHERE


@compiled
def way_to_ring(m, n, p, spot):
    """Find a path to the nearest free cell around an assembler; returns whether there is one."""
    want_nothing(m)
    for i in range(RING):
        place = open_place(m, n, p, spot, i)
        if place != NOWHERE:
            aim_at(m, place)
    return search(m, n, p) != NOWHERE


@compiled
def is_full(m, n, p, spot):
    """Whether agent n sees that no cell around an assembler is free."""
    count = 0
    for i in range(RING):
        count += open_place(m, n, p, spot, i) != NOWHERE
    return count == 0 and beyond(side_of(m), m.me[n, CELL], spot) < col.RADIUS


@compiled
def open_place(m, n, p, spot, i):
    """The i-th of the eight cells around an assembler if it is free and no agent is seen there; else NOWHERE."""
    south, east = ring_offset(i)
    c = shifted(side_of(m), spot, south, east)
    return c if m.kind[p, c] == FREE and not occupied(m, n, c) else NOWHERE


@compiled
def occupied(m, n, c):
    """Whether agent n sees an agent on map cell c."""
    return beyond(side_of(m), m.me[n, CELL], c) <= col.RADIUS and m.seen.agent[window_of(m, n, c)] == 1


@compiled
def move_up(m, n, p, spot):
    """The move to a free ring cell that cannot be entered from outside, to make room for others; or 0."""
    side, here = side_of(m), m.me[n, CELL]
    if enclosed(m, p, spot, here):
        return 0
    for move in range(1, col.NUM_MOVES + 1):
        c = beside(side, here, move)
        if beyond(side, spot, c) == 1 and open_ahead(m, move) and enclosed(m, p, spot, c):
            return move
    return 0


@compiled
def enclosed(m, p, spot, c):
    """Whether cell c of the ring around `spot` cannot be entered from outside of the ring."""
    side = side_of(m)
    for move in range(1, col.NUM_MOVES + 1):
        there = beside(side, c, move)
        if beyond(side, spot, there) > 1 and m.kind[p, there] <= FREE:
            return False
    return True
