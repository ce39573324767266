"""Making hearts at an assembler: what the agents in the ring of eight cells around it do.

All agents in the ring see the same eight cells, so each can compute the vibes of all. They do not know which vibes the
task needs, so the ring tries one dress (an assignment of vibes) after another by the common clock, until the assembler
shows a protocol.

    DRESS_ALONE    heart_a for one agent per heart (variant hard)
    DRESS_PAIRS    heart_a and heart_b for two agents per heart (medium and easy; for four hearts also right for all)
    DRESS_EIGHT    the eight vibes of variant all, for fewer than four hearts
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import CELL, beyond, columns_between, rows_between, side_of, step_towards
from memexp.envs.scripted.view import HERE, PCT

RING = 8
PRESENT, VIBE, HEARTS, POWER = range(4)
"""Columns of BeliefMap.ring: whether an agent is there, its vibe, hearts and energy."""
DRESS_ALONE, DRESS_PAIRS, DRESS_EIGHT = range(3)
DRESSES = 3
_EIGHT = tuple(tuple(sorted(rules.VIBES_OF_ALL * hearts)[-RING:]) for hearts in range(1, rules.MOST_HEARTS))
"""Vibes of variant all for one, two and three hearts: the largest eight of its list."""
_SOMETIMES, _RARELY = 4, 16
"""In one of this many rounds of dresses, three hearts at once (_SOMETIMES) or one (_RARELY) are enough."""
_LATE = 235
"""Completion (of 256) from which on one heart is always enough."""
LEAVE = -1
"""Returned by `ring_action` if there is nothing to do here."""


@compiled
def ring_offset(i):
    """Relative row and column of the i-th of the eight cells around, in row-major order."""
    i = i + 1 if i >= RING // 2 else i
    return i // 3 - 1, i % 3 - 1


@compiled
def in_ring(m, n, spot):
    """Whether agent n is in the ring around `spot`."""
    return beyond(side_of(m), m.me[n, CELL], spot) == 1


@compiled
def window_of(m, n, spot):
    """The window cell of map cell `spot`."""
    side, here = side_of(m), m.me[n, CELL]
    return HERE + rows_between(side, here, spot) * col.WINDOW + columns_between(side, here, spot)


@compiled
def read_ring(m, middle):
    """Read the agents around window cell `middle` and what they hold together; returns their number."""
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
    """Number of hearts that the ring's resources allow at once."""
    for hearts in range(rules.MOST_HEARTS, 0, -1):
        enough = True
        for i in range(4):
            enough = enough and m.pool[rules.CARBON + i] >= rules.need(hearts, i)
        if enough:
            return hearts
    return 0


@compiled
def heartless(m, wearing):
    """Number of agents in the ring without a heart; with `wearing` only those that show a vibe."""
    count = 0
    for i in range(RING):
        if m.ring[i, PRESENT] == 1 and m.ring[i, HEARTS] == 0 and (m.ring[i, VIBE] != 0 or not wearing):
            count += 1
    return count


@compiled
def rank_in_ring(m, slot):
    """The rank of an agent in the ring: those without a heart first, then in row-major order."""
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
    """The vibe for the agent in a slot of a ring of `count` agents, to make at least `least` hearts."""
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
    """Least number of hearts to make at once in a round of dresses: fewer need more resources for each."""
    if cycle % _RARELY == 0 or completion >= _LATE:
        return 1
    return rules.MOST_HEARTS - 1 if cycle % _SOMETIMES == 0 else rules.MOST_HEARTS


@compiled
def bumper(m):
    """The slot of the agent that should use the assembler: next to it, with energy, better without a heart; or -1."""
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
    """The slot of agent n in the ring around `spot`."""
    side, here = side_of(m), m.me[n, CELL]
    i = 3 * (rows_between(side, spot, here) + 1) + columns_between(side, spot, here) + 1
    return i - 1 if i > RING // 2 else i


@compiled
def ring_action(m, n, spot, count, turn):
    """The action of agent n in the ring of `count` agents that was read: change vibe, use, wait; or LEAVE.

    `turn` is a number from the common clock that selects the dress.
    """
    slot = slot_of(m, n, spot)
    shown = m.seen.gives[window_of(m, n, spot), rules.HEART]
    worth_using = 0 < shown <= affordable(m) and heartless(m, True) >= shown
    if worth_using and bumper(m) == slot:
        return step_towards(m, n, (0, 2, 0, 4, 3, 0, 1)[slot])  # the move into the assembler
    if m.ring[slot, HEARTS] > 0:
        return 0 if worth_using else LEAVE
    wanted = dress(m, slot, count, turn % DRESSES, least_hearts(turn // DRESSES, m.seen.globals[PCT]))
    if wanted != m.ring[slot, VIBE] and not worth_using:
        return col.FIRST_VIBE_ACTION + wanted
    return 0
