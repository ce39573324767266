"""The rules of cvc_random_maps for scripted policies, and the columns that an agent keeps about itself."""

from memexp.envs.config import CVC_OBJECTS
from memexp.envs.cvc_random_maps import MOST_HEARTS, MOVE_COST, PROTOCOL_VIBES, TAGS, VIBES, heart_cost
from memexp.envs.cvc_tasks import RESOURCES
from memexp.envs.grid.compiled import compiled
from memexp.envs.scripted.belief_map import GAME
from memexp.envs.scripted.view import THING

WALL_TAG = TAGS["wall"]
ASSEMBLER, CHARGER, CHEST, CARBON_EXTRACTOR, OXYGEN_EXTRACTOR, GERMANIUM_EXTRACTOR, SILICON_EXTRACTOR = (
    THING + TAGS[name] for name in CVC_OBJECTS
)
EXTRACTORS = (CARBON_EXTRACTOR, OXYGEN_EXTRACTOR, GERMANIUM_EXTRACTOR, SILICON_EXTRACTOR)
ENERGY, CARBON, HEART = (RESOURCES.index(name) for name in ("energy", "carbon", "heart"))
"""The other three kinds of cargo follow carbon."""
HEART_A, HEART_B = VIBES.index("heart_a"), VIBES.index("heart_b")
VIBES_OF_ALL = [VIBES.index(name) for name in PROTOCOL_VIBES["all"]]
MOVE_ENERGY, SILICON_ENERGY = MOVE_COST, MOVE_COST + 20
"""Energy for a move, and for the use of a silicon extractor."""
MOST_CARGO = (49, 49, 10, 147)
"""Most carbon, oxygen, germanium and silicon to carry: in the proportions of four hearts, up to the limit."""
SHARE = heart_cost(MOST_HEARTS)
"""Resources for four hearts."""

# Game columns of BeliefMap.me. HAS_ROW, ROW, HAS_COLUMN, COLUMN: whether row and column of the middle are known, and
# their values. RANK: index of the meeting place, counted from the middle. SPOT: its assembler's cell, or NO_SPOT.
# CERTAIN: no unknown cell can hold a better one. LOOKED: step at which it was chosen. WAITED: steps in the ring. BACK:
# step at which the agent goes to the meeting place. IDLE: step until which it wanders. CHARGING: it must charge first.
HAS_ROW, ROW, HAS_COLUMN, COLUMN, RANK, WAITED, BACK, SPOT, CERTAIN, LOOKED, IDLE, CHARGING = range(GAME, GAME + 12)
NO_SPOT = -1
GATHER, DELIVER, MEET, CHARGE = range(4)


_cost = compiled(heart_cost)


@compiled
def need(hearts, i):
    """Units of the i-th kind of cargo that this many hearts need at once."""
    return _cost(hearts)[i]
