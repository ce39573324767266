"""`BeliefMap`: what each agent knows, on a map with its own coordinates, and its position (dead reckoning).

A map is a torus of `side` x `side` cells. It is larger than any environment, so two places never share a cell. The
index of a cell is side * row + column.
"""

from typing import NamedTuple

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted.view import CELLS, HERE, KINDS, LAST_ACTION, THING, UNKNOWN, View, empty_view, look

# me[n, ...]: what agent n knows about itself. TIME: step of the episode. CELL: its position. USING: the last move was
# into an object, so the agent did not move. AT, LENGTH: index of the next move of its path, number of moves. GOAL,
# GOAL_KIND: the cell where the path ends, and its kind. EXPECTED: the cell after the last step. MODE: its purpose.
TIME, CELL, USING, AT, LENGTH, GOAL, GOAL_KIND, EXPECTED, MODE, GAME = range(10)
"""From GAME on: columns of the specific game."""
GAME_COLUMNS = 12
MARKS = 64
"""Most marked cells on a map."""
PATH = 8
"""Number of moves of a path that are kept. Later moves would be outdated."""


class BeliefMap(NamedTuple):
    """Everything that N agents know, on P maps (one for each agent or environment), and working memory."""

    kind: np.ndarray  # uint8 [P, side * side]: UNKNOWN, FREE, WALL or THING + tag
    uses: np.ndarray  # uint8 [P, side * side]: uses left of the object there
    ready: np.ndarray  # int32 [P, side * side]: step at which the object there has no cooldown left
    marks: np.ndarray  # int64 [P, 1 + MARKS]: number of marked cells, then the cells
    takes: np.ndarray  # int64 [P, KINDS]: bit set of the input resources of a kind of object
    gives: np.ndarray  # int64 [P, KINDS]: bit set of its output resources
    me: np.ndarray  # int64 [N, GAME + GAME_COLUMNS]
    path: np.ndarray  # int64 [N, PATH]: the next moves
    rng: np.ndarray  # uint64 [N]: random state of each agent
    seen: View  # the observation of the current agent
    cost: np.ndarray  # int64 [KINDS]: extra cost of reaching each kind in `search`; -1: not wanted
    queue: np.ndarray  # int64 [side * side]: cells reached by `search`, in order
    reached: np.ndarray  # int64 [side * side]: number of the latest search that reached a cell
    steps: np.ndarray  # int64 [side * side]: distance of the cell
    came: np.ndarray  # int64 [side * side]: the move that led there
    aimed: np.ndarray  # int64 [side * side]: number of the latest search with this cell as a goal
    count: np.ndarray  # int64 [2]: number of searches, length of `queue`
    ring: np.ndarray  # int64 [8, 4]: the eight cells around an assembler, see cvc_ring
    pool: np.ndarray  # int64 [R]: what the agents there hold together


def empty_belief_map(agents: int, maps: int, side: int) -> BeliefMap:
    """Agents that know nothing. `side` must be a power of two."""
    cells = side * side

    def ints(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int64)

    return BeliefMap(
        kind=np.zeros((maps, cells), np.uint8),
        uses=np.zeros((maps, cells), np.uint8),
        ready=np.zeros((maps, cells), np.int32),
        marks=ints(maps, 1 + MARKS),
        takes=ints(maps, KINDS),
        gives=ints(maps, KINDS),
        me=ints(agents, GAME + GAME_COLUMNS),
        path=ints(agents, PATH),
        rng=np.ones(agents, np.uint64),
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
def update_belief(m, n, obs, reset, seed, step, wall_tag, marked):
    """Take in observation n: random numbers, view, position and map of agent n. `reset`: forget everything before."""
    roll(m, n, seed, step)
    look(m.seen, obs, n, wall_tag)
    if reset:
        forget(m, n, n)
    else:
        m.me[n, TIME] += 1
        follow_last_move(m, n)
    note_view(m, n, n, marked)


@compiled
def roll(m, n, seed, step):
    """Seed the random numbers of agent n for this step by (seed, n, step)."""
    x = np.uint64(seed) + np.uint64(n) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(step) * np.uint64(0xBF58476D1CE4E5B9)
    for _ in range(2):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    m.rng[n] = x | np.uint64(1)


@compiled
def forget(m, n, p):
    """A new episode: agent n is at the origin of the empty map p."""
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
    """Side of the maps, cells."""
    return np.int64(np.sqrt(m.kind.shape[1]))


@compiled
def beside(side, c, move):
    """The cell next to c in the direction of a move (1 north, 2 south, 3 west, 4 east)."""
    if move == 1:
        return (c - side) & (side * side - 1)
    if move == 2:
        return (c + side) & (side * side - 1)
    return (c & ~(side - 1)) | ((c + (2 * move - 7)) & (side - 1))


@compiled
def shifted(side, c, south, east):
    """The cell `south` rows to the south and `east` columns to the east of cell c."""
    return (((c & ~(side - 1)) + south * side) & (side * side - 1)) | ((c + east) & (side - 1))


@compiled
def rows_between(side, a, b):
    """Number of rows from cell a south to cell b, the short way round the torus."""
    rows = (b // side - a // side) & (side - 1)
    return rows - side if rows >= side // 2 else rows


@compiled
def columns_between(side, a, b):
    """Number of columns from cell a east to cell b, the short way round the torus."""
    columns = (b - a) & (side - 1)
    return columns - side if columns >= side // 2 else columns


@compiled
def apart(side, a, b):
    """Manhattan distance of two cells."""
    return abs(rows_between(side, a, b)) + abs(columns_between(side, a, b))


@compiled
def beyond(side, a, b):
    """Chebyshev distance of two cells: 1 for the eight cells around."""
    return max(abs(rows_between(side, a, b)), abs(columns_between(side, a, b)))


@compiled
def place_of(side, c, i):
    """The map cell of window cell i for an agent on cell c."""
    return shifted(side, c, i // col.WINDOW - col.RADIUS, i % col.WINDOW - col.RADIUS)


@compiled
def follow_last_move(m, n):
    """Dead reckoning: a successful move has led agent n to the next cell, unless it used an object."""
    last = m.seen.globals[LAST_ACTION]
    if 1 <= last <= col.NUM_MOVES and m.me[n, USING] == 0:
        m.me[n, CELL] = beside(side_of(m), m.me[n, CELL], last)


@compiled
def mark(m, p, c):
    """Add cell c to the marked cells of map p."""
    if m.marks[p, 0] < MARKS:
        m.marks[p, 0] += 1
        m.marks[p, m.marks[p, 0]] = c


@compiled
def note_view(m, n, p, marked):
    """Copy the view of agent n into map p, and mark the objects of kind `marked`."""
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
def window_cell(move):
    """The window cell next to the agent in the direction of a move."""
    return HERE + (0, -col.WINDOW, col.WINDOW, -1, 1)[move]


@compiled
def step_towards(m, n, move):
    """Returns the move as the action of agent n, and records for dead reckoning whether it uses an object."""
    m.me[n, USING] = np.int64(m.seen.kind[window_cell(move)] >= THING)
    return move
