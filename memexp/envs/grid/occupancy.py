"""Occupied cells as bits, which makes it fast to find the few objects around an agent.

`occupied[w, k, row]` holds the columns 32k .. 32k + 41 in its lowest bits. So the columns of a window lie in one word
for any position of the agent. A word uses only 42 bits, so it is never negative.
"""

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, inlined

REACH = 31 + col.WINDOW
"""Columns in a word."""
LOW = 6
"""Bits of a window row that index the first part of a row of `ranks`; the other bits index the second part."""
PART = 31
"""Cells in one word of a set of cells in token order; four words hold the 121 cells of the window."""
_DE_BRUIJN = 0x077CB531


def num_words(width: int) -> int:
    """Number of words for a row of this width."""
    return (width + 31) // 32


def rank_table(window: np.ndarray) -> np.ndarray:
    """For each row of the window and each set of its columns: the set of the cells' places in token order.

    int32 [11, 2^6 + 2^5, 4]; a set of places is four words of PART bits. `window`: see State.
    """
    table = np.zeros((col.WINDOW, (1 << LOW) + (1 << (col.WINDOW - LOW)), 4), np.int32)
    for place, location in enumerate(window[:, 1].tolist()):
        row, column = divmod(location, 16)
        first, bit, count = (0, column, 1 << LOW) if column < LOW else (1 << LOW, column - LOW, 1 << (col.WINDOW - LOW))
        for bits in range(count):
            if bits >> bit & 1:
                table[row, first + bits, place // PART] |= 1 << place % PART
    return table


def bit_numbers() -> np.ndarray:
    """Position of a bit, indexed by its product with a de Bruijn sequence (Leiserson et al. 1998): int64 [32]."""
    numbers = np.zeros(32, np.int64)
    for number in range(32):
        numbers[(_DE_BRUIJN << number) >> 27 & 31] = number
    return numbers


@inlined
def lowest(s, bits):
    """Position of the lowest bit of a positive word of at most 31 bits."""
    return s.bit_numbers[((bits & -bits) * _DE_BRUIJN) >> 27 & 31]


@compiled
def fill(s, w, cell):
    """Mark a cell as occupied."""
    row, column = cell // s.window[4, 0], cell % s.window[4, 0]
    word = column >> 5
    s.occupied[w, word, row] |= 1 << (column & 31)
    if word > 0 and (column & 31) + 32 < REACH:
        s.occupied[w, word - 1, row] |= 1 << ((column & 31) + 32)


@compiled
def clear(s, w, cell):
    """Mark a cell as empty."""
    row, column = cell // s.window[4, 0], cell % s.window[4, 0]
    word = column >> 5
    s.occupied[w, word, row] &= ~(1 << (column & 31))
    if word > 0 and (column & 31) + 32 < REACH:
        s.occupied[w, word - 1, row] &= ~(1 << ((column & 31) + 32))


@compiled
def survey(s, w):
    """Set all bits of a world from its grid, and store the row and column of each object."""
    stride = s.window[4, 0]
    for row in range(s.world[w, col.HEIGHT]):
        for word in range(s.occupied.shape[1]):
            bits = 0
            for column in range(32 * word, min(32 * word + REACH, s.world[w, col.WIDTH])):
                if s.grid[w, row * stride + column] != col.EMPTY:
                    bits |= 1 << (column - 32 * word)
            s.occupied[w, word, row] = bits
    for obj in range(s.world[w, col.NUM_OBJECTS]):
        cell = s.objects[w, obj, col.OBJECT_CELL]
        s.objects[w, obj, col.ROW], s.objects[w, obj, col.COLUMN] = cell // stride, cell % stride


@inlined
def surrounded(s, w, obj):
    """Whether any of the eight cells around an object is occupied."""
    row, column = s.objects[w, obj, col.ROW], s.objects[w, obj, col.COLUMN] - 1
    word, shift = column >> 5, column & 31
    beside = (s.occupied[w, word, row - 1] | s.occupied[w, word, row + 1]) >> shift & 7
    return beside | (s.occupied[w, word, row] >> shift & 5) != 0
