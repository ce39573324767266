"""A room with stations along its walls, obstacles inside and one agent in the middle.

Coordinates are those of the room, inside the border of walls. `scratch` [4, cells of the largest room + 8] holds the
generator's lists: positions, visited cells, cells to visit, and the cells walled last.
"""

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.rng import draw

NO_TERRAIN, SPARSE, BALANCED, DENSE = 0, 1, 2, 3
SQUARE, CROSS, ELL = 0, 1, 2
POSITIONS, VISITED, TO_VISIT, WALLED = 0, 1, 2, 3
STAMP = 7  # index in scratch[WALLED] of the number that marks cells visited in the current search


def room_for(height: int, width: int) -> np.ndarray:
    """Scratch for rooms of up to height x width cells."""
    return np.zeros((4, height * width + 8), np.int64)


@compiled
def furnish_room(s, w, height, width, scratch):
    """Put the stations, the obstacles of the terrain and the agent into an empty room."""
    place_stations(s, w, height, width, scratch)
    terrain = s.world[w, col.TERRAIN]
    if terrain != NO_TERRAIN:
        shape = draw(s, w, 3)
        placed = 0
        for attempt in range(3):
            if placed == 0:
                placed = place_obstacles(s, w, height, width, terrain, shape, scratch)
            terrain = BALANCED if attempt == 0 else SPARSE  # if nothing fits, try a less dense terrain
    cell = cell_of(s, height // 2, width // 2)
    s.grid[w, cell] = col.AGENTS
    s.agents[w, 0, col.CELL] = cell


@compiled
def cell_of(s, row, column):
    """The index into the grid of a cell of the room."""
    return (row + col.BORDER) * s.window[4, 0] + column + col.BORDER  # window[4, 0] is one row


@compiled
def pick(s, w, scratch, i, count):
    """The i-th element of a random order of scratch[POSITIONS, :count]: swaps a random later one to place i."""
    j = i + draw(s, w, count - i)
    picked = scratch[POSITIONS, j]
    scratch[POSITIONS, j] = scratch[POSITIONS, i]
    scratch[POSITIONS, i] = picked
    return picked


@compiled
def place_stations(s, w, height, width, scratch):
    """Put the stations on distinct random cells of the outermost ring, except its corners."""
    count = 0
    for row in range(height):
        for column in range(width):
            if (row in (0, height - 1)) != (column in (0, width - 1)):
                scratch[POSITIONS, count] = row * width + column
                count += 1
    for obj in range(s.world[w, col.NUM_OBJECTS]):
        position = pick(s, w, scratch, obj, count)
        cell = cell_of(s, position // width, position % width)
        s.grid[w, cell] = col.AGENTS + s.agents.shape[1] + obj
        s.objects[w, obj, col.OBJECT_CELL] = cell


@compiled
def forbidden(row, column, height, width):
    """Whether a cell must stay free: it is in one of the two outer rings, except their corners, or the centre."""
    ring = min(row, column, height - 1 - row, width - 1 - column)
    if ring <= 1:
        corner = row in (ring, height - 1 - ring) and column in (ring, width - 1 - ring)
        return not corner
    return row == height // 2 and column == width // 2


@compiled
def obstacles_wanted(area, terrain, shape):
    """(number, size) of the obstacles of a terrain and shape."""
    if terrain == SPARSE:
        return max(1, area // 30), 1 if shape == SQUARE else 2
    if terrain == BALANCED:
        return max(2, area // 12), 2
    if shape == SQUARE:
        return max(3, area // 8), 2
    if shape == CROSS:
        return max(2, area // 15), 2
    return max(2, area // 12), 2


@compiled
def place_obstacles(s, w, height, width, terrain, shape, scratch):
    """Put obstacles on random positions that keep the centre connected to the outermost ring; returns their number."""
    wanted, size = obstacles_wanted(height * width, terrain, shape)
    side = 2 * size - 1 if shape == CROSS else size
    count = 0
    for row in range(height - side + 1):
        for column in range(width - side + 1):
            if admissible(row, column, side, height, width):
                scratch[POSITIONS, count] = row * width + column
                count += 1
    placed = 0
    while placed < wanted and place_one(s, w, height, width, shape, side, count, scratch):
        placed += 1
    return placed


@compiled
def admissible(row, column, side, height, width):
    """Whether a box of this side, including its empty cells, covers no forbidden cell."""
    for i in range(side):
        for j in range(side):
            if forbidden(row + i, column + j, height, width):
                return False
    return True


@compiled
def place_one(s, w, height, width, shape, side, count, scratch):
    """Put one obstacle on the first random position that keeps the centre connected; returns whether there is one."""
    for i in range(count):
        position = pick(s, w, scratch, i, count)
        walled = 0
        for box_row in range(side):
            for box_column in range(side):
                if shape == CROSS and box_row != side // 2 and box_column != side // 2:
                    continue
                if shape == ELL and box_column != 0 and box_row != side - 1:
                    continue
                cell = cell_of(s, position // width + box_row, position % width + box_column)
                if s.grid[w, cell] == col.EMPTY:
                    s.grid[w, cell] = col.WALL
                    scratch[WALLED, walled] = cell
                    walled += 1
        if walled == 0 or connected(s, w, height, width, scratch):
            return True
        for k in range(walled):
            s.grid[w, scratch[WALLED, k]] = col.EMPTY
    return False


@compiled
def connected(s, w, height, width, scratch):
    """Whether a path without walls leads from the centre to the outermost ring (depth first, which finds it fast)."""
    stamp = scratch[WALLED, STAMP] + 1
    scratch[WALLED, STAMP] = stamp
    scratch[TO_VISIT, 0] = (height // 2) * width + width // 2
    waiting = 1
    while waiting > 0:
        waiting -= 1
        position = scratch[TO_VISIT, waiting]
        row, column = position // width, position % width
        if row in (0, height - 1) or column in (0, width - 1):
            return True
        for direction in range(4):
            step = (-width, -1, 1, width)[direction]
            next_row, next_column = (position + step) // width, (position + step) % width
            if scratch[VISITED, position + step] == stamp:
                continue
            scratch[VISITED, position + step] = stamp
            if s.grid[w, cell_of(s, next_row, next_column)] != col.WALL:
                scratch[TO_VISIT, waiting] = position + step
                waiting += 1
    return False
