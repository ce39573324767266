"""The memoryless scripted policy of cvc_random_maps, which uses the view, the compass and the clock alone.

The observation itself holds some state: the last action (to walk straight on), the vibe, the inventory, and the
progress of the episode, a common clock for meetings and for the vibes of a ring.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, scripted_entry
from memexp.envs.grid.rng import draw
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import step_towards, update_belief
from memexp.envs.scripted.cvc_errands import NEVER, NO_WAY, advance, clear_vibe, deliver, gather
from memexp.envs.scripted.cvc_meet import is_full, towards_middle, way_to_ring
from memexp.envs.scripted.cvc_ring import LEAVE, affordable, in_ring, read_ring, ring_action, window_of
from memexp.envs.scripted.paths import open_ahead, random_move, wander
from memexp.envs.scripted.view import HERE, LAST_ACTION, PCT

_FIRST_MEETING = 64
"""Completion (of 256) at which agents meet for the first time."""
_PERIOD, _MEETING, _SHIFT = 24, 16, 8
"""Then they meet for 16 of every 24 units of completion, from 8 units before each multiple of 24."""
_TURN = 20
"""An agent that walks straight on turns once in this many steps."""
_ASTRAY = 4
"""An agent on its way to the middle walks straight on once in this many steps: the middle may lack an assembler."""
_GIVE_UP = 16
"""An agent leaves a ring without the resources for a heart once in this many steps."""


@scripted_entry()
def act_without_memory(m, obs, resets, seed, step, actions):
    """Actions [N] from the current observation of each agent alone."""
    for n in range(obs.shape[0]):
        update_belief(m, n, obs, True, seed, step, rules.WALL_TAG, rules.ASSEMBLER)
        actions[n] = play(m, n)


@compiled
def play(m, n):
    """The action of agent n: work in a ring, deliver a heart, meet or gather."""
    spot = best_spot(m, n)
    if is_meeting(m) and spot != rules.NO_SPOT and in_ring(m, n, spot):
        count = read_ring(m, window_of(m, n, spot))
        action = ring_action(m, n, spot, count, m.seen.globals[PCT])
        gives_up = affordable(m) == 0 and draw(m, n, _GIVE_UP) == 0
        if action != LEAVE and not gives_up:
            return action
    if m.seen.amounts[HERE, rules.HEART] > 0:
        return or_stroll(m, n, deliver(m, n, n, NEVER))
    return meet(m, n, spot) if is_meeting(m) else or_stroll(m, n, gather(m, n, n, NEVER))


@compiled
def is_meeting(m):
    completion = m.seen.globals[PCT]
    return completion >= _FIRST_MEETING and (completion + _SHIFT) % _PERIOD < _MEETING


@compiled
def best_spot(m, n):
    """The assembler in view with most agents around it, the first in row-major order; or NO_SPOT."""
    most, spot = -1, rules.NO_SPOT
    for i in range(m.marks[n, 0]):
        there = m.marks[n, 1 + i]
        c = window_of(m, n, there)
        inside = abs(c // col.WINDOW - col.RADIUS) < col.RADIUS and abs(c % col.WINDOW - col.RADIUS) < col.RADIUS
        count = read_ring(m, c) if inside else 0
        if count > most and (in_ring(m, n, there) or not is_full(m, n, n, there)):
            most, spot = count, there
    return spot


@compiled
def meet(m, n, spot):
    """Go to the assembler `spot`, or search for one near the middle of the map."""
    if spot != rules.NO_SPOT and way_to_ring(m, n, n, spot):
        return advance(m, n, m.path[n, 0])
    if m.seen.vibe[HERE] != 0:
        return clear_vibe(m)
    if m.seen.amounts[HERE, rules.ENERGY] < rules.MOVE_ENERGY:
        return 0
    return stroll(m, n) if draw(m, n, _ASTRAY) == 0 else towards_middle(m, n)


@compiled
def or_stroll(m, n, action):
    """The action, or a step straight on if it is NO_WAY."""
    return stroll(m, n) if action == NO_WAY else action


@compiled
def stroll(m, n):
    """Continue in the direction of the last move, with a random turn now and then."""
    last = m.seen.globals[LAST_ACTION]
    if not 1 <= last <= col.NUM_MOVES or draw(m, n, _TURN) == 0:
        last = random_move(m, n)
    return step_towards(m, n, last) if open_ahead(m, last) else wander(m, n)
