"""Full sight: fills the maps from the whole state of the engine."""

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted.belief_map import mark, side_of
from memexp.envs.scripted.view import ANY_USES, FREE, THING, WALL


@compiled
def map_cell(m, s, cell):
    """The map cell for a cell of the grid. Maps of full sight have the coordinates of the grid."""
    stride = s.window[4, 0]
    return cell // stride * side_of(m) + cell % stride


@compiled
def learn_world(m, s, w, p, whole, marked):
    """Copy world w into map p: with `whole` everything, else only what changes within an episode. Marks the objects of
    kind `marked`."""
    if whole:
        learn_ground(m, s, w, p)
    for obj in range(s.world[w, col.NUM_OBJECTS]):
        c = map_cell(m, s, s.objects[w, obj, col.OBJECT_CELL])
        kind = s.objects[w, obj, col.TYPE]
        most = s.types[w, kind, col.MAX_USES]
        if whole and THING + s.types[w, kind, col.TAG] == marked:
            mark(m, p, c)
        m.kind[p, c] = THING + s.types[w, kind, col.TAG]
        m.uses[p, c] = max(0, most - s.objects[w, obj, col.USES]) if most > 0 else ANY_USES
        m.ready[p, c] = s.objects[w, obj, col.END]
        if whole and s.types[w, kind, col.KIND] == col.STATION:
            learn_recipe(m, s, w, p, kind)


@compiled
def learn_ground(m, s, w, p):
    """Copy the walls and free cells of world w."""
    for row in range(s.world[w, col.HEIGHT]):
        for column in range(s.world[w, col.WIDTH]):
            is_wall = s.grid[w, row * s.window[4, 0] + column] == col.WALL
            m.kind[p, row * side_of(m) + column] = WALL if is_wall else FREE


@compiled
def learn_recipe(m, s, w, p, kind):
    """Copy the inputs and outputs of stations of type `kind`, from their first protocol."""
    protocol = s.types[w, kind, col.FIRST]
    takes, gives = 0, 0
    for i in range(s.protocols[w, protocol, col.NUM_INPUTS]):
        takes |= np.int64(1) << s.protocols[w, protocol, col.INPUTS + 2 * i]
    for i in range(s.protocols[w, protocol, col.NUM_OUTPUTS]):
        gives |= np.int64(1) << s.protocols[w, protocol, col.OUTPUTS + 2 * i]
    m.takes[p, THING + s.types[w, kind, col.TAG]] = takes
    m.gives[p, THING + s.types[w, kind, col.TAG]] = gives
