"""Observations: at most 200 tokens (location, feature id, value), nearest cells first."""

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import inlined
from memexp.envs.grid.occupancy import LOW, PART, lowest
from memexp.envs.grid.stations import current_protocol, remaining


@inlined
def observe(s, w, agent):
    """Write an agent's observation and count its tokens."""
    count_tokens(s, w, look(s, w, agent))


@inlined
def look(s, w, agent):
    """Write an agent's observation and clear what the previous one has left after it; returns the number of tokens.

    Writes only the agent's own observation and its length, so the agents of a world may look in parallel.
    """
    n = see_globals(s, w, agent)
    cell, stride = s.agents[w, agent, col.CELL], s.window[4, 0]
    row, column = cell // stride - col.RADIUS, cell % stride - col.RADIUS
    words = places_of(s, w, row, column)
    for part in range(4):
        places = words[part]
        while places != 0:
            i = np.uint64(part * PART + lowest(s, places))
            places &= places - 1
            code = s.grid[w, np.uint64(cell + s.window[i, 0])]
            if code == col.WALL:
                n = put(s, w, agent, n, s.window[i, 1], col.F_TAG, s.world[w, col.WALL_TAG])
            else:
                n = see_object(s, w, agent, n, s.window[i, 1], code)

    written = min(n, col.NUM_TOKENS)
    for i in range(written, max(s.agents[w, agent, col.TOKENS], min(written + 1, col.NUM_TOKENS))):
        s.obs[w, agent, i, 0] = col.UNUSED
        s.obs[w, agent, i, 1] = col.UNUSED
        s.obs[w, agent, i, 2] = col.UNUSED
    s.agents[w, agent, col.TOKENS] = written
    return n


@inlined
def count_tokens(s, w, n):
    """Count an observation of n tokens, including those that did not fit."""
    written = min(n, col.NUM_TOKENS)
    s.game_stats[w, col.WRITTEN] += written
    s.game_stats[w, col.DROPPED] += n - written
    s.game_stats[w, col.FREE] += col.NUM_TOKENS - written


@inlined
def places_of(s, w, row, column):
    """The occupied cells of the window that begins at (row, column): a set of places in token order, in four words."""
    word, shift = column >> 5, column & 31
    a = b = c = d = np.int64(0)
    for r in range(col.WINDOW):
        bits = s.occupied[w, word, row + r] >> shift
        low, high = bits & ((1 << LOW) - 1), (1 << LOW) + (bits >> LOW & ((1 << col.WINDOW - LOW) - 1))
        a |= s.ranks[r, low, 0] | s.ranks[r, high, 0]
        b |= s.ranks[r, low, 1] | s.ranks[r, high, 1]
        c |= s.ranks[r, low, 2] | s.ranks[r, high, 2]
        d |= s.ranks[r, low, 3] | s.ranks[r, high, 3]
    return a, b, c, d


@inlined
def put(s, w, agent, n, location, feature, value):
    """Write token n if it fits; returns the number of the next token."""
    if n < col.NUM_TOKENS:
        i = np.uint64(n)  # an unsigned index needs no check for counting from the end: saves a tenth of the time
        s.obs[w, agent, i, 0] = location
        s.obs[w, agent, i, 1] = feature
        s.obs[w, agent, i, 2] = value & 255
    return n + 1


@inlined
def sign(x):
    return 1 if x > 0 else (-1 if x < 0 else 0)


@inlined
def see_globals(s, w, agent):
    """Write the tokens that belong to no cell: progress, last action, goals, compass; returns their number."""
    step, max_steps = s.world[w, col.STEP], s.world[w, col.MAX_STEPS]
    n = put(s, w, agent, 0, col.HERE, col.F_COMPLETION, 255 if step >= max_steps else 256 * step // max_steps)
    n = put(s, w, agent, n, col.HERE, col.F_LAST_ACTION, s.agents[w, agent, col.LAST_ACTION])
    n = put(s, w, agent, n, col.HERE, col.F_LAST_REWARD, 0)
    for i in range(s.world[w, col.GOALS], s.world[w, col.GOALS_END]):
        n = put(s, w, agent, n, col.HERE, col.F_GOAL, col.F_INVENTORY + 2 * s.rows[w, i, col.RESOURCE])
    if s.world[w, col.COMPASS] != 0:
        cell, stride = s.agents[w, agent, col.CELL], s.window[4, 0]
        south = s.world[w, col.HEIGHT] // 2 - cell // stride
        east = s.world[w, col.WIDTH] // 2 - cell % stride
        location = col.HERE + 16 * sign(south) + sign(east)
        if location != col.HERE:
            n = put(s, w, agent, n, location, col.F_COMPASS, 1)
    return n


@inlined
def see_object(s, w, agent, n, location, code):
    """Write the tokens of the agent, station or chest in a cell."""
    other = code - col.AGENTS
    obj = other - s.agents.shape[1]
    if obj < 0:
        return see_agent(s, w, agent, n, location, other)
    kind = s.objects[w, obj, col.TYPE]
    if s.types[w, kind, col.KIND] == col.CHEST:
        n = see_inventory(s, w, agent, n, location, s.objects[w, obj, col.SLOT])
    else:
        n = see_station(s, w, agent, n, location, obj, kind)
    return put(s, w, agent, n, location, col.F_TAG, s.types[w, kind, col.TAG])


@inlined
def see_agent(s, w, agent, n, location, other):
    n = put(s, w, agent, n, location, col.F_GROUP, 0)
    n = put(s, w, agent, n, location, col.F_FROZEN, 0)
    vibe = s.agents[w, other, col.VIBE]
    if vibe != 0:
        n = put(s, w, agent, n, location, col.F_VIBE, vibe)
    n = see_inventory(s, w, agent, n, location, other)
    return put(s, w, agent, n, location, col.F_TAG, s.world[w, col.AGENT_TAG])


@inlined
def see_inventory(s, w, agent, n, location, slot):
    """Write the tokens of the amounts held, the resource that became positive last first."""
    for i in range(s.inventory[w, slot, col.NUM_HELD] - 1, -1, -1):
        resource = s.inventory[w, slot, col.HOLDS + i]
        amount = s.inventory[w, slot, resource]
        n = put(s, w, agent, n, location, col.F_INVENTORY + 2 * resource, amount)
        if amount >= 256:
            n = put(s, w, agent, n, location, col.F_INVENTORY + 2 * resource + 1, amount >> 8)
    return n


@inlined
def see_station(s, w, agent, n, location, obj, kind):
    """Write the tokens of a station's cooldown, remaining uses and current protocol."""
    rest = remaining(s, w, obj)
    if rest > 0:
        n = put(s, w, agent, n, location, col.F_COOLDOWN, min(255, rest))
    most = s.types[w, kind, col.MAX_USES]
    if most > 0:
        n = put(s, w, agent, n, location, col.F_REMAINING_USES, min(255, most - s.objects[w, obj, col.USES]))
    p = current_protocol(s, w, obj)
    if p >= 0:
        for i in range(col.INPUTS, col.INPUTS + 2 * s.protocols[w, p, col.NUM_INPUTS], 2):
            n = put(s, w, agent, n, location, col.F_INPUT + s.protocols[w, p, i], s.protocols[w, p, i + 1])
        for i in range(col.OUTPUTS, col.OUTPUTS + 2 * s.protocols[w, p, col.NUM_OUTPUTS], 2):
            n = put(s, w, agent, n, location, col.F_OUTPUT + s.protocols[w, p, i], s.protocols[w, p, i + 1])
    return n
