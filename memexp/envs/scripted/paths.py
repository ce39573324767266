"""Paths to the nearest wanted cell: breadth-first search over the free cells of a map."""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.rng import draw
from memexp.envs.scripted.belief_map import (
    AT,
    CELL,
    EXPECTED,
    GOAL,
    GOAL_KIND,
    LENGTH,
    MODE,
    PATH,
    TIME,
    beside,
    place_of,
    side_of,
    step_towards,
    window_cell,
)
from memexp.envs.scripted.view import CELLS, FREE, HERE, UNKNOWN, distance

NOWHERE = -1
NEAR_AGENTS = 3
"""Distance up to which other agents block the way. Those farther away will have moved by then."""
_FAR = 1 << 40


@compiled
def search(m, n, p):
    """Find the path of agent n on map p to the cheapest cell that m.cost wants or that was aimed at, and keep it.

    The price of a cell is the number of steps, or the waiting time if that is longer, plus its cost. Returns the price,
    or NOWHERE if there is no such cell.
    """
    m.count[0] += 1
    number, side, now = m.count[0], side_of(m), m.me[n, TIME]
    start = m.me[n, CELL]
    block_near_agents(m, n, number)
    m.reached[start] = number
    m.steps[start] = 0
    m.queue[0] = start
    head, tail, turn = 0, 1, draw(m, n, 4)
    best, goal = _FAR, NOWHERE
    while head < tail and m.steps[m.queue[head]] + 1 < best:
        c = m.queue[head]
        head += 1
        for i in range(4):
            move = 1 + ((i + turn) & 3)
            there = beside(side, c, move)
            if m.reached[there] == number:
                continue
            kind, steps = m.kind[p, there], m.steps[c] + 1
            price = _FAR
            if m.aimed[there] == number:
                price = steps
            elif kind == FREE:
                m.queue[tail] = there
                tail += 1
            elif m.cost[kind] < 0:
                continue
            elif kind == UNKNOWN:
                price = steps + m.cost[kind]
            elif m.uses[p, there] > 0:
                price = max(steps, m.ready[p, there] - now) + m.cost[kind]
            m.reached[there] = number
            m.steps[there] = steps
            m.came[there] = move
            if price < best:
                best, goal = price, there
    m.count[1] = tail
    keep_path(m, n, p, goal)
    return best if goal != NOWHERE else NOWHERE


@compiled
def block_near_agents(m, n, number):
    """Block the cells of near agents for search `number`."""
    side = side_of(m)
    for i in range(CELLS):
        if m.seen.agent[i] == 1 and i != HERE and distance(i) <= NEAR_AGENTS:
            m.reached[place_of(side, m.me[n, CELL], i)] = number


@compiled
def keep_path(m, n, p, goal):
    """Trace the path of the latest search back from `goal` and keep its first moves as the path of agent n."""
    m.me[n, AT], m.me[n, LENGTH], m.me[n, GOAL], m.me[n, EXPECTED] = 0, 0, goal, NOWHERE
    if goal == NOWHERE:
        return
    m.me[n, GOAL_KIND] = m.kind[p, goal]
    side, c = side_of(m), goal
    m.me[n, LENGTH] = m.steps[goal]
    while c != m.me[n, CELL]:
        i = m.steps[c] - 1
        if i < PATH:
            m.path[n, i] = m.came[c]
        c = beside(side, c, ((m.came[c] - 1) ^ 1) + 1)  # one move back


@compiled
def aim_at(m, c):
    """Make cell c a goal of the next search, whatever its kind."""
    m.aimed[c] = m.count[0] + 1


@compiled
def ahead(m, n):
    """Moves left of the path of agent n, including those that were not kept."""
    return m.me[n, LENGTH] - m.me[n, AT]


@compiled
def kept_move(m, n, p, mode):
    """The next move of the kept path for `mode`, or 0 if a new search is needed: the path has another mode, is blocked
    or nearly at its end, or its goal has changed."""
    same = m.me[n, MODE] == mode and m.me[n, CELL] == m.me[n, EXPECTED]
    m.me[n, MODE] = mode
    if not same or ahead(m, n) <= 2 or m.me[n, AT] + 1 >= PATH or m.kind[p, m.me[n, GOAL]] != m.me[n, GOAL_KIND]:
        return 0
    move = m.path[n, m.me[n, AT] + 1]
    if not open_ahead(m, move):
        return 0
    m.me[n, AT] += 1
    return move


@compiled
def open_ahead(m, move):
    """Whether the next cell is free and has no agent."""
    c = window_cell(move)
    return m.seen.kind[c] == FREE and m.seen.agent[c] == 0


@compiled
def wander(m, n):
    """A random move, or noop if the way is not free."""
    move = random_move(m, n)
    return step_towards(m, n, move) if open_ahead(m, move) else 0


@compiled
def want_nothing(m):
    """`search` wants no kind of cell."""
    for k in range(m.cost.shape[0]):
        m.cost[k] = -1


@compiled
def random_move(m, n):
    return 1 + draw(m, n, col.NUM_MOVES)
