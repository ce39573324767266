"""Milestones on the way to reward: the step at which an agent first reached each of them.

They show how far exploration gets. They do not change the game.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, inlined
from memexp.envs.grid.stations import neighbour


@inlined
def note_milestones(s, w, agent):
    """Record the milestones that an agent has reached in this step for the first time."""
    begin = s.world[w, col.MILESTONES]
    for i in range(s.world[w, col.MILESTONES_END] - begin):
        if s.milestones[w, agent, i] == col.NOT_YET and reached(s, w, agent, begin + i):
            s.milestones[w, agent, i] = s.world[w, col.STEP]


@compiled
def reached(s, w, agent, row):
    """Whether an agent meets the milestone in this row now."""
    kind, a, b = s.rows[w, row, col.KEY], s.rows[w, row, col.RESOURCE], s.rows[w, row, col.AMOUNT]
    if kind == col.LEFT_START:
        return s.agents[w, agent, col.CELL] != s.agents[w, agent, col.START]
    if kind == col.REACHES:
        return s.agent_stats[w, agent, a] >= b
    if kind == col.NEAR:
        return s.agents[w, agent, col.VIBE] == a and stands_at(s, w, s.agents[w, agent, col.CELL], b)
    if kind == col.HAS_SOME:
        for resource in range(col.NUM_RESOURCES):
            if (a >> resource) & 1 and s.inventory[w, agent, resource] == 0:
                return False
        return True
    p = s.types[w, a, col.FIRST]  # AFFORDS
    for i in range(col.INPUTS, col.INPUTS + 2 * s.protocols[w, p, col.NUM_INPUTS], 2):
        if s.inventory[w, agent, s.protocols[w, p, i]] < s.protocols[w, p, i + 1]:
            return False
    return True


@compiled
def stands_at(s, w, cell, kind):
    """Whether one of the eight cells around a cell holds an object of this type."""
    first = col.AGENTS + s.agents.shape[1]
    for i in range(8):
        code = s.grid[w, cell + neighbour(s, i)]
        if code >= first and s.objects[w, code - first, col.TYPE] == kind:
            return True
    return False
