"""Players of cvc_random_maps: gather the four resources, meet at an assembler, carry the hearts to chests.

The clock (episode_completion_pct) is common to all: everybody gathers first and meets then. The ring of an assembler
works by the conventions of cvc_ring; which assembler it is by those of cvc_meet.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.players.cvc_meet import (
    LOOK_AGAIN,
    find_spot,
    is_full,
    move_up,
    knows_middle,
    note_middle,
    towards_middle,
    way_to_gap,
    way_to_ring,
)
from memexp.envs.players.cvc_ring import (
    DRESS_ALONE,
    DRESSES,
    LEAVE,
    RING,
    affordable,
    in_ring,
    read_ring,
    ring_action,
    window_of,
)
from memexp.envs.players.cvc_rules import (
    ALONE,
    ASSEMBLER,
    BACK,
    CHARGE,
    CHARGING,
    CARBON,
    CERTAIN,
    CHARGER,
    CHEST,
    COLUMN,
    DELIVER,
    ENERGY,
    EXTRACTORS,
    GATHER,
    HAS_COLUMN,
    HAS_ROW,
    HEART,
    HEART_B,
    IDLE,
    IMPOSSIBLE,
    LOOKED,
    MEET,
    MOST_CARGO,
    MOST_HEARTS,
    MOVE_ENERGY,
    NO_SPOT,
    RANK,
    ROW,
    SHARE,
    SILICON_ENERGY,
    SPOT,
    TO_ASSEMBLER,
    WAITED,
    WALL_TAG,
    need,
)
from memexp.envs.players.full import learn_world, place_in_world
from memexp.envs.players.jit import entry
from memexp.envs.players.mind import (
    CELL,
    GOAL,
    TIME,
    follow_last_move,
    forget,
    note_view,
    roll,
    window_cell,
)
from memexp.envs.players.paths import NOWHERE, ahead, go, kept_move, search, wander, want_nothing
from memexp.envs.players.view import HERE, PCT, THING, UNKNOWN, look

MEET_AT = 300
"""Step at which gathering ends and everybody meets."""
_AGAIN = 150
"""Those who find nothing to do at the meeting place gather until the step is a multiple of this."""
_EMPTY, _CHARGED = 12, 70
"""Energy below which a player goes to a charger on its way to a meeting, and that with which it leaves it."""
_PHASE = 3
"""Steps that a ring wears one dress."""
_SMALL = 4
"""In one of so many rounds of dresses fewer than four hearts are made at once, which takes more resources for each."""
_LATE = 235
"""Completion (of 256) from which on that does not matter."""
_ENOUGH_WAITING = 12
"""Steps in a ring without the resources for a heart until a player leaves."""
_LONG = 40
"""The same in an incomplete ring; and steps until a player leaves one that is not the first."""
_TRIAL = 6
"""Steps at an assembler with the resources for a heart after which a player knows that nothing comes of it alone."""
_RANKS = 3
_PAUSE = 16
"""Steps until a player that finds nothing to do thinks again."""
_DETOUR = 6
"""Steps that a player walks farther for a resource of which it holds what one heart less takes."""
_EXPLORE = 10
"""Steps that a player walks farther for something known."""
_LOW, _HALF = 30, 60
"""Energy below which a charger is what a player wants first, and above which it wants none."""
_QUICK_CHARGE = 6
"""A charger with no more than this cooldown is used: it gives a part already."""


@entry()
def act_with_memory(m, obs, resets, seed, step, actions):
    """Actions [N] of players that see what an agent sees and remember it."""
    for n in range(obs.shape[0]):
        roll(m, n, seed, step)
        look(m.seen, obs, n, WALL_TAG)
        if resets[n]:
            begin(m, n, n)
        else:
            m.me[n, TIME] += 1
            follow_last_move(m, n)
        note_view(m, n, n, ASSEMBLER)
        note_middle(m, n)
        actions[n] = play(m, n, n)


@entry()
def act_with_full_sight(m, s, obs, resets, seed, step, actions):
    """Actions [N] of players that see everything."""
    team = s.agents.shape[1]
    for n in range(obs.shape[0]):
        w = n // team
        roll(m, n, seed, step)
        look(m.seen, obs, n, WALL_TAG)
        if n % team == 0:
            if resets[n]:
                begin(m, n, w)
            learn_world(m, s, w, w, resets[n], ASSEMBLER)
        if resets[n]:
            begin_self(m, n)
            m.me[n, HAS_ROW], m.me[n, ROW] = 1, s.world[w, col.HEIGHT] // 2
            m.me[n, HAS_COLUMN], m.me[n, COLUMN] = 1, s.world[w, col.WIDTH] // 2
        m.me[n, CELL] = place_in_world(m, s, s.agents[w, n % team, col.CELL])
        m.me[n, TIME] = s.world[w, col.STEP]
        actions[n] = play(m, n, w)


@compiled
def begin(m, n, p):
    """A new episode of player n on the empty map p."""
    forget(m, n, p)
    begin_self(m, n)


@compiled
def begin_self(m, n):
    """What player n knows of itself in a new episode."""
    for i in range(m.me.shape[1]):
        m.me[n, i] = 0
    m.me[n, SPOT] = NO_SPOT
    m.me[n, BACK] = MEET_AT


@compiled
def play(m, n, p):
    """Player n's action: deliver a heart, else work in a ring, else meet, make a heart or gather."""
    if m.seen.amounts[HERE, HEART] > 0 and not busy_in_ring(m, n):
        m.me[n, WAITED] = 0
        m.me[n, RANK] = 0
        return deliver(m, n, p)
    if m.me[n, TIME] >= m.me[n, BACK]:
        return meet(m, n, p)
    if m.me[n, ALONE] != IMPOSSIBLE and can_make_heart(m):
        return make_alone(m, n, p)
    return gather(m, n, p)


