"""Turns the tokens of one observation into the contents of each cell of the window."""

from typing import NamedTuple

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled

CELLS = col.WINDOW * col.WINDOW
HERE = CELLS // 2
"""The middle cell of the window, where the agent is."""
UNKNOWN, FREE, WALL, THING = range(4)
"""Kinds of cells. THING + tag: a station or chest with that tag. A cell with an agent is FREE."""
NOTHING = -1
"""No kind."""
KINDS = 64
"""Number of kinds, more than THING + any tag."""
ANY_USES = 255
"""`uses` of an object without a limit."""
PCT, LAST_ACTION, SOUTH, EAST, GLOBALS = range(5)
"""Columns of View.globals: completion, last successful action, compass (SOUTH and EAST are 0 in the middle)."""


class View(NamedTuple):
    """One observation by cell (index 11 * row + column); R = 10 resources. All arrays are int64."""

    globals: np.ndarray  # [GLOBALS]
    kind: np.ndarray  # [121]: UNKNOWN if the observation was cut off before the cell
    agent: np.ndarray  # [121]: 1 if an agent stands there, the observing one included
    vibe: np.ndarray  # [121]: of the agent there
    uses: np.ndarray  # [121]: uses left
    cooldown: np.ndarray  # [121]: steps
    amounts: np.ndarray  # [121, R]: held by the agent or chest there
    takes: np.ndarray  # [121, R]: inputs of the station's current protocol
    gives: np.ndarray  # [121, R]: its outputs


def empty_view() -> View:
    """An empty view for `look` to fill."""

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int64)

    flat = (zeros(CELLS) for _ in range(5))
    return View(zeros(GLOBALS), *flat, *(zeros(CELLS, col.NUM_RESOURCES) for _ in range(3)))


@compiled
def look(v, obs, row, wall_tag):
    """Read observation `row` of obs [N, 200, 3]. With wall_tag -1, an object without a protocol is a wall."""
    for c in range(CELLS):
        v.kind[c] = FREE
        v.agent[c] = 0
    for i in range(GLOBALS):
        v.globals[i] = 0
    cell = -1
    n = 0
    while n < col.NUM_TOKENS and obs[row, n, 0] != col.UNUSED:
        location, feature, value = np.int64(obs[row, n, 0]), np.int64(obs[row, n, 1]), np.int64(obs[row, n, 2])
        n += 1
        if feature == col.F_COMPLETION:
            v.globals[PCT] = value
        elif feature == col.F_LAST_ACTION:
            v.globals[LAST_ACTION] = value
        elif feature == col.F_COMPASS:
            v.globals[SOUTH] = (location >> 4) - col.RADIUS
            v.globals[EAST] = (location & 15) - col.RADIUS
        elif feature != col.F_LAST_REWARD and feature != col.F_GOAL:
            c = (location >> 4) * col.WINDOW + (location & 15)
            if c != cell:
                forget_cell(v, c)
                cell = c
            read_token(v, c, feature, value, wall_tag)
    if n == col.NUM_TOKENS:
        cut_off(v, cell)


@compiled
def forget_cell(v, c):
    """Clear a cell. It stays UNKNOWN until its tag is read, which is its last token."""
    v.kind[c] = UNKNOWN
    v.vibe[c] = 0
    v.uses[c] = ANY_USES
    v.cooldown[c] = 0
    for r in range(col.NUM_RESOURCES):
        v.amounts[c, r] = 0
        v.takes[c, r] = 0
        v.gives[c, r] = 0


@compiled
def read_token(v, c, feature, value, wall_tag):
    """Read one token of cell c."""
    if feature == col.F_GROUP:
        v.agent[c] = 1
    elif feature == col.F_VIBE:
        v.vibe[c] = value
    elif feature == col.F_COOLDOWN:
        v.cooldown[c] = value
    elif feature == col.F_REMAINING_USES:
        v.uses[c] = value
    elif feature >= col.F_OUTPUT:
        v.gives[c, feature - col.F_OUTPUT] = value
    elif feature >= col.F_INPUT:
        v.takes[c, feature - col.F_INPUT] = value
    elif feature >= col.F_INVENTORY:
        r = (feature - col.F_INVENTORY) // 2
        v.amounts[c, r] += value << (8 * ((feature - col.F_INVENTORY) % 2))
    elif feature == col.F_TAG:
        if v.agent[c] == 1:
            v.kind[c] = FREE
        elif value == wall_tag or (wall_tag < 0 and not has_protocol(v, c)):
            v.kind[c] = WALL
        else:
            v.kind[c] = THING + value


@compiled
def has_protocol(v, c):
    """Whether the object in cell c has inputs or outputs."""
    amount = 0
    for r in range(col.NUM_RESOURCES):
        amount += v.takes[c, r] + v.gives[c, r]
    return amount > 0


@compiled
def distance(c):
    """Manhattan distance of a window cell from the agent."""
    return abs(c // col.WINDOW - col.RADIUS) + abs(c % col.WINDOW - col.RADIUS)


@compiled
def cut_off(v, last):
    """The tokens were cut off at cell `last`. Cells at its distance or farther without tokens may not be free."""
    for c in range(CELLS):
        if v.kind[c] == FREE and v.agent[c] == 0 and distance(c) >= distance(last):
            v.kind[c] = UNKNOWN
