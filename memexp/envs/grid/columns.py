"""Names of array columns, feature ids and statistics. They are plain integers, so Numba compiles them as constants."""

NUM_RESOURCES = 10
NUM_TOKENS = 200
RADIUS = 5
BORDER = RADIUS
"""Cells of wall around every map, so that an agent's window never leaves the grid."""
WINDOW = 2 * RADIUS + 1
HERE = 16 * RADIUS + RADIUS
"""Location byte of the agent's own cell."""
NO_LIMIT = 65535
UNUSED = 255

# Codes in `grid`: agent a is AGENTS + a, object o is AGENTS + number of agents + o.
EMPTY, WALL, AGENTS = 0, 1, 2

# world[w, ...]: scalars of a world.
(
    STEP, MAX_STEPS, HEIGHT, WIDTH, NUM_OBJECTS, NUM_ACTIONS, AGENT_TAG, WALL_TAG,
    COMPASS, REGEN_INTERVAL, DIVERSITY, NUM_REWARDS,
    COSTS, COSTS_END, REGEN, REGEN_END, SHARES, SHARES_END, GOALS, GOALS_END, INITIAL, INITIAL_END,
    MILESTONES, MILESTONES_END, LAYOUT, TERRAIN, SCRATCH,
) = range(27)  # fmt: skip
WORLD_COLUMNS = SCRATCH + 32
"""From SCRATCH on: temporary lists of up to eight agents or vibes, used within one rule."""

# rows[w, i, ...]: short lists of (key, resource, amount, second amount). `world` and `types` hold where each begins.
# Costs: key = kind of action, amount = required, second = consumed. Regeneration, shares, chests: key = vibe.
# Milestones: key = kind of milestone; resource and amount depend on the kind.
KEY, RESOURCE, AMOUNT, SECOND, ROW_COLUMNS = range(5)

# types[w, k, ...]: one row for each type of object. COUNT: number of such objects on a generated map. ONLY: the
# protocol of a type that has just one, without vibes or least number of agents; else -1. ALONE: the protocol used when
# nobody is around; -1: none.
KIND, TAG, MAX_USES, PARTIAL, FIRST, LAST, ONLY, ALONE, TRANSFERS, TRANSFERS_END, COUNT, TYPE_COLUMNS = range(12)
STATION, CHEST = 0, 1

# Layouts of the map generator (world[w, LAYOUT]).
ROOM, SCATTERED = 0, 1

# Kinds of milestone, with parameters a and b: the agent has left its first cell; agent_stats[a] is at least b; it holds
# some of each resource in the bit set a; it holds the inputs of the first protocol of type a; it shows vibe a next to
# an object of type b.
LEFT_START, REACHES, HAS_SOME, AFFORDS, NEAR = range(5)
NOT_YET = -1

# protocols[w, p, ...]: inputs and outputs are (resource, amount) pairs.
VIBES_KEY, MIN_AGENTS, COOLDOWN, NUM_VIBES, NUM_INPUTS, NUM_OUTPUTS, INPUTS = range(7)
OUTPUTS = INPUTS + 2 * NUM_RESOURCES
VIBES = OUTPUTS + 2 * NUM_RESOURCES
"""From here on: the vibes that the protocol needs. VIBES_KEY holds the same as one number."""

# agents[w, a, ...]. CELL: flat index into grid[w]; START: the first CELL; STOOD: CELL after the previous valid action;
# TOKENS: length of the observation. agents[w, i, TURN]: the i-th agent to act in a step.
CELL, VIBE, START, STOOD, STILL, SUCCESS, LAST_ACTION, TOKENS, TURN, AGENT_COLUMNS = range(10)
NUM_INVALID_SEEN = 8
"""How many distinct invalid action indices are counted separately."""

# objects[w, o, ...] (OBJECT_CELL is column 0, as CELL in agents). END: step at which the cooldown ends; SLOT: inventory
# of a chest, -1 for a station; ROW, COLUMN: those of its cell.
OBJECT_CELL, TYPE, END, DURATION, USES, SLOT, ROW, COLUMN, OBJECT_COLUMNS = range(9)

# inventory[w, slot, ...]: first the amounts, one column for each resource.
HOLDS = NUM_RESOURCES
"""From here on: the resources with a positive amount, in the order in which they became positive."""
NUM_HELD = HOLDS + NUM_RESOURCES
INVENTORY_COLUMNS = NUM_HELD + 1

# limits[w, r, ...]: number of the limit group (-1: none) and the limit of the group.
GROUP, LIMIT = 0, 1

# reward_terms[w, i, ...]: number of the statistic (below AGENT_STATS of the agent, else of the game), weight, cap.
STAT, WEIGHT, CAP = 0, 1, 2

# Kinds of action.
NOOP, MOVE, CHANGE_VIBE = 0, 1, 2
NUM_MOVES = 4
FIRST_VIBE_ACTION = 1 + NUM_MOVES

# agent_stats[w, a, ...]: first statistics with one column for each resource, then single columns.
GAINED, LOST, HELD, DEPOSITED_BY, WITHDRAWN_BY = (i * NUM_RESOURCES for i in range(5))
SUCCEEDED = 5 * NUM_RESOURCES  # by kind of action
FAILED = SUCCEEDED + 3  # by kind of action
FAILED_ANY, INVALID, LONGEST_STILL, DIVERSITY_HELD, AGENT_STATS = range(FAILED + 3, FAILED + 8)
RETURN = AGENT_STATS
"""Sum of the rewards of the episode."""
PAID = RETURN + 1
"""The weighted sum of the rewarded statistics after the previous step."""
AGENT_STAT_COLUMNS = PAID + 1

# game_stats[w, ...].
CREATED, DEPOSITED, WITHDRAWN, STORED = (i * NUM_RESOURCES for i in range(4))
WRITTEN, DROPPED, FREE, GAME_STATS = range(4 * NUM_RESOURCES, 4 * NUM_RESOURCES + 4)

# Feature ids of observation tokens.
F_GROUP, F_FROZEN, F_COMPLETION, F_LAST_ACTION, F_LAST_REWARD, F_GOAL, F_VIBE, F_COMPASS, F_TAG, F_COOLDOWN = range(10)
F_REMAINING_USES = 11
F_INVENTORY = 12
F_INPUT = F_INVENTORY + 2 * NUM_RESOURCES
F_OUTPUT = F_INPUT + NUM_RESOURCES
NUM_FEATURES = F_OUTPUT + NUM_RESOURCES
NORMALIZATION = (
    (10.0, 1.0, 255.0, 10.0, 100.0, 100.0, 255.0, 1.0, 10.0, 255.0, 1.0, 255.0)
    + (256.0,) * (2 * NUM_RESOURCES)
    + (100.0,) * (2 * NUM_RESOURCES)
)
"""Largest usual value of each feature, by feature id (id 10, clipped, never occurs)."""
UNPLACED = (F_COMPLETION, F_LAST_ACTION, F_LAST_REWARD, F_GOAL)
"""Features whose location is always the agent's own cell."""
MEANINGFUL_VIBES = 13
NUM_TAGS = 14
"""Most tags in one game: agent, wall and the twelve stations of assembly_lines."""