@compiled
def busy_in_ring(m, n):
    """Whether player n, with a heart, is still needed for others' hearts."""
    spot = m.me[n, SPOT]
    if spot == NO_SPOT or not in_ring(m, n, spot):
        return False
    count = read_ring(m, window_of(m, n, spot))
    return ring_action(m, n, spot, count, DRESS_ALONE, 1) != LEAVE


@compiled
def can_make_heart(m):
    """Whether the player holds what one heart takes."""
    for i in range(4):
        if m.seen.amounts[HERE, CARBON + i] < need(1, i):
            return False
    return True


@compiled
def take_off(m):
    """The action that shows the default vibe, or 0 if it is shown."""
    return col.FIRST_VIBE_ACTION if m.seen.vibe[HERE] != 0 else 0


@compiled
def deliver(m, n, p):
    """Carry a heart to a chest."""
    move = kept_move(m, n, p, DELIVER)
    if move == 0:
        want_nothing(m)
        m.cost[CHEST] = 0
        m.cost[UNKNOWN] = _EXPLORE
        if search(m, n, p) == NOWHERE:
            return wander(m, n)
        move = m.path[n, 0]
    if m.seen.kind[window_cell(move)] == CHEST and m.seen.vibe[HERE] != HEART_B:
        return col.FIRST_VIBE_ACTION + HEART_B
    return advance(m, n, move)


@compiled
def advance(m, n, move):
    """Take a step along the path, if there is energy for it."""
    return go(m, n, move) if m.seen.amounts[HERE, ENERGY] >= MOVE_ENERGY else 0


@compiled
def gather(m, n, p):
    """Go to the extractor or charger that is worth it most, by distance and need; explore where none is known."""
    move = kept_move(m, n, p, GATHER)
    if move == 0:
        if m.seen.vibe[HERE] != 0:
            return take_off(m)
        if m.me[n, TIME] < m.me[n, IDLE]:
            return wander(m, n)
        want_supplies(m)
        if search(m, n, p) == NOWHERE:
            m.me[n, IDLE] = m.me[n, TIME] + _PAUSE
            return wander(m, n)
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
    return rest > (_QUICK_CHARGE if m.kind[p, goal] == CHARGER else 0)


@compiled
def want_supplies(m):
    """Look for energy and resources, each at the price of the detour that it is worth now."""
    want_nothing(m)
    energy = m.seen.amounts[HERE, ENERGY]
    tired = 2 * max(0, _LOW - energy)
    if energy < _HALF:
        m.cost[CHARGER] = max(0, energy - _LOW)
    least = hearts_worth(m, 0)
    for i in range(1, 4):
        least = min(least, hearts_worth(m, i))
    for i in range(4):
        if m.seen.amounts[HERE, CARBON + i] < MOST_CARGO[i]:
            m.cost[EXTRACTORS[i]] = tired + _DETOUR * (hearts_worth(m, i) - least)
    if energy < SILICON_ENERGY:
        m.cost[EXTRACTORS[3]] = -1
    m.cost[UNKNOWN] = _EXPLORE + tired


@compiled
def hearts_worth(m, i):
    """For how many hearts, of four made at once, the player holds the i-th kind of cargo."""
    return MOST_HEARTS * m.seen.amounts[HERE, CARBON + i] // SHARE[i]


