"""Making hearts at an assembler: what the agents in the eight cells around it do, by conventions alone.

All of them see the same eight cells, so each can work out what everybody should wear. Which vibes the task asks for
is not announced: the ring tries one dress after the other by the common clock, until the assembler shows a protocol.

    DRESS_ALONE    heart_a for as many as hearts can be made (variant hard)
    DRESS_PAIRS    heart_a and heart_b for as many each (medium, easy; four each are also right for all)
    DRESS_EIGHT    the eight vibes of variant all for fewer than four hearts
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import CELL, beyond, columns_between, rows_between, side_of, step_towards
from memexp.envs.scripted.view import HERE, PCT

RING = 8
PRESENT, VIBE, HEARTS, POWER = range(4)
"""Columns of Mind.ring: whether an agent stands there, its vibe, hearts and energy."""
DRESS_ALONE, DRESS_PAIRS, DRESS_EIGHT = range(3)
DRESSES = 3
_EIGHT = tuple(tuple(sorted(rules.VIBES_OF_ALL * hearts)[-RING:]) for hearts in range(1, rules.MOST_HEARTS))
"""Vibes of variant all for one, two and three hearts: the largest eight of its list."""
_SOMETIMES, _RARELY = 4, 16
"""In one of so many rounds of dresses three hearts at once will do, and one."""
_LATE = 235
"""Completion (of 256) from which on that does not matter."""
LEAVE = -1
"""What `ring_action` says when there is nothing to do here."""


@compiled
def ring_offset(i):
    """Row and column of the i-th of the eight cells around, in row-major order, relative to the middle."""
    i = i + 1 if i >= RING // 2 else i
    return i // 3 - 1, i % 3 - 1


@compiled
def in_ring(m, n, spot):
    """Whether player n stands beside `spot`."""
    return beyond(side_of(m), m.me[n, CELL], spot) == 1


@compiled
def window_of(m, n, spot):
    """Where in player n's window the cell `spot` is."""
    side, here = side_of(m), m.me[n, CELL]
    return HERE + rows_between(side, here, spot) * col.WINDOW + columns_between(side, here, spot)


@compiled
def read_ring(m, middle):
    """Note who stands around the window's cell `middle`, and what they hold together; returns how many they are."""
    for r in range(col.NUM_RESOURCES):
        m.pool[r] = 0
    count = 0
    for i in range(RING):
        south, east = ring_offset(i)
        c = middle + south * col.WINDOW + east
        present = m.seen.agent[c]
        m.ring[i, PRESENT] = present
        if present == 1:
            count += 1
            m.ring[i, VIBE] = m.seen.vibe[c]
            m.ring[i, HEARTS] = m.seen.amounts[c, rules.HEART]
            m.ring[i, POWER] = m.seen.amounts[c, rules.ENERGY]
            for r in range(col.NUM_RESOURCES):
                m.pool[r] += m.seen.amounts[c, r]
    return count


@compiled
def affordable(m):
    """How many hearts the ring's resources suffice for at once."""
    for hearts in range(rules.MOST_HEARTS, 0, -1):
        enough = True
        for i in range(4):
            enough = enough and m.pool[rules.CARBON + i] >= rules.need(hearts, i)
        if enough:
            return hearts
    return 0


@compiled
def heartless(m, wearing):
    """How many in the ring hold no heart; with `wearing` only those with a vibe."""
    count = 0
    for i in range(RING):
        if m.ring[i, PRESENT] == 1 and m.ring[i, HEARTS] == 0 and (m.ring[i, VIBE] != 0 or not wearing):
            count += 1
    return count


@compiled
def rank_in_ring(m, slot):
    """The number of an agent of the ring: those without a heart first, then in row-major order."""
    rank = 0
    for i in range(RING):
        if m.ring[i, PRESENT] == 1 and i != slot:
            if m.ring[i, HEARTS] != m.ring[slot, HEARTS]:
                rank += m.ring[i, HEARTS] < m.ring[slot, HEARTS]
            else:
                rank += i < slot
    return rank


@compiled
def dress(m, slot, count, style, least):
    """The vibe that the agent in a slot of the ring of `count` agents should wear, to make `least` hearts or more."""
    hearts = min(affordable(m), heartless(m, False))
    if hearts < least or (style == DRESS_PAIRS and count // 2 < least):
        return 0
    rank = rank_in_ring(m, slot)
    if style == DRESS_EIGHT and count == RING and 0 < hearts < rules.MOST_HEARTS:
        return _EIGHT[hearts - 1][rank]
    if style == DRESS_ALONE:
        return rules.HEART_A if rank < hearts else 0
    hearts = min(hearts, count // 2)
    if rank >= 2 * hearts:
        return 0
    return rules.HEART_A if rank % 2 == 0 else rules.HEART_B


@compiled
def least_hearts(cycle, completion):
    """How many hearts at once are worth making in a round of dresses: fewer take more resources each."""
    if cycle % _RARELY == 0 or completion >= _LATE:
        return 1
    return rules.MOST_HEARTS - 1 if cycle % _SOMETIMES == 0 else rules.MOST_HEARTS


@compiled
def bumper(m):
    """The slot of the agent that is to use the assembler: beside it, able to, without a heart if possible; or -1."""
    for most_hearts in range(2):
        for slot in (1, 3, 4, 6):
            if (
                m.ring[slot, PRESENT] == 1
                and m.ring[slot, HEARTS] <= most_hearts
                and m.ring[slot, POWER] >= rules.MOVE_ENERGY
            ):
                return slot
    return -1


@compiled
def slot_of(m, n, spot):
    """The slot of the ring around `spot` that player n stands in."""
    side, here = side_of(m), m.me[n, CELL]
    i = 3 * (rows_between(side, spot, here) + 1) + columns_between(side, spot, here) + 1
    return i - 1 if i > RING // 2 else i


@compiled
def ring_action(m, n, spot, count, turn):
    """What player n does in the ring of `count` agents that was read: dress, use, wait; or LEAVE it.

    The dresses take turns; `turn` is their number by the common clock.
    """
    slot = slot_of(m, n, spot)
    shown = m.seen.gives[window_of(m, n, spot), rules.HEART]
    worth_using = 0 < shown <= affordable(m) and heartless(m, True) >= shown
    if worth_using and bumper(m) == slot:
        return step_towards(m, n, move_to(slot))
    if m.ring[slot, HEARTS] > 0:
        return 0 if worth_using else LEAVE
    wanted = dress(m, slot, count, turn % DRESSES, least_hearts(turn // DRESSES, m.seen.globals[PCT]))
    if wanted != m.ring[slot, VIBE] and not worth_using:
        return col.FIRST_VIBE_ACTION + wanted
    return 0


@compiled
def move_to(slot):
    """The move from a slot beside an assembler into it."""
    return 2 if slot == 1 else (4 if slot == 3 else (3 if slot == 4 else 1))
