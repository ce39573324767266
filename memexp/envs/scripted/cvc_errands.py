"""Errands in cvc_random_maps: fetch resources and energy, carry a heart to a chest.

Each returns the action of agent n, or NO_WAY if it knows no goal. `explore` is the extra cost, in steps, of going to an
unknown cell instead of a known object; NEVER: do not explore.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import CELL, EXPECTED, GOAL, TIME, beside, side_of, step_towards, window_cell
from memexp.envs.scripted.paths import NOWHERE, ahead, kept_move, search, want_nothing
from memexp.envs.scripted.view import HERE, THING, UNKNOWN

NO_WAY = -1
NEVER = -1
_DETOUR = 6
"""Extra steps that a resource is worth for each heart by which the agent holds less of it."""
_LOW, _HALF = 30, 60
"""Below _LOW energy an agent prefers chargers; above _HALF it ignores them."""
_EMPTY, _CHARGED = 12, 70
"""Below _EMPTY energy an agent on its way to a meeting goes to a charger; it leaves with _CHARGED."""
_QUICK_CHARGE = 6
"""A charger with at most this cooldown is used: it already gives a part."""


@compiled
def way_to(m, n, p, mode, kind, explore):
    """The next move on the way to the nearest object of this kind, or NO_WAY."""
    move = kept_move(m, n, p, mode)
    if move == 0:
        want_nothing(m)
        m.cost[kind] = 0
        m.cost[UNKNOWN] = explore
        return NO_WAY if search(m, n, p) == NOWHERE else m.path[n, 0]
    return move


@compiled
def deliver(m, n, p, explore):
    """Carry a heart to a chest."""
    move = way_to(m, n, p, rules.DELIVER, rules.CHEST, explore)
    if move == NO_WAY:
        return NO_WAY
    if m.seen.kind[window_cell(move)] == rules.CHEST and m.seen.vibe[HERE] != rules.HEART_B:
        return col.FIRST_VIBE_ACTION + rules.HEART_B
    return advance(m, n, move)


@compiled
def gather(m, n, p, explore):
    """Go to the extractor or charger that is best by distance and need."""
    move = kept_move(m, n, p, rules.GATHER)
    if move == 0:
        if m.seen.vibe[HERE] != 0:
            return clear_vibe(m)
        want_supplies(m, explore)
        if search(m, n, p) == NOWHERE:
            return NO_WAY
        move = m.path[n, 0]
        if must_wait(m, n, p):
            return 0
    return advance(m, n, move)


@compiled
def want_supplies(m, explore):
    """Set the costs of chargers and extractors by how much the agent needs them."""
    want_nothing(m)
    energy = m.seen.amounts[HERE, rules.ENERGY]
    tired = 2 * max(0, _LOW - energy)
    if energy < _HALF:
        m.cost[rules.CHARGER] = max(0, energy - _LOW)
    least = least_worth(m)
    for i in range(4):
        if m.seen.amounts[HERE, rules.CARBON + i] < rules.MOST_CARGO[i]:
            m.cost[rules.EXTRACTORS[i]] = tired + _DETOUR * (hearts_worth(m, i) - least)
    if energy < rules.SILICON_ENERGY:
        m.cost[rules.EXTRACTORS[3]] = -1
    m.cost[UNKNOWN] = explore + tired if explore != NEVER else NEVER


@compiled
def hearts_worth(m, i):
    """Number of hearts (of four made at once) for which the agent holds the i-th kind of cargo."""
    return rules.MOST_HEARTS * m.seen.amounts[HERE, rules.CARBON + i] // rules.SHARE[i]


@compiled
def least_worth(m):
    """Number of hearts for which the agent holds all four kinds of cargo."""
    least = hearts_worth(m, 0)
    for i in range(1, 4):
        least = min(least, hearts_worth(m, i))
    return least


@compiled
def must_charge(m, n):
    """Whether agent n should charge first: from _EMPTY until _CHARGED."""
    energy = m.seen.amounts[HERE, rules.ENERGY]
    if energy < _EMPTY:
        m.me[n, rules.CHARGING] = 1
    elif energy >= _CHARGED:
        m.me[n, rules.CHARGING] = 0
    return m.me[n, rules.CHARGING] == 1


@compiled
def charge(m, n, p):
    """Go to a known charger and use it."""
    move = way_to(m, n, p, rules.CHARGE, rules.CHARGER, NEVER)
    if move == NO_WAY:
        m.me[n, rules.CHARGING] = 0
        return NO_WAY
    return 0 if must_wait(m, n, p) else advance(m, n, move)


@compiled
def must_wait(m, n, p):
    """Whether the object next to agent n still cools down."""
    goal = m.me[n, GOAL]
    rest = m.ready[p, goal] - m.me[n, TIME] - 1
    if ahead(m, n) > 1 or m.kind[p, goal] < THING:
        return False
    return rest > (_QUICK_CHARGE if m.kind[p, goal] == rules.CHARGER else 0)


@compiled
def advance(m, n, move):
    """The next step of the path, or noop without the energy for it."""
    if m.seen.amounts[HERE, rules.ENERGY] < rules.MOVE_ENERGY:
        return 0
    m.me[n, EXPECTED] = beside(side_of(m), m.me[n, CELL], move)
    return step_towards(m, n, move)


@compiled
def clear_vibe(m):
    """The action that changes to the default vibe, or noop if it is shown."""
    return col.FIRST_VIBE_ACTION if m.seen.vibe[HERE] != 0 else 0
