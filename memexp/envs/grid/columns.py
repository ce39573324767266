"""Names of the columns of the state arrays, feature ids and statistics: plain integers, constants to the compiler."""

NUM_RESOURCES = 10
NUM_TOKENS = 200
RADIUS = 5
BORDER = RADIUS
"""Every map is framed by this many cells of wall, so that an agent's window never leaves the grid."""
WINDOW = 2 * RADIUS + 1
HERE = 16 * RADIUS + RADIUS
"""Location byte of the agent's own cell."""
NO_LIMIT = 65535
UNUSED = 255

# Codes of the cells of `grid`. Agent a is AGENTS + a; object o is AGENTS + number of agents + o.
EMPTY, WALL, AGENTS = 0, 1, 2

# world[w, ...]: one row of scalars a world.
(
    STEP, MAX_STEPS, HEIGHT, WIDTH, NUM_OBJECTS, NUM_ACTIONS, AGENT_TAG, WALL_TAG,
    COMPASS, REGEN_INTERVAL, DIVERSITY, NUM_REWARDS,
    COSTS, COSTS_END, REGEN, REGEN_END, SHARES, SHARES_END, GOALS, GOALS_END, INITIAL, INITIAL_END,
    MILESTONES, MILESTONES_END, LAYOUT, TERRAIN, SCRATCH,
) = range(27)  # fmt: skip
WORLD_COLUMNS = SCRATCH + 32
"""From SCRATCH on: lists of up to eight agents or vibes, used within one rule."""

# rows[w, i, ...]: short lists of (key, resource, amount, second amount); world and types say where each begins.
# Costs: key = kind of action, amount = required, second = consumed. Regeneration, shares, chests: key = vibe.
# Milestones: key = kind of milestone, resource and amount as that kind says.
KEY, RESOURCE, AMOUNT, SECOND, ROW_COLUMNS = range(5)

# types[w, k, ...]: one row a type of object.
# COUNT: how many of them the map generator puts on the map.
# ONLY: its one protocol where there is but one and it asks for nothing, else -1; ALONE: its protocol where nobody
# stands around, -1 where it has none.
KIND, TAG, MAX_USES, PARTIAL, FIRST, LAST, ONLY, ALONE, TRANSFERS, TRANSFERS_END, COUNT, TYPE_COLUMNS = range(12)
STATION, CHEST = 0, 1

# How the map generator lays out a map (world[w, LAYOUT]).
ROOM, SCATTERED = 0, 1

# Kinds of milestone: the agent has left its first cell; agent_stats[a] is at least b; it holds some of every resource
# in the bit set a; it holds what the first protocol of type a takes; it shows vibe a next to an object of type b.
LEFT_START, REACHES, HAS_SOME, AFFORDS, NEAR = range(5)
NOT_YET = -1

# protocols[w, p, ...]: inputs and outputs are (resource, amount) pairs.
VIBES_KEY, MIN_AGENTS, COOLDOWN, NUM_VIBES, NUM_INPUTS, NUM_OUTPUTS, INPUTS = range(7)
OUTPUTS = INPUTS + 2 * NUM_RESOURCES
VIBES = OUTPUTS + 2 * NUM_RESOURCES
"""From here on the list of vibes that the protocol needs; VIBES_KEY is the same as one number."""

# agents[w, a, ...]. CELL is the flat index into grid[w], START the first one, STOOD the cell after the previous valid
# action, TOKENS the length of the observation. agents[w, i, TURN] is the agent that acts as i-th in a step.
CELL, VIBE, START, STOOD, STILL, SUCCESS, LAST_ACTION, TOKENS, TURN, AGENT_COLUMNS = range(10)
NUM_INVALID_SEEN = 8
"""How many distinct invalid action indices are counted one by one."""

# objects[w, o, ...] (OBJECT_CELL first, as in agents). SLOT is the chest's inventory, -1 for a station; ROW and COLUMN
# are those of its cell.
OBJECT_CELL, TYPE, END, DURATION, USES, SLOT, ROW, COLUMN, OBJECT_COLUMNS = range(9)

# inventory[w, slot, ...]: first the amounts, one column a resource.
HOLDS = NUM_RESOURCES
"""From here on the resources with a positive amount, the one that became positive last standing last."""
NUM_HELD = HOLDS + NUM_RESOURCES
INVENTORY_COLUMNS = NUM_HELD + 1

# limits[w, r, ...]: number of the limit group (-1: none) and the common limit.
GROUP, LIMIT = 0, 1

# reward_terms[w, i, ...]: number of the statistic (below AGENT_STATS an agent's, then the game's), weight, cap.
STAT, WEIGHT, CAP = 0, 1, 2

# Kinds of action.
NOOP, MOVE, CHANGE_VIBE = 0, 1, 2
NUM_MOVES = 4
FIRST_VIBE_ACTION = 1 + NUM_MOVES

# agent_stats[w, a, ...]: first one column a resource each, then single columns.
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
"""Largest usual value of each feature, by feature id (clipped, id 10, is never emitted)."""
UNPLACED = (F_COMPLETION, F_LAST_ACTION, F_LAST_REWARD, F_GOAL)
"""Features that stand at the agent's own cell only."""
MEANINGFUL_VIBES = 13
NUM_TAGS = 14
"""Most tags of one game: agent, wall and the twelve stations of assembly_lines."""
