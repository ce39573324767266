"""Players of cvc_random_maps: gather the four resources, meet at an assembler, carry the hearts to chests.

The clock (episode_completion_pct) is common to all: everybody gathers first and meets then. The ring of an assembler
works by the conventions of cvc_ring; which assembler it is by those of cvc_meet.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import (
    CELL,
    TIME,
    follow_last_move,
    forget,
    note_view,
    roll,
)
from memexp.envs.scripted.cvc_errands import (
    NO_WAY,
    advance,
    charge,
    deliver,
    gather,
    least_worth,
    must_charge,
    take_off,
)
from memexp.envs.scripted.cvc_meet import (
    LOOK_AGAIN,
    find_spot,
    is_full,
    knows_middle,
    move_up,
    note_middle,
    towards_middle,
    way_to_gap,
    way_to_ring,
)
from memexp.envs.scripted.cvc_ring import (
    LEAVE,
    RING,
    affordable,
    in_ring,
    read_ring,
    ring_action,
    window_of,
)
from memexp.envs.scripted.full import learn_world, place_in_world
from memexp.envs.scripted.jit import entry
from memexp.envs.scripted.paths import kept_move, wander
from memexp.envs.scripted.view import HERE, PCT, look

MEET_AT = 300
"""Step at which gathering ends and everybody meets."""
_AGAIN = 250
"""Steps that those who find nothing to do at the meeting place gather."""
_LATE_AGAIN = 50
"""The same towards the end."""
_FINAL = 205
"""Completion (of 256) from which on it is the end."""
_FULL = 6
"""Who holds enough of everything for so many hearts goes to the meeting place early."""
_PHASE = 3
"""Steps that a ring wears one dress."""
_ENOUGH_WAITING = 12
"""Steps in a ring without the resources for a heart until a player leaves."""
_LONG = 40
"""The same in an incomplete ring; and steps until a player leaves one that is not the first."""
_RANKS = 3
_EXPLORE = 10
"""Steps that a player walks farther for something known than to look at unknown ground."""
_PAUSE = 16
"""Steps until a player that finds nothing to do thinks again."""


@entry()
def act_with_memory(m, obs, resets, seed, step, actions):
    """Actions [N] of players that see what an agent sees and remember it."""
    for n in range(obs.shape[0]):
        roll(m, n, seed, step)
        look(m.seen, obs, n, rules.WALL_TAG)
        if resets[n]:
            begin(m, n, n)
        else:
            m.me[n, TIME] += 1
            follow_last_move(m, n)
        note_view(m, n, n, rules.ASSEMBLER)
        note_middle(m, n)
        actions[n] = play(m, n, n)


@entry()
def act_with_full_sight(m, s, obs, resets, seed, step, actions):
    """Actions [N] of players that see everything."""
    team = s.agents.shape[1]
    for n in range(obs.shape[0]):
        w = n // team
        roll(m, n, seed, step)
        look(m.seen, obs, n, rules.WALL_TAG)
        if n % team == 0:
            if resets[n]:
                begin(m, n, w)
            learn_world(m, s, w, w, resets[n], rules.ASSEMBLER)
        if resets[n]:
            begin_self(m, n)
            m.me[n, rules.HAS_ROW], m.me[n, rules.ROW] = 1, s.world[w, col.HEIGHT] // 2
            m.me[n, rules.HAS_COLUMN], m.me[n, rules.COLUMN] = 1, s.world[w, col.WIDTH] // 2
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
    m.me[n, rules.SPOT] = rules.NO_SPOT
    m.me[n, rules.BACK] = MEET_AT


@compiled
def play(m, n, p):
    """Player n's action: deliver a heart, else work in a ring, else meet or gather."""
    if m.seen.amounts[HERE, rules.HEART] > 0 and not busy_in_ring(m, n):
        m.me[n, rules.WAITED] = 0
        m.me[n, rules.RANK] = 0
        return or_wander(m, n, deliver(m, n, p, _EXPLORE))
    if is_meeting(m, n):
        return meet(m, n, p)
    if m.me[n, TIME] < m.me[n, rules.IDLE]:
        return wander(m, n)
    action = gather(m, n, p, _EXPLORE)
    if action == NO_WAY:
        m.me[n, rules.IDLE] = m.me[n, TIME] + _PAUSE
    return or_wander(m, n, action)


