"""Inventories: limits, changes, and changes shared among several inventories.

Slot i < number of agents is agent i's inventory. The later slots are those of chests, which have no limits.
"""

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled


@compiled
def group_room(s, w, slot, resource):
    """(limit of the resource's group, total of the other resources in the group); (-1, 0) without a limit."""
    group = s.limits[w, resource, col.GROUP]
    if slot >= s.agents.shape[1] or group < 0:
        return -1, 0
    others = 0
    for r in range(col.NUM_RESOURCES):
        if r != resource and s.limits[w, r, col.GROUP] == group:
            others += s.inventory[w, slot, r]
    return s.limits[w, resource, col.LIMIT], others


@compiled
def free_space(s, w, slot, resource):
    """How many more units of a resource fit into an inventory."""
    limit, others = group_room(s, w, slot, resource)
    amount = s.inventory[w, slot, resource]
    if limit < 0:
        return col.NO_LIMIT - amount
    return max(0, limit - others - amount)


@compiled
def update(s, w, slot, resource, change):
    """Add `change` as far as limits allow; returns the actual change. Any update cuts an over-full inventory."""
    limit, others = group_room(s, w, slot, resource)
    most = col.NO_LIMIT if limit < 0 else max(0, limit - others)
    old = s.inventory[w, slot, resource]
    new = min(max(old + change, 0), most)
    if new != old:
        s.inventory[w, slot, resource] = new
        if old == 0:
            insert(s, w, slot, resource)
        elif new == 0:
            remove(s, w, slot, resource)
        if slot < s.agents.shape[1]:
            record(s, w, slot, resource, new - old, new)
    return new - old


@compiled
def insert(s, w, slot, resource):
    """Append the resource, which has become positive, to the list of held ones."""
    count = s.inventory[w, slot, col.NUM_HELD]
    s.inventory[w, slot, col.HOLDS + count] = resource
    s.inventory[w, slot, col.NUM_HELD] = count + 1


@compiled
def remove(s, w, slot, resource):
    """Remove the resource, which has become zero, from the list of held ones."""
    count = s.inventory[w, slot, col.NUM_HELD]
    found = False
    for i in range(count):
        if found:
            s.inventory[w, slot, col.HOLDS + i - 1] = s.inventory[w, slot, col.HOLDS + i]
        elif s.inventory[w, slot, col.HOLDS + i] == resource:
            found = True
    s.inventory[w, slot, col.NUM_HELD] = count - 1


@compiled
def record(s, w, agent, resource, change, amount):
    """Update the statistics after a change of an agent's inventory."""
    if change > 0:
        s.agent_stats[w, agent, col.GAINED + resource] += change
    else:
        s.agent_stats[w, agent, col.LOST + resource] -= change
    s.agent_stats[w, agent, col.HELD + resource] = amount
    tracked = s.world[w, col.DIVERSITY]
    if tracked != 0:
        kinds = 0
        for r in range(col.NUM_RESOURCES):
            if (tracked >> r) & 1 and s.inventory[w, agent, r] > 0:
                kinds += 1
        s.agent_stats[w, agent, col.DIVERSITY_HELD] = kinds


@compiled
def set_initial(s, w, slot, resource, amount):
    """Give an initial amount. Limits do not apply, and it counts as gained."""
    if amount > 0:
        s.inventory[w, slot, resource] = amount
        insert(s, w, slot, resource)
        record(s, w, slot, resource, amount, amount)


@compiled
def toward_zero(a, n):
    """a / n rounded toward zero, n positive."""
    return a // n if a >= 0 else -((-a) // n)


@compiled
def shared_update(s, w, resource, change, begin, count):
    """Share `change` evenly among the inventories world[w, begin : begin + count]; returns the actual change.

    Inventories that cannot take (or give) their share are settled first, and the rest is shared anew. Odd units go to
    the earlier ones. Uses world[w, begin + 8 : begin + 16] as memory for the inventories still unsettled.
    """
    left = change
    n = count
    share = toward_zero(left, n)
    open_begin = begin + 8
    for i in range(count):
        s.world[w, open_begin + i] = s.world[w, begin + i]
    num_open = count
    settled = True
    while settled:
        settled = False
        kept = 0
        for i in range(num_open):
            slot = s.world[w, open_begin + i]
            if left > 0:
                ready = free_space(s, w, slot, resource) <= share
            else:
                ready = s.inventory[w, slot, resource] <= -share
            if ready:
                left -= update(s, w, slot, resource, share)
                n -= 1
                if n > 0:
                    share = toward_zero(left, n)
                settled = True
            else:
                s.world[w, open_begin + kept] = slot
                kept += 1
        num_open = kept
    for i in range(num_open - 1, -1, -1):
        left -= update(s, w, s.world[w, open_begin + i], resource, toward_zero(left, i + 1))
    return change - left
