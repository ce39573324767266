"""What players keep: a map each, in coordinates of their own, and where they are on it (dead reckoning).

A map is a torus of `side` x `side` cells: larger than any world, so that no two places of a world fall together. A
cell's index is side * row + column.
"""

from typing import NamedTuple

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted.view import ANY_USES, CELLS, HERE, KINDS, LAST_ACTION, THING, UNKNOWN, View, empty_view

# me[n, ...]: what player n knows of itself.
# TIME: steps since the episode began. CELL: where it stands. USING: its last move was into a station or chest, which
# leaves it where it is. AT, LENGTH: the next move of its path, and how many it has. GOAL, GOAL_KIND: the cell where the
# path ends, and what was there. EXPECTED: the cell where the last step of the path leads. MODE: what the path is for.
TIME, CELL, USING, AT, LENGTH, GOAL, GOAL_KIND, EXPECTED, MODE, GAME = range(10)
"""From GAME on: columns of the game's own."""
GAME_COLUMNS = 12
MARKS = 64
"""Most cells that are listed on a map."""
PATH = 8
"""Moves of a path that are kept; by then the map has changed anyway."""


class Mind(NamedTuple):
    """Everything that N players know, on P maps (one each, or one a world), and room to think in."""

    kind: np.ndarray
    """uint8 [P, side * side]: UNKNOWN, FREE, WALL or THING + tag."""
    uses: np.ndarray
    """uint8 [P, side * side]: uses left of the thing there."""
    ready: np.ndarray
    """int32 [P, side * side]: the step at which the thing there can be used in full again."""
    marks: np.ndarray
    """int64 [P, 1 + MARKS]: how many cells of things that are searched for often are listed, and the cells."""
    takes: np.ndarray
    """int64 [P, KINDS]: set of the resources that a kind of thing takes."""
    gives: np.ndarray
    """int64 [P, KINDS]: set of the resources that it gives."""
    me: np.ndarray
    """int64 [N, GAME + GAME_COLUMNS]."""
    path: np.ndarray
    """int64 [N, PATH]: moves to come."""
    rng: np.ndarray
    """uint64 [N]: random numbers of each player."""
    seen: View
    """The observation of the player whose turn it is."""
    cost: np.ndarray
    """int64 [KINDS]: what `search` looks for: the price of reaching each kind, -1: not wanted."""
    queue: np.ndarray
    """int64 [side * side]: cells that `search` has reached, in order."""
    reached: np.ndarray
    """int64 [side * side]: number of the latest search that reached a cell."""
    steps: np.ndarray
    """int64 [side * side]: how far the cell is."""
    came: np.ndarray
    """int64 [side * side]: the move that led there."""
    aimed: np.ndarray
    """int64 [side * side]: number of the latest search that was to end in a cell."""
    count: np.ndarray
    """int64 [2]: searches made, cells in `queue`."""
    ring: np.ndarray
    """int64 [8, 4]: who stands in the eight cells around an assembler, see cvc_ring."""
    pool: np.ndarray
    """int64 [R]: what they hold together."""


def empty_mind(players: int, maps: int, side: int) -> Mind:
    """Players that know nothing. `side` must be a power of two."""
    cells = side * side

    def ints(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int64)

    return Mind(
        kind=np.zeros((maps, cells), np.uint8),
        uses=np.zeros((maps, cells), np.uint8),
        ready=np.zeros((maps, cells), np.int32),
        marks=ints(maps, 1 + MARKS),
        takes=ints(maps, KINDS),
        gives=ints(maps, KINDS),
        me=ints(players, GAME + GAME_COLUMNS),
        path=ints(players, PATH),
        rng=np.ones(players, np.uint64),
        seen=empty_view(),
        cost=ints(KINDS),
        queue=ints(cells),
        reached=ints(cells),
        steps=ints(cells),
        came=ints(cells),
        aimed=ints(cells),
        count=ints(2),
        ring=ints(8, 4),
        pool=ints(col.NUM_RESOURCES),
    )


@compiled
def roll(m, n, seed, step):
    """Give player n the random numbers of this step: a function of (seed, n, step) alone."""
    x = np.uint64(seed) + np.uint64(n) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step) * np.uint64(0xBF58476D1CE4E5B9)
    for _ in range(2):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    m.rng[n] = x | np.uint64(1)


