"""What an agent can do: wait, move (or use what stands in the way), change its vibe; and what that costs."""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, inlined
from memexp.envs.grid.inventories import update
from memexp.envs.grid.occupancy import clear, fill
from memexp.envs.grid.stations import share, use_chest, use_station


@inlined
def act(s, w, agent, action):
    """Carry out one agent's action, valid or not, with its statistics."""
    s.agents[w, agent, col.SUCCESS] = 0
    s.agents[w, agent, col.LAST_ACTION] = 0
    if action < 0 or action >= s.world[w, col.NUM_ACTIONS]:
        count_invalid(s, w, agent, action)
        return
    if action == 0:
        kind = col.NOOP
    elif action <= col.NUM_MOVES:
        kind = col.MOVE
    else:
        kind = col.CHANGE_VIBE

    success = can_pay(s, w, agent, kind)
    if success and kind == col.MOVE:
        success = move_or_use(s, w, agent, action)
    elif success and kind == col.CHANGE_VIBE:
        s.agents[w, agent, col.VIBE] = action - col.FIRST_VIBE_ACTION
    watch_motion(s, w, agent)
    if success:
        s.agents[w, agent, col.SUCCESS] = 1
        s.agents[w, agent, col.LAST_ACTION] = action
        s.agent_stats[w, agent, col.SUCCEEDED + kind] += 1
        pay(s, w, agent, kind)
    else:
        s.agent_stats[w, agent, col.FAILED + kind] += 1
        s.agent_stats[w, agent, col.FAILED_ANY] += 1


@inlined
def move_or_use(s, w, agent, action):
    """Step into the neighbouring cell, or use what stands there; returns whether it worked."""
    cell = s.agents[w, agent, col.CELL]
    row = s.window[4, 0]  # the cell to the south lies one row further
    if action == 1:
        target = cell - row
    elif action == 2:
        target = cell + row
    elif action == 3:
        target = cell - 1
    else:
        target = cell + 1
    code = s.grid[w, target]
    if code == col.WALL:
        return False
    if code == col.EMPTY:
        s.grid[w, cell] = col.EMPTY
        s.grid[w, target] = col.AGENTS + agent
        s.agents[w, agent, col.CELL] = target
        clear(s, w, cell)
        fill(s, w, target)
        return True
    other = code - col.AGENTS
    obj = other - s.agents.shape[1]
    if obj < 0:
        return share(s, w, agent, other)
    if s.types[w, s.objects[w, obj, col.TYPE], col.KIND] == col.CHEST:
        return use_chest(s, w, agent, obj)
    return use_station(s, w, agent, obj)


@inlined
def can_pay(s, w, agent, kind):
    """Whether an agent has what an action of this kind requires."""
    for i in range(s.world[w, col.COSTS], s.world[w, col.COSTS_END]):
        if s.rows[w, i, col.KEY] == kind:
            resource = s.rows[w, i, col.RESOURCE]
            if s.inventory[w, agent, resource] < s.rows[w, i, col.AMOUNT]:
                return False
    return True


@inlined
def pay(s, w, agent, kind):
    """Take from an agent what a successful action of this kind consumes."""
    for i in range(s.world[w, col.COSTS], s.world[w, col.COSTS_END]):
        if s.rows[w, i, col.KEY] == kind:
            update(s, w, agent, s.rows[w, i, col.RESOURCE], -s.rows[w, i, col.SECOND])


@inlined
def watch_motion(s, w, agent):
    """Count the valid actions in a row after which the agent still stood in the same cell."""
    cell = s.agents[w, agent, col.CELL]
    if cell == s.agents[w, agent, col.STOOD]:
        still = s.agents[w, agent, col.STILL] + 1
        s.agents[w, agent, col.STILL] = still
        s.agent_stats[w, agent, col.LONGEST_STILL] = max(s.agent_stats[w, agent, col.LONGEST_STILL], still)
    else:
        s.agents[w, agent, col.STILL] = 0
        s.agents[w, agent, col.STOOD] = cell


@compiled
def count_invalid(s, w, agent, action):
    """Count an invalid action twice: the original makes two passes over the agents, one a priority of actions."""
    s.agent_stats[w, agent, col.INVALID] += 2
    for i in range(col.NUM_INVALID_SEEN):
        if s.invalid_seen[w, agent, i, 1] == 0 or s.invalid_seen[w, agent, i, 0] == action:
            s.invalid_seen[w, agent, i, 0] = action
            s.invalid_seen[w, agent, i, 1] += 2
            return


@compiled
def regenerate(s, w, agent):
    """Give an agent the amounts of its vibe, or of vibe 0 if its vibe has none."""
    begin, end = s.world[w, col.REGEN], s.world[w, col.REGEN_END]
    vibe = 0
    for i in range(begin, end):
        if s.rows[w, i, col.KEY] == s.agents[w, agent, col.VIBE]:
            vibe = s.agents[w, agent, col.VIBE]
    for i in range(begin, end):
        if s.rows[w, i, col.KEY] == vibe:
            update(s, w, agent, s.rows[w, i, col.RESOURCE], s.rows[w, i, col.AMOUNT])