@compiled
def make_alone(m, n, p):
    """Go to the nearest assembler and see whether a heart can be made there by whoever is around."""
    spot = m.me[n, SPOT]
    if spot != NO_SPOT and in_ring(m, n, spot):
        m.me[n, WAITED] += 1
        count = read_ring(m, window_of(m, n, spot))
        action = ring_action(m, n, spot, count, DRESS_ALONE, 1)
        if m.me[n, WAITED] > _TRIAL:
            m.me[n, ALONE] = IMPOSSIBLE
            m.me[n, WAITED] = 0
        return action
    m.me[n, WAITED] = 0
    move = kept_move(m, n, p, TO_ASSEMBLER)
    if move == 0:
        want_nothing(m)
        m.cost[ASSEMBLER] = 0
        m.cost[UNKNOWN] = _EXPLORE
        if search(m, n, p) == NOWHERE:
            return wander(m, n)
        move = m.path[n, 0]
        goal = m.me[n, GOAL]
        m.me[n, SPOT] = goal if m.kind[p, goal] == ASSEMBLER else NO_SPOT
    return advance(m, n, move)


@compiled
def meet(m, n, p):
    """Go to the meeting place and do there what the ring does."""
    spot = m.me[n, SPOT]
    if m.me[n, CERTAIN] == 1 and spot != NO_SPOT and in_ring(m, n, spot):
        return stay_in_ring(m, n, p, spot)
    m.me[n, WAITED] = 0
    if must_charge(m, n):
        move = way_to_charger(m, n, p)
        if move >= 0:
            return move
    if not knows_middle(m, n):
        return towards_middle(m, n) if m.seen.amounts[HERE, ENERGY] >= MOVE_ENERGY else 0
    move = kept_move(m, n, p, MEET)
    if move == 0:
        if not way_to_meeting(m, n, p):
            return wander(m, n)
        move = m.path[n, 0]
    return advance(m, n, move)


@compiled
def must_charge(m, n):
    """Whether player n should see to its energy before anything else: from EMPTY until it is charged."""
    energy = m.seen.amounts[HERE, ENERGY]
    if energy < _EMPTY:
        m.me[n, CHARGING] = 1
    elif energy >= _CHARGED:
        m.me[n, CHARGING] = 0
    return m.me[n, CHARGING] == 1


@compiled
def way_to_charger(m, n, p):
    """The action that leads to a known charger or uses it; -1: there is none."""
    move = kept_move(m, n, p, CHARGE)
    if move == 0:
        want_nothing(m)
        m.cost[CHARGER] = 0
        if search(m, n, p) == NOWHERE:
            m.me[n, CHARGING] = 0
            return -1
        move = m.path[n, 0]
        if must_wait(m, n, p):
            return 0
    return advance(m, n, move)


@compiled
def way_to_meeting(m, n, p):
    """Find the way to a place in the ring, or to where the meeting place may still be; whether there is one."""
    if m.me[n, SPOT] == NO_SPOT or m.me[n, TIME] >= m.me[n, LOOKED] + LOOK_AGAIN or m.me[n, LOOKED] == 0:
        find_spot(m, n, p)
    if m.me[n, CERTAIN] == 0:
        if way_to_gap(m, n, p):
            return True
        m.me[n, CERTAIN] = 1
    spot = m.me[n, SPOT]
    if spot == NO_SPOT:
        return False
    if is_full(m, n, p, spot):
        m.me[n, RANK] = (m.me[n, RANK] + 1) % _RANKS
        find_spot(m, n, p)
        return False
    return way_to_ring(m, n, p, spot)


@compiled
def stay_in_ring(m, n, p, spot):
    """What player n does in the ring; it leaves if nothing comes of it."""
    m.me[n, WAITED] += 1
    count = read_ring(m, window_of(m, n, spot))
    if affordable(m) == 0 and m.me[n, WAITED] > (_ENOUGH_WAITING if count == RING else _LONG):
        m.me[n, BACK] = (m.me[n, TIME] // _AGAIN + 1) * _AGAIN
        m.me[n, RANK] = 0
        return take_off(m)
    if m.me[n, WAITED] > _LONG and count < RING and m.me[n, RANK] > 0:
        m.me[n, RANK] = 0
        m.me[n, SPOT] = NO_SPOT
        return take_off(m)
    move = move_up(m, n, p, spot)
    if move != 0:
        return advance(m, n, move)
    turn = m.me[n, TIME] // _PHASE
    small = turn // DRESSES % _SMALL == 0 or m.seen.globals[PCT] >= _LATE
    return ring_action(m, n, spot, count, turn % DRESSES, 1 if small else MOST_HEARTS)