@compiled
def forget(m, n, p):
    """A new episode: player n stands at the origin of the empty map p."""
    for i in range(m.me.shape[1]):
        m.me[n, i] = 0
    m.marks[p, 0] = 0
    for c in range(m.kind.shape[1]):
        m.kind[p, c] = UNKNOWN
    for k in range(KINDS):
        m.takes[p, k] = 0
        m.gives[p, k] = 0


@compiled
def side_of(m):
    """Cells along a map's side."""
    return np.int64(np.sqrt(m.kind.shape[1]))


@compiled
def beside(side, c, move):
    """The cell that a move (1 north, 2 south, 3 west, 4 east) leads to from cell c."""
    if move == 1:
        return (c - side) & (side * side - 1)
    if move == 2:
        return (c + side) & (side * side - 1)
    return (c & ~(side - 1)) | ((c + (2 * move - 7)) & (side - 1))


@compiled
def shifted(side, c, south, east):
    """The cell that lies so many rows to the south and columns to the east of cell c."""
    return (((c & ~(side - 1)) + south * side) & (side * side - 1)) | ((c + east) & (side - 1))


@compiled
def rows_between(side, a, b):
    """How many rows cell b lies to the south of cell a, the short way round."""
    rows = (b // side - a // side) & (side - 1)
    return rows - side if rows >= side // 2 else rows


@compiled
def columns_between(side, a, b):
    """How many columns cell b lies to the east of cell a, the short way round."""
    columns = (b - a) & (side - 1)
    return columns - side if columns >= side // 2 else columns


@compiled
def apart(side, a, b):
    """Manhattan distance of two cells, the short way round."""
    return abs(rows_between(side, a, b)) + abs(columns_between(side, a, b))


@compiled
def beyond(side, a, b):
    """How many rows or columns two cells lie apart, whichever are more: 1 for the eight cells around."""
    return max(abs(rows_between(side, a, b)), abs(columns_between(side, a, b)))


@compiled
def place_of(side, c, i):
    """The map's cell that the window shows as its cell i to a player on cell c."""
    return shifted(side, c, i // col.WINDOW - col.RADIUS, i % col.WINDOW - col.RADIUS)


@compiled
def follow_last_move(m, n):
    """Dead reckoning: a move that worked has led player n to the next cell, unless it was the use of something."""
    last = m.seen.globals[LAST_ACTION]
    if 1 <= last <= col.NUM_MOVES and m.me[n, USING] == 0:
        m.me[n, CELL] = beside(side_of(m), m.me[n, CELL], last)


@compiled
def mark(m, p, c):
    """List cell c of map p."""
    if m.marks[p, 0] < MARKS:
        m.marks[p, 0] += 1
        m.marks[p, m.marks[p, 0]] = c


@compiled
def note_view(m, n, p, marked):
    """Draw what player n sees into map p, and list the things of kind `marked`."""
    v, side = m.seen, side_of(m)
    for i in range(CELLS):
        if v.kind[i] == UNKNOWN:
            continue
        c = place_of(side, m.me[n, CELL], i)
        if v.kind[i] == marked and m.kind[p, c] != marked:
            mark(m, p, c)
        m.kind[p, c] = v.kind[i]
        if v.kind[i] >= THING:
            m.uses[p, c] = v.uses[i]
            m.ready[p, c] = m.me[n, TIME] + v.cooldown[i]


@compiled
def note_recipe(m, p, kind, i):
    """Remember what the station in cell i of the window takes and gives."""
    takes, gives = 0, 0
    for r in range(col.NUM_RESOURCES):
        takes |= np.int64(m.seen.takes[i, r] > 0) << r
        gives |= np.int64(m.seen.gives[i, r] > 0) << r
    m.takes[p, kind] = takes
    m.gives[p, kind] = gives


@compiled
def window_cell(move):
    """The window's cell that a move leads to."""
    return HERE + (0, -col.WINDOW, col.WINDOW, -1, 1)[move]


@compiled
def step_towards(m, n, move):
    """The move as player n's action, with what dead reckoning must know about it."""
    m.me[n, USING] = np.int64(m.seen.kind[window_cell(move)] >= THING)
    return move


@compiled
def usable(m, p, c):
    """Whether the thing in cell c has uses left."""
    return m.uses[p, c] == ANY_USES or m.uses[p, c] > 0
