"""Use of objects: stations with protocols, chests, and sharing between agents.

The scratch columns of `world` hold lists of agents: [0:8] those around the station, [16:24] the receivers of outputs.
shared_update uses the eight columns after a list.
"""

import numpy as np

from memexp.envs.grid import columns as col
from memexp.envs.grid.compiled import compiled, inlined
from memexp.envs.grid.inventories import free_space, shared_update, update
from memexp.envs.grid.occupancy import surrounded

AROUND, RECEIVERS = col.SCRATCH, col.SCRATCH + 16


@compiled
def neighbour(s, i):
    """Grid offset of the i-th of the eight cells around, in row-major order."""
    i = i + 1 if i >= 4 else i
    return (i // 3 - 1) * s.window[4, 0] + i % 3 - 1  # window[4, 0], the offset of the cell to the south, is one row


@compiled
def find_agents_around(s, w, cell, first):
    """List the agents around `cell` in row-major order, starting at agent `first`; returns their number."""
    num_agents = s.agents.shape[1]
    count, turn = 0, 0
    for i in range(8):
        agent = s.grid[w, cell + neighbour(s, i)] - col.AGENTS
        if 0 <= agent < num_agents:
            if agent == first:
                turn = count
            s.world[w, RECEIVERS + count] = agent
            count += 1
    for i in range(count):
        s.world[w, AROUND + i] = s.world[w, RECEIVERS + (i + turn) % count]
    return count


@compiled
def vibes_around(s, w, cell):
    """(vibes of the agents around a cell as one number: 8 bits each, ascending, without vibe 0; number of agents).

    Writes nothing, so the agents of a world may look at stations in parallel.
    """
    key, count = np.int64(0), 0
    for i in range(8):
        agent = s.grid[w, cell + neighbour(s, i)] - col.AGENTS
        if 0 <= agent < s.agents.shape[1]:
            count += 1
            vibe = np.int64(s.agents[w, agent, col.VIBE])
            if vibe != 0:
                shift = np.int64(0)
                while (key >> shift) & 255 > vibe:
                    shift += 8
                larger = key & ((np.int64(1) << shift) - 1)
                key = (((key >> shift) << np.int64(8)) | vibe) << shift | larger
    return key, count


@compiled
def find_protocol(s, w, kind, key, count):
    """The first protocol of an object type with this key and MIN_AGENTS <= count, or -1."""
    for p in range(s.types[w, kind, col.FIRST], s.types[w, kind, col.LAST]):
        if s.protocols[w, p, col.VIBES_KEY] == key and s.protocols[w, p, col.MIN_AGENTS] <= count:
            return p
    return -1


@inlined
def current_protocol(s, w, obj):
    """The protocol that the agents around a station select now, or -1."""
    kind = s.objects[w, obj, col.TYPE]
    only = s.types[w, kind, col.ONLY]
    if only >= 0:
        return only
    if not surrounded(s, w, obj):
        return s.types[w, kind, col.ALONE]
    key, count = vibes_around(s, w, s.objects[w, obj, col.OBJECT_CELL])
    p = find_protocol(s, w, kind, key, count)
    if p < 0 and key != 0:
        p = find_protocol(s, w, kind, np.int64(0), count)
    return p


@inlined
def remaining(s, w, obj):
    """Steps until a station's cooldown ends."""
    return max(0, s.objects[w, obj, col.END] - s.world[w, col.STEP])


@compiled
def find_receivers(s, w, p, agent, around):
    """List the receivers of outputs: agents around with vibes of the protocol, else the user; returns their number."""
    wanted = s.protocols[w, p, col.NUM_VIBES]
    count = 0
    if wanted > 1:
        for i in range(around):
            other = s.world[w, AROUND + i]
            vibe = s.agents[w, other, col.VIBE]
            if vibe == 0 or count == wanted:
                continue
            asked = 0
            for v in range(wanted):
                asked += s.protocols[w, p, col.VIBES + v] == vibe
            for j in range(count):
                asked -= s.agents[w, s.world[w, RECEIVERS + j], col.VIBE] == vibe
            if asked > 0:
                s.world[w, RECEIVERS + count] = other
                count += 1
    if count == 0:
        s.world[w, RECEIVERS] = agent
        count = 1
    return count


@compiled
def scaled(amount, elapsed, duration, up):
    """The part of an amount that a station takes (`up`: rounded up) or gives while it cools down."""
    return (amount * elapsed + (duration - 1 if up else 0)) // duration


@compiled
def use_station(s, w, agent, obj):
    """Agent uses station; returns whether it succeeded. A failed use changes nothing."""
    kind = s.objects[w, obj, col.TYPE]
    most = s.types[w, kind, col.MAX_USES]
    if most > 0 and s.objects[w, obj, col.USES] >= most:
        return False
    rest = remaining(s, w, obj)
    if rest > 0 and s.types[w, kind, col.PARTIAL] == 0:
        return False
    p = current_protocol(s, w, obj)
    if p < 0:
        return False
    elapsed, duration = 1, 1
    if rest > 0:
        duration = s.objects[w, obj, col.DURATION]
        elapsed = duration - rest

    if s.agents.shape[1] == 1:
        s.world[w, AROUND] = agent
        around = 1
    else:
        around = find_agents_around(s, w, s.objects[w, obj, col.OBJECT_CELL], agent)
    for i in range(s.protocols[w, p, col.NUM_INPUTS]):
        resource = s.protocols[w, p, col.INPUTS + 2 * i]
        need = scaled(s.protocols[w, p, col.INPUTS + 2 * i + 1], elapsed, duration, True)
        for j in range(around):
            need -= s.inventory[w, s.world[w, AROUND + j], resource]
        if need > 0:
            return False

    receivers = find_receivers(s, w, p, agent, around)
    gives, gives_now, fits = False, False, False
    for i in range(s.protocols[w, p, col.NUM_OUTPUTS]):
        resource = s.protocols[w, p, col.OUTPUTS + 2 * i]
        amount = s.protocols[w, p, col.OUTPUTS + 2 * i + 1]
        gives = gives or amount > 0
        if scaled(amount, elapsed, duration, False) > 0:
            gives_now = True
            for j in range(receivers):
                fits = fits or free_space(s, w, s.world[w, RECEIVERS + j], resource) > 0
    if gives and not (gives_now and fits):
        return False

    convert(s, w, p, elapsed, duration, around, receivers)
    cooldown = s.protocols[w, p, col.COOLDOWN]
    s.objects[w, obj, col.DURATION] = cooldown
    s.objects[w, obj, col.END] = s.world[w, col.STEP] + cooldown
    s.objects[w, obj, col.USES] += 1
    return True


@compiled
def convert(s, w, p, elapsed, duration, around, receivers):
    """Take the inputs from the agents around and give the outputs to the receivers. What does not fit is lost."""
    num_inputs = s.protocols[w, p, col.NUM_INPUTS]
    for i in range(num_inputs + s.protocols[w, p, col.NUM_OUTPUTS]):
        gives = i >= num_inputs
        pair = col.OUTPUTS + 2 * (i - num_inputs) if gives else col.INPUTS + 2 * i
        resource = s.protocols[w, p, pair]
        amount = scaled(s.protocols[w, p, pair + 1], elapsed, duration, not gives)
        begin, count = (RECEIVERS, receivers) if gives else (AROUND, around)
        changed = shared_update(s, w, resource, amount if gives else -amount, begin, count)
        if gives:
            s.game_stats[w, col.CREATED + resource] += changed


@compiled
def use_chest(s, w, agent, obj):
    """Agent deposits or withdraws the resource of its vibe; returns whether anything moved."""
    kind = s.objects[w, obj, col.TYPE]
    chest = s.objects[w, obj, col.SLOT]
    moved_any = False
    for i in range(s.types[w, kind, col.TRANSFERS], s.types[w, kind, col.TRANSFERS_END]):
        if s.rows[w, i, col.KEY] != s.agents[w, agent, col.VIBE]:
            continue
        resource, amount = s.rows[w, i, col.RESOURCE], s.rows[w, i, col.AMOUNT]
        giver, taker = (agent, chest) if amount > 0 else (chest, agent)
        give = min(abs(amount), s.inventory[w, giver, resource])
        moved = min(give, free_space(s, w, taker, resource))
        given = -update(s, w, giver, resource, -give)
        update(s, w, taker, resource, moved)
        if given > 0:
            s.game_stats[w, col.STORED + resource] = s.inventory[w, chest, resource]
        if amount > 0:
            s.game_stats[w, col.DEPOSITED + resource] += moved
            s.agent_stats[w, agent, col.DEPOSITED_BY + resource] += moved
        else:
            # Units that do not fit into the agent's inventory leave the chest too and count as withdrawn.
            s.game_stats[w, col.WITHDRAWN + resource] += given
            s.agent_stats[w, agent, col.WITHDRAWN_BY + resource] += moved
        moved_any = moved_any or moved > 0
    return moved_any


@compiled
def share(s, w, agent, other):
    """Agent bumps into another and gives it the resource of its vibe; returns whether anything was accepted."""
    accepted_any = False
    for i in range(s.world[w, col.SHARES], s.world[w, col.SHARES_END]):
        if s.rows[w, i, col.KEY] == s.agents[w, agent, col.VIBE]:
            resource = s.rows[w, i, col.RESOURCE]
            amount = min(s.rows[w, i, col.AMOUNT], s.inventory[w, agent, resource])
            if amount > 0:
                accepted = update(s, w, other, resource, amount)
                update(s, w, agent, resource, -accepted)
                accepted_any = accepted_any or accepted > 0
    return accepted_any