@compiled
def is_meeting(m, n):
    """Whether player n should be at the meeting place: by the clock, or because it has gathered enough."""
    back = m.me[n, rules.BACK]
    if m.seen.globals[PCT] >= _FINAL:
        back -= _AGAIN - _LATE_AGAIN
    return m.me[n, TIME] >= back or (m.me[n, TIME] >= MEET_AT and least_worth(m) >= _FULL)


@compiled
def or_wander(m, n, action):
    """The action, or a random move if there is NO_WAY."""
    return wander(m, n) if action == NO_WAY else action


@compiled
def busy_in_ring(m, n):
    """Whether player n, with a heart, is still needed for others' hearts."""
    spot = m.me[n, rules.SPOT]
    if spot == rules.NO_SPOT or not in_ring(m, n, spot):
        return False
    count = read_ring(m, window_of(m, n, spot))
    return ring_action(m, n, spot, count, 0) != LEAVE


@compiled
def meet(m, n, p):
    """Go to the meeting place and do there what the ring does."""
    spot = m.me[n, rules.SPOT]
    if m.me[n, rules.CERTAIN] == 1 and spot != rules.NO_SPOT and in_ring(m, n, spot):
        return stay_in_ring(m, n, p, spot)
    m.me[n, rules.WAITED] = 0
    if must_charge(m, n):
        action = charge(m, n, p)
        if action != NO_WAY:
            return action
    if not knows_middle(m, n):
        return towards_middle(m, n) if m.seen.amounts[HERE, rules.ENERGY] >= rules.MOVE_ENERGY else 0
    move = kept_move(m, n, p, rules.MEET)
    if move == 0:
        if not way_to_meeting(m, n, p):
            return wander(m, n)
        move = m.path[n, 0]
    return advance(m, n, move)


@compiled
def way_to_meeting(m, n, p):
    """Find the way to a place in the ring, or to where the meeting place may still be; whether there is one."""
    if m.me[n, rules.SPOT] == rules.NO_SPOT or m.me[n, TIME] >= m.me[n, rules.LOOKED] + LOOK_AGAIN:
        find_spot(m, n, p)
    if m.me[n, rules.CERTAIN] == 0:
        if way_to_gap(m, n, p):
            return True
        m.me[n, rules.CERTAIN] = 1
    spot = m.me[n, rules.SPOT]
    if spot == rules.NO_SPOT:
        return False
    if is_full(m, n, p, spot):
        m.me[n, rules.RANK] = (m.me[n, rules.RANK] + 1) % _RANKS
        find_spot(m, n, p)
        return False
    return way_to_ring(m, n, p, spot)


@compiled
def stay_in_ring(m, n, p, spot):
    """What player n does in the ring; it leaves if nothing comes of it."""
    m.me[n, rules.WAITED] += 1
    count = read_ring(m, window_of(m, n, spot))
    if affordable(m) == 0 and m.me[n, rules.WAITED] > (_ENOUGH_WAITING if count == RING else _LONG):
        m.me[n, rules.BACK] = m.me[n, TIME] + _AGAIN
        m.me[n, rules.RANK] = 0
        return take_off(m)
    if m.me[n, rules.WAITED] > _LONG and count < RING and m.me[n, rules.RANK] > 0:
        m.me[n, rules.RANK] = 0
        m.me[n, rules.SPOT] = rules.NO_SPOT
        return take_off(m)
    move = move_up(m, n, p, spot)
    if move != 0:
        return advance(m, n, move)
    return ring_action(m, n, spot, count, m.me[n, TIME] // _PHASE)
