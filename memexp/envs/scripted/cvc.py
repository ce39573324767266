"""Scripted policies of cvc_random_maps: gather the four resources, meet at an assembler, carry the hearts to chests.

All agents see the same clock (episode_completion_pct), so all gather first and meet later. cvc_meet says at which
assembler they meet, cvc_ring what they do in the ring of eight cells around it.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, scripted_entry
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import CELL, TIME, forget, roll, update_belief
from memexp.envs.scripted.cvc_errands import (
    NO_WAY,
    advance,
    charge,
    clear_vibe,
    deliver,
    gather,
    least_worth,
    must_charge,
)  # fmt: skip
from memexp.envs.scripted.cvc_meet import (
    LOOK_AGAIN,
    find_spot,
    is_full,
    move_up,
    note_middle,
    towards_middle,
    way_to_gap,
    way_to_ring,
)  # fmt: skip
from memexp.envs.scripted.cvc_ring import LEAVE, RING, affordable, in_ring, read_ring, ring_action, window_of
from memexp.envs.scripted.full import learn_world, map_cell
from memexp.envs.scripted.paths import kept_move, wander
from memexp.envs.scripted.view import HERE, PCT, look

MEET_AT = 300
"""Step at which gathering ends and all agents meet."""
_AGAIN = 250
"""Steps of gathering after an agent has found nothing to do at the meeting place."""
_LATE_AGAIN = 50
"""The same near the end of the episode."""
_FINAL = 205
"""Completion (of 256) that counts as near the end."""
_FULL = 6
"""An agent with resources for this many hearts goes to the meeting place early."""
_PHASE = 3
"""Steps for which a ring shows one set of vibes."""
_ENOUGH_WAITING = 12
"""Steps until an agent leaves a ring that lacks the resources for a heart."""
_LONG = 40
"""The same in an incomplete ring, and steps until an agent leaves a ring that is not its first choice."""
_RANKS = 3
_EXPLORE = 10
"""Extra steps that a known object is worth compared with an unknown cell."""
_PAUSE = 16
"""Steps of wandering after an agent has found nothing to do."""


@scripted_entry()
def act_with_memory(m, obs, resets, seed, step, actions):
    """Actions [N] from all observations of each agent."""
    for n in range(obs.shape[0]):
        update_belief(m, n, obs, resets[n], seed, step, rules.WALL_TAG, rules.ASSEMBLER)
        if resets[n]:
            begin(m, n)
        note_middle(m, n)
        actions[n] = play(m, n, n)


@scripted_entry()
def act_with_full_sight(m, s, obs, resets, seed, step, actions):
    """Actions [N] from the whole state."""
    team = s.agents.shape[1]
    for n in range(obs.shape[0]):
        w = n // team
        roll(m, n, seed, step)
        look(m.seen, obs, n, rules.WALL_TAG)
        if n % team == 0:
            if resets[n]:
                forget(m, n, w)
            learn_world(m, s, w, w, resets[n], rules.ASSEMBLER)
        if resets[n]:
            begin(m, n)
            m.me[n, rules.HAS_ROW], m.me[n, rules.ROW] = 1, s.world[w, col.HEIGHT] // 2
            m.me[n, rules.HAS_COLUMN], m.me[n, rules.COLUMN] = 1, s.world[w, col.WIDTH] // 2
        m.me[n, CELL] = map_cell(m, s, s.agents[w, n % team, col.CELL])
        m.me[n, TIME] = s.world[w, col.STEP]
        actions[n] = play(m, n, w)


@compiled
def begin(m, n):
    """Reset what agent n knows about itself for a new episode."""
    for i in range(m.me.shape[1]):
        m.me[n, i] = 0
    m.me[n, rules.SPOT] = rules.NO_SPOT
    m.me[n, rules.BACK] = MEET_AT


@compiled
def play(m, n, p):
    """The action of agent n: deliver a heart, work in a ring, meet or gather."""
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
    """Whether agent n should be at the meeting place: by the clock, or because it has gathered enough."""
    back = m.me[n, rules.BACK]
    if m.seen.globals[PCT] >= _FINAL:
        back -= _AGAIN - _LATE_AGAIN
    return m.me[n, TIME] >= back or (m.me[n, TIME] >= MEET_AT and least_worth(m) >= _FULL)


@compiled
def or_wander(m, n, action):
    """The action, or a random move if it is NO_WAY."""
    return wander(m, n) if action == NO_WAY else action


@compiled
def busy_in_ring(m, n):
    """Whether agent n, which has a heart, is still needed in a ring for the hearts of others."""
    spot = m.me[n, rules.SPOT]
    if spot == rules.NO_SPOT or not in_ring(m, n, spot):
        return False
    count = read_ring(m, window_of(m, n, spot))
    return ring_action(m, n, spot, count, 0) != LEAVE


@compiled
def meet(m, n, p):
    """Go to the meeting place and work in the ring there."""
    spot = m.me[n, rules.SPOT]
    if m.me[n, rules.CERTAIN] == 1 and spot != rules.NO_SPOT and in_ring(m, n, spot):
        return stay_in_ring(m, n, p, spot)
    m.me[n, rules.WAITED] = 0
    if must_charge(m, n):
        action = charge(m, n, p)
        if action != NO_WAY:
            return action
    if m.me[n, rules.HAS_ROW] == 0 or m.me[n, rules.HAS_COLUMN] == 0:
        return towards_middle(m, n) if m.seen.amounts[HERE, rules.ENERGY] >= rules.MOVE_ENERGY else 0
    move = kept_move(m, n, p, rules.MEET)
    if move == 0:
        if not way_to_meeting(m, n, p):
            return wander(m, n)
        move = m.path[n, 0]
    return advance(m, n, move)


@compiled
def way_to_meeting(m, n, p):
    """Find a path to the ring, or to where a better meeting place may be; returns whether there is one."""
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
    """The action of agent n in the ring. It leaves after waiting in vain."""
    m.me[n, rules.WAITED] += 1
    count = read_ring(m, window_of(m, n, spot))
    if affordable(m) == 0 and m.me[n, rules.WAITED] > (_ENOUGH_WAITING if count == RING else _LONG):
        m.me[n, rules.BACK] = m.me[n, TIME] + _AGAIN
        m.me[n, rules.RANK] = 0
        return clear_vibe(m)
    if m.me[n, rules.WAITED] > _LONG and count < RING and m.me[n, rules.RANK] > 0:
        m.me[n, rules.RANK] = 0
        m.me[n, rules.SPOT] = rules.NO_SPOT
        return clear_vibe(m)
    move = move_up(m, n, p, spot)
    if move != 0:
        return advance(m, n, move)
    return ring_action(m, n, spot, count, m.me[n, TIME] // _PHASE)
