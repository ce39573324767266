"""Players of cvc_random_maps without memory: what is in sight, the compass and the clock are all there is.

What lasts is in the observation itself: the last action (strolling straight on), the vibe, the inventory, the progress
of the episode, by which all meet at the same times and rings change their dress.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled
from memexp.envs.grid.rng import draw
from memexp.envs.scripted import cvc_rules as rules
from memexp.envs.scripted.belief_map import forget, note_view, roll, step_towards
from memexp.envs.scripted.cvc_errands import NEVER, NO_WAY, advance, deliver, gather, take_off
from memexp.envs.scripted.cvc_meet import is_full, towards_middle, way_to_ring
from memexp.envs.scripted.cvc_ring import LEAVE, affordable, in_ring, read_ring, ring_action, window_of
from memexp.envs.scripted.jit import entry
from memexp.envs.scripted.paths import open_ahead, random_move, wander
from memexp.envs.scripted.view import HERE, LAST_ACTION, PCT, look

_FIRST_MEETING = 64
"""Completion (of 256) at which players meet for the first time."""
_PERIOD, _MEETING, _SHIFT = 24, 16, 8
"""Then they meet for 16 of every 24 units of completion, 8 ahead of its multiples, and gather in between."""
_TURN = 20
"""A strolling player turns once in so many steps."""
_ASTRAY = 4
"""A player on its way to the middle of the map strolls in one of so many steps: there may be no assembler there."""
_GIVE_UP = 16
"""A player in a ring without the resources for a heart leaves it once in so many steps."""


@entry()
def act_without_memory(m, obs, resets, seed, step, actions):
    """Actions [N] of players that see what an agent sees and have forgotten everything before."""
    for n in range(obs.shape[0]):
        roll(m, n, seed, step)
        look(m.seen, obs, n, rules.WALL_TAG)
        forget(m, n, n)
        note_view(m, n, n, rules.ASSEMBLER)
        actions[n] = play(m, n)


@compiled
def play(m, n):
    """Player n's action: work in a ring, deliver a heart, meet or gather."""
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
    """Whether it is time to meet."""
    completion = m.seen.globals[PCT]
    return completion >= _FIRST_MEETING and (completion + _SHIFT) % _PERIOD < _MEETING


@compiled
def best_spot(m, n):
    """The assembler in sight that most agents stand around, the first in row-major order; or NO_SPOT."""
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
    """Go to the assembler `spot`, or look for one around the middle of the map."""
    if spot != rules.NO_SPOT and way_to_ring(m, n, n, spot):
        return advance(m, n, m.path[n, 0])
    if m.seen.vibe[HERE] != 0:
        return take_off(m)
    if m.seen.amounts[HERE, rules.ENERGY] < rules.MOVE_ENERGY:
        return 0
    return stroll(m, n) if draw(m, n, _ASTRAY) == 0 else towards_middle(m, n)


@compiled
def or_stroll(m, n, action):
    """The action, or a step straight on if there is NO_WAY."""
    return stroll(m, n) if action == NO_WAY else action


@compiled
def stroll(m, n):
    """Go on in the direction of the last move, with a turn now and then."""
    last = m.seen.globals[LAST_ACTION]
    if not 1 <= last <= col.NUM_MOVES or draw(m, n, _TURN) == 0:
        last = random_move(m, n)
    return step_towards(m, n, last) if open_ahead(m, last) else wander(m, n)
