"""Actions: noop, move (or use the object in the way), change vibe; and their costs."""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, inlined
from memexp.envs.grid.inventories import update
from memexp.envs.grid.occupancy import clear, fill
from memexp.envs.grid.stations import share, use_chest, use_station


@inlined
def act(s, w, agent, action):
    """Execute one agent's action, valid or not, and update the statistics."""
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
    count_still(s, w, agent)
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
    """Move to the neighbouring cell, or use the object there. Returns whether it succeeded."""
    cell = s.agents[w, agent, col.CELL]
    row = s.window[4, 0]  # the offset of the cell to the south is one row
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
    """Whether an agent has the resources that this kind of action requires."""
    for i in range(s.world[w, col.COSTS], s.world[w, col.COSTS_END]):
        if s.rows[w, i, col.KEY] == kind:
            resource = s.rows[w, i, col.RESOURCE]
            if s.inventory[w, agent, resource] < s.rows[w, i, col.AMOUNT]:
                return False
    return True


@inlined
def pay(s, w, agent, kind):
    """Take the resources that a successful action of this kind consumes."""
    for i in range(s.world[w, col.COSTS], s.world[w, col.COSTS_END]):
        if s.rows[w, i, col.KEY] == kind:
            update(s, w, agent, s.rows[w, i, col.RESOURCE], -s.rows[w, i, col.SECOND])


@inlined
def count_still(s, w, agent):
    """Count the valid actions in a row that left the agent in the same cell."""
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
    """Count an invalid action twice, as MettaGrid does: it passes over the agents once for each action priority."""
    s.agent_stats[w, agent, col.INVALID] += 2
    for i in range(col.NUM_INVALID_SEEN):
        if s.invalid_seen[w, agent, i, 1] == 0 or s.invalid_seen[w, agent, i, 0] == action:
            s.invalid_seen[w, agent, i, 0] = action
            s.invalid_seen[w, agent, i, 1] += 2
            return


@compiled
def regenerate(s, w, agent):
    """Give an agent the amounts for its vibe, or for vibe 0 if its vibe has none."""
    begin, end = s.world[w, col.REGEN], s.world[w, col.REGEN_END]
    vibe = 0
    for i in range(begin, end):
        if s.rows[w, i, col.KEY] == s.agents[w, agent, col.VIBE]:
            vibe = s.agents[w, agent, col.VIBE]
    for i in range(begin, end):
        if s.rows[w, i, col.KEY] == vibe:
            update(s, w, agent, s.rows[w, i, col.RESOURCE], s.rows[w, i, col.AMOUNT])
