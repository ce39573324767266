"""Scripted players of the grid games: what can be reached with memory, without it, and with full sight.

    view.py     the tokens of one observation as a window of cells
    mind.py     a map for each player, and where it is on it
    paths.py    the way to the nearest of what is wanted
    full.py     the same knowledge, from the whole state of a world
    player.py   `make_player`

    assembly.py     players of assembly_lines
    cvc.py          players of cvc_random_maps with memory or full sight     cvc_blind.py    without memory
    cvc_rules.py    what they know of the rules, and of themselves           cvc_errands.py  fetch and carry
    cvc_meet.py     where to meet                                            cvc_ring.py     what to do there

Decisions are scalar functions that Numba compiles, as the rules of the engine are.
"""

from memexp.envs.scripted.base import PLAYERS as PLAYERS
from memexp.envs.scripted.base import Player as Player
from memexp.envs.scripted.base import make_player as make_player
