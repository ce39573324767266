"""The way to the nearest of what a player wants: breadth-first search over the free cells of its map."""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.players.mind import AT, CELL, GOAL, LENGTH, PATH, TIME, beside, draw, place_of, side_of, usable
from memexp.envs.players.view import CELLS, FREE, HERE, THING, UNKNOWN, distance

NOWHERE = -1
NEAR_AGENTS = 3
"""Agents farther away than this will have moved on before they are in the way."""
_FAR = 1 << 40


@compiled
def search(m, n, p, aim):
    """Find player n's way on map p to what m.cost asks for (cheapest first: steps, or waiting time, plus cost), or to
    the cell `aim`; leaves the first moves in its path. Returns the cost of the way, NOWHERE if there is none."""
    m.count[0] += 1
    number, side, now = m.count[0], side_of(m), m.me[n, TIME]
    start = m.me[n, CELL]
    stand_in_the_way(m, n, number)
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
            if kind == FREE:
                m.queue[tail] = there
                tail += 1
                if there == aim:
                    price = steps
            elif m.cost[kind] < 0:
                continue
            elif kind == UNKNOWN:
                price = steps + m.cost[kind]
            elif usable(m, p, there):
                price = max(steps, m.ready[p, there] - now) + m.cost[kind]
            m.reached[there] = number
            m.steps[there] = steps
            m.came[there] = move
            if price < best:
                best, goal = price, there
    m.count[1] = tail
    keep_path(m, n, goal)
    return best if goal != NOWHERE else NOWHERE


@compiled
def stand_in_the_way(m, n, number):
    """Close the cells where near agents stand to search `number`."""
    side = side_of(m)
    for i in range(CELLS):
        if m.seen.agent[i] == 1 and i != HERE and distance(i) <= NEAR_AGENTS:
            m.reached[place_of(side, m.me[n, CELL], i)] = number


@compiled
def keep_path(m, n, goal):
    """Trace the way of the latest search back from `goal` and keep its first moves as player n's path."""
    m.me[n, AT], m.me[n, LENGTH], m.me[n, GOAL] = 0, 0, goal
    if goal == NOWHERE:
        return
    side, c = side_of(m), goal
    m.me[n, LENGTH] = m.steps[goal]
    while c != m.me[n, CELL]:
        i = m.steps[c] - 1
        if i < PATH:
            m.path[n, i] = m.came[c]
        c = beside(side, c, opposite(m.came[c]))


@compiled
def opposite(move):
    """The move back."""
    return ((move - 1) ^ 1) + 1


@compiled
def ahead(m, n):
    """Moves of player n's path that are left, the unkept rest included."""
    return m.me[n, LENGTH] - m.me[n, AT]


@compiled
def want_nothing(m):
    """Clear what `search` looks for."""
    for k in range(m.cost.shape[0]):
        m.cost[k] = -1


@compiled
def is_thing(m, p, c):
    """Whether a station or chest stands in cell c."""
    return m.kind[p, c] >= THING


@compiled
def random_move(m, n):
    """A uniformly random move."""
    return 1 + draw(m, n, col.NUM_MOVES)
