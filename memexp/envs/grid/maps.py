"""The map at the start: outer walls, then a furnished room or randomly scattered objects."""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.rng import draw
from memexp.envs.grid.rooms import cell_of, furnish_room


@compiled
def furnish(s, w, scratch):
    """Build a map with the size, layout and number of objects of each type that world w specifies."""
    height, width = s.world[w, col.HEIGHT] - 2 * col.BORDER, s.world[w, col.WIDTH] - 2 * col.BORDER
    for row in range(-col.BORDER, height + col.BORDER):
        for column in range(-col.BORDER, width + col.BORDER):
            inside = 0 <= row < height and 0 <= column < width
            s.grid[w, cell_of(s, row, column)] = col.EMPTY if inside else col.WALL
    number_objects(s, w)
    if s.world[w, col.LAYOUT] == col.SCATTERED:
        scatter(s, w, height, width)
    else:
        furnish_room(s, w, height, width, scratch)


@compiled
def number_objects(s, w):
    """Number the objects type by type, and give each chest an inventory slot after those of the agents."""
    obj, slot, kind, left = 0, s.agents.shape[1], 0, s.types[w, 0, col.COUNT]
    while obj < s.world[w, col.NUM_OBJECTS]:
        while left == 0:
            kind += 1
            left = s.types[w, kind, col.COUNT]
        is_chest = s.types[w, kind, col.KIND] == col.CHEST
        s.objects[w, obj, col.TYPE] = kind
        s.objects[w, obj, col.SLOT] = slot if is_chest else -1
        slot += 1 if is_chest else 0
        obj += 1
        left -= 1


@compiled
def scatter(s, w, height, width):
    """Put all objects and agents on distinct, uniformly random cells. Agents are numbered row by row."""
    num_agents = s.agents.shape[1]
    for agent in range(num_agents):
        cell = free_cell(s, w, height, width)
        s.grid[w, cell] = col.AGENTS
        i = agent
        while i > 0 and s.agents[w, i - 1, col.CELL] > cell:
            s.agents[w, i, col.CELL] = s.agents[w, i - 1, col.CELL]
            i -= 1
        s.agents[w, i, col.CELL] = cell
    for agent in range(num_agents):
        s.grid[w, s.agents[w, agent, col.CELL]] = col.AGENTS + agent
    for obj in range(s.world[w, col.NUM_OBJECTS]):
        cell = free_cell(s, w, height, width)
        s.grid[w, cell] = col.AGENTS + num_agents + obj
        s.objects[w, obj, col.OBJECT_CELL] = cell


@compiled
def free_cell(s, w, height, width):
    """A uniformly random empty cell. There must be one."""
    while True:
        cell = cell_of(s, draw(s, w, height), draw(s, w, width))
        if s.grid[w, cell] == col.EMPTY:
            return cell
