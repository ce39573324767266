"""Errands in cvc_random_maps: fetch resources and energy, carry a heart to a chest.

Each returns player n's action, or NO_WAY if it knows of nothing to go to. `explore` says how many steps unknown ground
may be nearer than something known and still be passed by; with NEVER it is not looked for at all.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import GOAL, TIME, window_cell
from memexp.envs.scripted.paths import NOWHERE, ahead, go, kept_move, search, want_nothing
from memexp.envs.scripted.view import HERE, THING, UNKNOWN

NO_WAY = -1
NEVER = -1
_DETOUR = 6
"""Steps that a player walks farther for a resource of which it holds what one heart less takes."""
_LOW, _HALF = 30, 60
"""Energy below which a charger is what a player wants first, and above which it wants none."""
_EMPTY, _CHARGED = 12, 70
"""Energy below which a player goes to a charger on its way to a meeting, and that with which it leaves it."""
_QUICK_CHARGE = 6
"""A charger with no more than this cooldown is used: it gives a part already."""


@compiled
def deliver(m, n, p, explore):
    """Carry a heart to a chest."""
    move = kept_move(m, n, p, rules.DELIVER)
    if move == 0:
        want_nothing(m)
        m.cost[rules.CHEST] = 0
        m.cost[UNKNOWN] = explore
        if search(m, n, p) == NOWHERE:
            return NO_WAY
        move = m.path[n, 0]
    if m.seen.kind[window_cell(move)] == rules.CHEST and m.seen.vibe[HERE] != rules.HEART_B:
        return col.FIRST_VIBE_ACTION + rules.HEART_B
    return advance(m, n, move)


@compiled
def gather(m, n, p, explore):
    """Go to the extractor or charger that is worth it most, by distance and need."""
    move = kept_move(m, n, p, rules.GATHER)
    if move == 0:
        if m.seen.vibe[HERE] != 0:
            return take_off(m)
        want_supplies(m, explore)
        if search(m, n, p) == NOWHERE:
            return NO_WAY
        move = m.path[n, 0]
        if must_wait(m, n, p):
            return 0
    return advance(m, n, move)


@compiled
def want_supplies(m, explore):
    """Look for energy and resources, each at the price of the detour that it is worth now."""
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
    """For how many hearts, of four made at once, the player holds the i-th kind of cargo."""
    return rules.MOST_HEARTS * m.seen.amounts[HERE, rules.CARBON + i] // rules.SHARE[i]


@compiled
def least_worth(m):
    """For how many hearts the player holds everything."""
    least = hearts_worth(m, 0)
    for i in range(1, 4):
        least = min(least, hearts_worth(m, i))
    return least


@compiled
def must_charge(m, n):
    """Whether player n should see to its energy before anything else: from EMPTY until it is charged."""
    energy = m.seen.amounts[HERE, rules.ENERGY]
    if energy < _EMPTY:
        m.me[n, rules.CHARGING] = 1
    elif energy >= _CHARGED:
        m.me[n, rules.CHARGING] = 0
    return m.me[n, rules.CHARGING] == 1


@compiled
def charge(m, n, p):
    """The action that leads to a known charger or uses it; NO_WAY: there is none."""
    move = kept_move(m, n, p, rules.CHARGE)
    if move == 0:
        want_nothing(m)
        m.cost[rules.CHARGER] = 0
        if search(m, n, p) == NOWHERE:
            m.me[n, rules.CHARGING] = 0
            return NO_WAY
        move = m.path[n, 0]
        if must_wait(m, n, p):
            return 0
    return advance(m, n, move)


@compiled
def must_wait(m, n, p):
    """Whether what player n stands before is still cooling down."""
    goal = m.me[n, GOAL]
    rest = m.ready[p, goal] - m.me[n, TIME] - 1
    if ahead(m, n) > 1 or m.kind[p, goal] < THING:
        return False
    return rest > (_QUICK_CHARGE if m.kind[p, goal] == rules.CHARGER else 0)


@compiled
def advance(m, n, move):
    """Take a step along the path, if there is energy for it."""
    return go(m, n, move) if m.seen.amounts[HERE, rules.ENERGY] >= rules.MOVE_ENERGY else 0


@compiled
def take_off(m):
    """The action that shows the default vibe, or 0 if it is shown."""
    return col.FIRST_VIBE_ACTION if m.seen.vibe[HERE] != 0 else 0
