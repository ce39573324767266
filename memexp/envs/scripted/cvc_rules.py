"""What players of cvc_random_maps know of the rules, and what each keeps about itself besides its map."""

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
"""Energy that a move and a use of a silicon extractor take."""
MOST_CARGO = (49, 49, 10, 147)
"""Carbon, oxygen, germanium and silicon in the proportions of four hearts, as much as an agent can carry."""
SHARE = heart_cost(MOST_HEARTS)
"""What four hearts take."""

# Game columns of Mind.me. HAS_ROW, ROW, HAS_COLUMN, COLUMN: whether the middle of the map is known, and where it is
# (the compass tells when a player crosses it). RANK: which of the meeting places, counted from the middle, it goes to.
# SPOT: the cell of that assembler, or NO_SPOT; CERTAIN: no better one can be in unknown cells; LOOKED: the step at
# which it was chosen. WAITED: steps in the ring of an assembler. BACK: the step at which the player goes to the meeting
# place (again). IDLE: the step until which it has nothing to do. CHARGING: whether energy comes first.
HAS_ROW, ROW, HAS_COLUMN, COLUMN, RANK, WAITED, BACK, SPOT, CERTAIN, LOOKED, IDLE, CHARGING = range(GAME, GAME + 12)
NO_SPOT = -1
GATHER, DELIVER, MEET, CHARGE = range(4)


_cost = compiled(heart_cost)


@compiled
def need(hearts, i):
    """How much of the i-th kind of cargo so many hearts take at once."""
    return _cost(hearts)[i]
