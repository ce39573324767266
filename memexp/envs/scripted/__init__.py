"""Scripted policies of the grid games. Their returns show what is possible with memory, without it and with full sight.

    base.py        `make_scripted_policy`
    view.py        turns the tokens of one observation into a window of cells
    belief_map.py  a map for each agent, and its position on it
    paths.py       shortest paths to the nearest wanted cell
    full.py        fills the maps from the whole state of an environment

    assembly.py     assembly_lines
    cvc.py          cvc_random_maps, with memory or full sight    cvc_blind.py    without memory
    cvc_rules.py    its rules, and the columns of an agent        cvc_errands.py  fetch resources, deliver hearts
    cvc_meet.py     where agents meet                             cvc_ring.py     what they do there

The decisions are scalar functions that Numba compiles, like the rules of the engine. `m` is the BeliefMap of all
agents, `n` an agent, `p` its map, and `c` a cell.
"""

from memexp.envs.scripted.base import POLICY_KINDS as POLICY_KINDS
from memexp.envs.scripted.base import ScriptedPolicy as ScriptedPolicy
from memexp.envs.scripted.base import make_scripted_policy as make_scripted_policy
